//! The payload of a tensor that the model file itself holds, as little-endian bytes.

use std::path::Path;

use bytes::Bytes;

use super::element_type::ElementType;
use super::error::OnnxError;
use super::proto::TensorProto;
use super::tensor_size::{element_type, tensor_size_bytes};

/// Returns the payload: in place from `raw_data`, converted from the typed fields.
pub(super) fn inline_bytes(path: &Path, tensor: &TensorProto) -> Result<Bytes, OnnxError> {
    let needed_bytes = tensor_size_bytes(path, tensor)?;
    let bytes = match &tensor.raw_data {
        Some(raw) => raw.clone(),
        None => typed_bytes(element_type(path, tensor)?, tensor),
    };
    if bytes.len() as u64 != needed_bytes {
        return Err(OnnxError::TensorSize {
            path: path.into(),
            tensor: tensor.name().into(),
            needed_bytes,
            found_bytes: bytes.len() as u64,
        });
    }
    Ok(bytes)
}

fn typed_bytes(element_type: ElementType, tensor: &TensorProto) -> Bytes {
    use ElementType as E;
    let bytes: Vec<u8> = match element_type {
        E::Float | E::Complex64 => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Double | E::Complex128 => {
            tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        E::Int64 => tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint64 => tensor.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint32 => tensor.uint64_data.iter().flat_map(|&value| (value as u32).to_le_bytes()).collect(),
        E::Int32 => tensor.int32_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Int16 | E::Uint16 | E::Float16 | E::Bfloat16 => {
            tensor.int32_data.iter().flat_map(|&value| (value as u16).to_le_bytes()).collect()
        }
        // A byte an entry, also where a byte holds two or four elements.
        E::Undefined | E::String => Vec::new(),
        _ => tensor.int32_data.iter().map(|&value| value as u8).collect(),
    };
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tensor: TensorProto, expected: &[u8]) {
        assert_eq!(inline_bytes(Path::new("m.onnx"), &tensor).unwrap(), expected);
    }

    fn tensor(element_type: ElementType, dims: &[i64]) -> TensorProto {
        TensorProto { data_type: Some(element_type.to_onnx()), dims: dims.into(), ..TensorProto::default() }
    }

    #[test]
    fn typed_fields() {
        check(TensorProto { float_data: vec![1.0], ..tensor(ElementType::Float, &[1]) }, &[0, 0, 128, 63]);
        check(TensorProto { int32_data: vec![-1, 2], ..tensor(ElementType::Int8, &[2]) }, &[255, 2]);
        check(TensorProto { int32_data: vec![0x3c00], ..tensor(ElementType::Float16, &[]) }, &[0, 0x3c]);
        check(TensorProto { int32_data: vec![0x21, 3], ..tensor(ElementType::Int4, &[3]) }, &[0x21, 3]);
        check(TensorProto { uint64_data: vec![7], ..tensor(ElementType::Uint32, &[1]) }, &[7, 0, 0, 0]);
        check(TensorProto { double_data: vec![0.0], ..tensor(ElementType::Double, &[1]) }, &[0; 8]);
        check(
            TensorProto { int64_data: vec![-2], ..tensor(ElementType::Int64, &[1]) },
            &(-2i64).to_le_bytes(),
        );
    }

    #[test]
    fn wrong_sizes_are_errors_and_allocate_nothing() {
        let path = Path::new("m.onnx");
        let huge = tensor(ElementType::Float, &[1 << 60]);
        assert!(matches!(inline_bytes(path, &huge), Err(OnnxError::TensorSize { found_bytes: 0, .. })));
        let overflowing = tensor(ElementType::Float, &[1 << 62, 1 << 62]);
        assert!(matches!(inline_bytes(path, &overflowing), Err(OnnxError::TensorShape { .. })));
        let negative = tensor(ElementType::Float, &[-1]);
        assert!(matches!(inline_bytes(path, &negative), Err(OnnxError::TensorShape { .. })));
        let text = tensor(ElementType::String, &[1]);
        assert!(matches!(inline_bytes(path, &text), Err(OnnxError::TensorType { code: 8, .. })));
    }
}

//! How many elements and bytes a tensor has by its shape and type.

use std::path::Path;

use super::element_type::ElementType;
use super::error::OnnxError;
use super::proto::TensorProto;

/// Returns the element type of a tensor.
pub(super) fn element_type(path: &Path, tensor: &TensorProto) -> Result<ElementType, OnnxError> {
    ElementType::from_onnx(tensor.data_type()).ok_or_else(|| OnnxError::TensorType {
        path: path.into(),
        tensor: tensor.name().into(),
        code: tensor.data_type(),
    })
}

/// Returns the number of elements of a tensor, by its shape.
pub(super) fn element_count(path: &Path, tensor: &TensorProto) -> Result<u64, OnnxError> {
    let product =
        tensor.dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(u64::try_from(dim).ok()?));
    product.ok_or_else(|| OnnxError::TensorShape {
        path: path.into(),
        tensor: tensor.name().into(),
        dims: tensor.dims.clone(),
    })
}

/// Returns the size of a tensor's payload in bytes, by its shape and type.
pub(super) fn tensor_size_bytes(path: &Path, tensor: &TensorProto) -> Result<u64, OnnxError> {
    let (element_type, count) = (element_type(path, tensor)?, element_count(path, tensor)?);
    match (element_type.size_bits(), element_type.size_bytes(count)) {
        (_, Some(size_bytes)) => Ok(size_bytes),
        (0, None) => Err(OnnxError::TensorType {
            path: path.into(),
            tensor: tensor.name().into(),
            code: tensor.data_type(),
        }),
        (_, None) => Err(OnnxError::TensorShape {
            path: path.into(),
            tensor: tensor.name().into(),
            dims: tensor.dims.clone(),
        }),
    }
}

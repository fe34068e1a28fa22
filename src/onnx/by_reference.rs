//! A model without its weights, which says where in the model's own file they are.
//!
//! A runtime that reads a model file copies every weight several times. One that is given this instead maps the file and
//! reads weights in place: for a model of 350 MB, loading takes half as long.

use prost::Message as _;

use super::external_data::entries;
use super::file::OnnxFile;
use super::proto::ModelProto;

/// `EXTERNAL` of ONNX's `DataLocation`.
const EXTERNAL: i32 = 1;

impl OnnxFile {
    /// Returns the model with every initializer of at least this size as external data in the model's own file, relative
    /// to its folder. Nothing where that is not the same model: if it has external data already, or something in
    /// the file that these messages don't know; nor where there is nothing to gain.
    pub fn by_reference(&self, least_bytes: usize) -> Option<Vec<u8>> {
        let location = self.path().file_name()?.to_str()?;
        let is_all =
            u64::try_from(self.model().encoded_len()).is_ok_and(|length| length == self.size_bytes());
        if !is_all || !self.external_files().is_empty() {
            return None;
        }
        // Payloads are shared, not copied.
        let mut model: ModelProto = self.model().clone();
        let mut moved = 0;
        for tensor in &mut model.graph.as_mut()?.initializer {
            let Some(payload) = tensor.raw_data.as_ref().filter(|payload| payload.len() >= least_bytes)
            else {
                continue;
            };
            let (offset, length) = (self.offset_of(payload)?, payload.len());
            tensor.raw_data = None;
            tensor.data_location = Some(EXTERNAL);
            tensor.external_data = entries(location, offset as u64, length as u64);
            moved += 1;
        }
        (moved > 0).then(|| model.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::onnx::proto::{GraphProto, OperatorSetIdProto, TensorProto};

    fn model(payload: &[u8]) -> ModelProto {
        let weight = |name: &str, bytes: &[u8]| TensorProto {
            name: Some(name.into()),
            dims: vec![bytes.len() as i64],
            data_type: Some(2),
            raw_data: Some(Bytes::copy_from_slice(bytes)),
            ..TensorProto::default()
        };
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { version: Some(19), ..OperatorSetIdProto::default() }],
            graph: Some(GraphProto {
                initializer: vec![weight("large", payload), weight("small", &[1, 2])],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        }
    }

    #[test]
    fn weights_are_found_where_the_small_model_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let payload: Vec<u8> = (0..=255).cycle().take(5000).collect();
        fs_err::write(&path, model(&payload).encode_to_vec()).unwrap();
        let small = OnnxFile::open(&path).unwrap().by_reference(1000).unwrap();
        assert!(small.len() < 300);
        let other = folder.path().join("small.onnx");
        fs_err::write(&other, small).unwrap();
        let file = OnnxFile::open(&other).unwrap();
        let weights = &file.model().graph.as_ref().unwrap().initializer;
        assert_eq!(file.tensor_bytes(&weights[0]).unwrap(), payload);
        assert_eq!(file.tensor_bytes(&weights[1]).unwrap(), [1, 2].as_slice());
        assert_eq!(file.by_reference(1), None);
    }

    #[test]
    fn a_file_with_more_in_it_than_we_know_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let mut bytes = model(&[7; 5000]).encode_to_vec();
        // Field 1000, a number: 0.
        bytes.extend([0xc0, 0x3e, 0x00]);
        fs_err::write(&path, bytes).unwrap();
        assert_eq!(OnnxFile::open(&path).unwrap().by_reference(1000), None);
    }
}

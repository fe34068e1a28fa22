//! The first weight in which two graphs differ.

use std::collections::BTreeMap;

use super::element_type::ElementType;
use super::error::OnnxError;
use super::file::OnnxFile;
use super::proto::TensorProto;

/// A weight that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherWeight {
    /// The initializer's name.
    pub name: String,
    /// In what, in words.
    pub what: String,
}

fn type_of(tensor: &TensorProto) -> String {
    match ElementType::from_onnx(tensor.data_type()) {
        Some(known) => known.as_str().into(),
        None => format!("type {}", tensor.data_type()),
    }
}

fn by_name(file: &OnnxFile) -> BTreeMap<&str, &TensorProto> {
    file.graph().initializer.iter().map(|tensor| (tensor.name(), tensor)).collect()
}

/// Returns the first weight of one graph, in its order, that another one lacks or has with another type, shape or values; else one that
/// only the other has.
///
/// # Errors
/// A weight whose bytes can't be read.
pub fn other_weight(one: &OnnxFile, other: &OnnxFile) -> Result<Option<OtherWeight>, OnnxError> {
    let theirs = by_name(other);
    let found =
        |tensor: &TensorProto, what: String| Ok(Some(OtherWeight { name: tensor.name().into(), what }));
    for tensor in &one.graph().initializer {
        let Some(their) = theirs.get(tensor.name()) else {
            return found(tensor, "only one graph has it".into());
        };
        if (tensor.data_type, &tensor.dims) != (their.data_type, &their.dims) {
            let words = |tensor: &TensorProto| format!("{} of shape {:?}", type_of(tensor), tensor.dims);
            return found(tensor, format!("{}, and {}", words(tensor), words(their)));
        }
        let (bytes, their_bytes) = (one.tensor_bytes(tensor)?, other.tensor_bytes(their)?);
        if let Some(at) = bytes.iter().zip(their_bytes.iter()).position(|(byte, other)| byte != other) {
            let elements: usize =
                tensor.dims.iter().map(|&size| usize::try_from(size).unwrap_or(1)).product();
            let size_bytes = (bytes.len() / elements.max(1)).max(1);
            return found(
                tensor,
                format!("its values differ from number {} of {elements} on", at / size_bytes),
            );
        }
    }
    let ours = by_name(one);
    let only_there = other.graph().initializer.iter().find(|tensor| !ours.contains_key(tensor.name()));
    match only_there {
        Some(tensor) => found(tensor, "only one graph has it".into()),
        None => Ok(None),
    }
}

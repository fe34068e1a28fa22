//! `inspect`: what is in a model.

use std::path::Path;

use crate::onnx::{OnnxError, OnnxFile, Summary};

/// Opens a model and counts what is in it. The file is mapped, and no weight is read.
///
/// # Errors
/// The file is not an ONNX model, or one with broken tensors or external files.
pub fn inspect(model: &Path) -> Result<Summary, OnnxError> {
    Summary::of(&OnnxFile::open(model)?)
}

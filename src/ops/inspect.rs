//! `inspect`: what is in a model or a plan.

use std::path::Path;

use crate::onnx::{OnnxError, OnnxFile, Summary};
use crate::plan::{PlanHeader, PlanLayers, read_layers};

/// What was found in a file.
#[derive(Debug)]
pub enum Inspected {
    /// An ONNX model.
    Model(Box<Summary>),
    /// A plan of TensorRT for RTX.
    Plan(Box<InspectedPlan>),
}

/// A plan of TensorRT for RTX.
#[derive(Debug)]
pub struct InspectedPlan {
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// What its header says.
    pub header: PlanHeader,
    /// What the compiler made of each layer; `None` if the plan has no text that we can read.
    pub layers: Option<PlanLayers>,
}

/// Opens a model or a plan, told apart by their contents, and reports what is in it. No weight is read.
///
/// # Errors
/// The file cannot be read, or is neither a plan nor an ONNX model, or a model with broken tensors or external files.
pub fn inspect(path: &Path) -> Result<Inspected, OnnxError> {
    let unreadable = |source| OnnxError::Io { action: "read", path: path.into(), source };
    // What can't be read as a plan is told as what most files are: a model. A pipe is not opened: nobody may ever write to it.
    let is_file = fs_err::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let header = if is_file { PlanHeader::read(path).ok().flatten() } else { None };
    let Some(header) = header else {
        return Ok(Inspected::Model(Box::new(Summary::of(&OnnxFile::open(path)?)?)));
    };
    Ok(Inspected::Plan(Box::new(InspectedPlan {
        size_bytes: fs_err::metadata(path).map_err(unreadable)?.len(),
        header,
        layers: read_layers(path).map_err(unreadable)?,
    })))
}

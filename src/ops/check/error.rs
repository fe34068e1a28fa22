//! What can go wrong while something is checked; that it can't be compiled is an answer, and no error.

use std::io;

use crate::error_kind::ErrorKind;
use crate::onnx::OnnxError;
use crate::onnx::quantize::QuantizedPrecision;
use crate::ops::error::PipelineError;
use crate::ops::to_lower::ToLowerError;
use crate::worker::error::WorkerError;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A file that is no ONNX model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The recipe, its sources, or a backend.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The compiler isn't there.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// No job of the recipe is for what was asked.
    #[error(
        "no plan of this recipe is for the compute capabilities and precisions given with --for and --precision"
    )]
    NothingSelected,
    /// A file that would have to be quantized.
    #[error(
        "{0} needs samples of a recipe: check the recipe, or quantize the file with `nimctl quantize` and check that"
    )]
    NeedsRecipe(QuantizedPrecision),
    /// A quantized graph of the store.
    #[error(transparent)]
    Quantized(#[from] ToLowerError),
    /// A folder for lowered graphs.
    #[error("cannot make a folder for lowered graphs")]
    Folder(#[source] io::Error),
    /// The user or a signal said stop.
    #[error("interrupted")]
    Cancelled,
}

impl CheckError {
    /// Returns what the error means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Onnx(source) => source.kind(),
            Self::Pipeline(source) => source.kind(),
            Self::Worker(source) => source.kind(),
            Self::Quantized(source) => source.kind(),
            Self::NothingSelected | Self::NeedsRecipe(_) | Self::Folder(_) => ErrorKind::Input,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }

    /// Returns what the user can do, where the message doesn't say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pipeline(source) => source.hint(),
            _ => None,
        }
    }
}

//! What can go wrong while a recipe's profiles are validated.

use std::io;

use crate::error_kind::ErrorKind;
use crate::onnx::OnnxError;
use crate::ops::build::BuildError;
use crate::ops::mixed_precision::MixedPrecisionError;
use crate::store::StoreError;
use crate::worker::error::WorkerError;

/// Why nothing can be validated; [`ValidateError::Profile`] is about one profile only.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// The recipe, its sources or its backends.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The samples of a graph.
    #[error("graph `{graph}`")]
    Samples {
        /// The graph.
        graph: String,
        /// Why they can't be used.
        source: MixedPrecisionError,
    },
    /// A graph.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker that computes the reference.
    #[error("the onnxruntime worker failed on the FP32 graph `{graph}`")]
    Reference {
        /// The graph.
        graph: String,
        /// What it said.
        source: WorkerError,
    },
    /// A file or folder.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// One profile can't be run; the others can.
    #[error("{0}")]
    Profile(String),
    /// The user asked to stop.
    #[error("interrupted; profiles that were done keep their results")]
    Cancelled,
}

impl ValidateError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Build(source) => source.kind(),
            Self::Samples { source, .. } => source.kind(),
            Self::Onnx(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Reference { source, .. } => source.kind(),
            Self::Io { .. } => ErrorKind::Input,
            Self::Profile(_) => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

//! What can go wrong while the nodes to keep are found.

use std::io;
use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::onnx::OnnxError;
use crate::ops::samples::SamplesError;
use crate::ops::search_journal::JournalError;
use crate::worker::error::WorkerError;
use crate::worker::npy::NpyError;

/// Why the nodes to keep in FP32 can't be found.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum MixedPrecisionError {
    /// The samples.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// The reference is not finite.
    #[error(
        "output `{output}` of the graph is not finite in FP32, row {row}, so it cannot be a reference; use other samples"
    )]
    ReferenceNotFinite { output: String, row: usize },
    /// The graph.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The worker.
    #[error("the onnxruntime worker failed")]
    Worker(#[from] WorkerError),
    /// What the worker wrote.
    #[error("the onnxruntime worker wrote an output that cannot be read")]
    Output(#[source] NpyError),
    /// An output that the worker didn't write.
    #[error("the onnxruntime worker returned no output `{output}` in FP32 of the reference's size")]
    NoOutput { output: String },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder for graphs.
    #[error("cannot make a folder in {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
}

impl MixedPrecisionError {
    /// Returns what the error means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReferenceNotFinite { .. } | Self::Journal(_) | Self::Folder { .. } => ErrorKind::Input,
            Self::Samples(source) => source.kind(),
            Self::Onnx(source) => source.kind(),
            Self::Worker(source) => source.kind(),
            Self::Output(_) | Self::NoOutput { .. } => ErrorKind::Unavailable,
        }
    }
}

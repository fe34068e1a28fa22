//! What can go wrong while the nodes to keep are found.

use std::io;
use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::onnx::OnnxError;
use crate::worker::error::WorkerError;
use crate::worker::npy::NpyError;

/// Why the nodes to keep in FP32 can't be found.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum MixedPrecisionError {
    /// An input has no samples.
    #[error(
        "input `{input}` has no samples: add `{input}: {{ normal: {{}} }}`, or one of the other forms, to the graph's `samples`"
    )]
    NoSamples { input: String },
    /// Samples for an input that the graph lacks.
    #[error("there are samples for `{input}`, but the graph's inputs are {}", .inputs.join(", "))]
    NoSuchInput { input: String, inputs: Vec<String> },
    /// Samples of a kind that the input doesn't take.
    #[error("input `{input}` takes {element_type}: give its samples as `npy`")]
    Kind { input: String, element_type: String },
    /// Seeded samples need a shape.
    #[error(
        "input `{input}` has an open dimension and no shape range: give it one in `shapes`, or its samples as `npy`"
    )]
    NoShape { input: String },
    /// A distribution that is none.
    #[error("the samples of input `{input}` are of an empty distribution: `low` must be less than `high`")]
    EmptyRange { input: String },
    /// A file of samples.
    #[error("the samples of input `{input}` cannot be used")]
    Npy { input: String, source: NpyError },
    /// The reference is not finite.
    #[error(
        "output `{output}` of the graph is not finite in FP32, row {row}: nothing can be compared with it; give other samples"
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
    #[error("the onnxruntime worker gave no FP32 output `{output}` of the size it has in FP32")]
    NoOutput { output: String },
    /// The journal.
    #[error("cannot use the search's journal {}", path.display())]
    Journal { path: PathBuf, source: io::Error },
}

impl MixedPrecisionError {
    /// Returns what the error means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSamples { .. }
            | Self::NoSuchInput { .. }
            | Self::Kind { .. }
            | Self::NoShape { .. }
            | Self::EmptyRange { .. }
            | Self::ReferenceNotFinite { .. }
            | Self::Journal { .. } => ErrorKind::Input,
            Self::Npy { source, .. } => source.kind(),
            Self::Onnx(source) => source.kind(),
            Self::Worker(source) => source.kind(),
            Self::Output(_) | Self::NoOutput { .. } => ErrorKind::Unavailable,
        }
    }
}

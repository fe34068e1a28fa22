//! What can be wrong with samples.

use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::samples::Sample;
use crate::worker::npy::NpyError;

/// Why a graph can't be run on its samples.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum SamplesError {
    /// An input has no samples.
    #[error(
        "input `{input}` has no samples: add `{input}: {proposal}`, or another form, to the graph's `samples`"
    )]
    NoSamples { input: String, proposal: Sample },
    /// Samples for an input that the graph lacks.
    #[error("there are samples for `{input}`, but the graph's inputs are {}", .inputs.join(", "))]
    NoSuchInput { input: String, inputs: Vec<String> },
    /// Samples of a kind that the input doesn't take.
    #[error("input `{input}` takes {element_type}: give its samples as `npy`")]
    Kind { input: String, element_type: String },
    /// A file of another type.
    #[error(
        "the samples of input `{input}` are {found}, and the graph takes {needed}: convert them, as in `samples.astype(\"{needed}\")`"
    )]
    WrongType { input: String, found: &'static str, needed: &'static str },
    /// A file of another shape.
    #[error("the samples of input `{input}` have shape {shape:?}, which does not fit {needed}")]
    OtherShape { input: String, shape: Vec<i64>, needed: String },
    /// Samples that need another shape.
    #[error("input `{input}` has shape {shape:?}, and {what} need {needed}")]
    WrongShape { input: String, shape: Vec<usize>, what: &'static str, needed: &'static str },
    /// Seeded samples need a shape.
    #[error(
        "input `{input}` has a dynamic dimension and no shape range: add a range to `shapes`, or give its samples as `npy`"
    )]
    NoShape { input: String },
    /// More than fits in memory.
    #[error(
        "input `{input}` has shape {shape:?}: samples of more than {} elements are not made; make its range in `shapes` smaller",
        super::shapes::MAX_ELEMENTS
    )]
    TooLarge { input: String, shape: Vec<usize> },
    /// An empty distribution.
    #[error("the samples of input `{input}` come from an empty range: `low` must be less than `high`")]
    EmptyRange { input: String },
    /// An array without rows.
    #[error("the samples of input `{input}` have no rows: their shape is {shape:?}")]
    NoRows { input: String, shape: Vec<usize> },
    /// A tensor file.
    #[error("the samples of input `{input}` cannot be used")]
    Npy { input: String, source: NpyError },
    /// A file that can't be read.
    #[error("cannot read samples")]
    Read { source: std::io::Error },
    /// A file that is not what it should be.
    #[error("{} cannot be used: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// A place that can't be written.
    #[error("cannot write samples")]
    Write { source: std::io::Error },
}

impl SamplesError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSamples { .. }
            | Self::NoSuchInput { .. }
            | Self::Kind { .. }
            | Self::WrongShape { .. }
            | Self::WrongType { .. }
            | Self::OtherShape { .. }
            | Self::NoShape { .. }
            | Self::TooLarge { .. }
            | Self::EmptyRange { .. }
            | Self::NoRows { .. }
            | Self::Read { .. }
            | Self::File { .. }
            | Self::Write { .. } => ErrorKind::Input,
            Self::Npy { source, .. } => source.into(),
        }
    }
}

//! What can go wrong while a recipe's profiles are measured.

use std::io;

use crate::error_kind::ErrorKind;
use crate::nearest::what_there_is;
use crate::ops::error::PipelineError;
use crate::ops::samples::SamplesError;
use crate::recipe::UnknownName;
use crate::store::StoreError;
use crate::worker::error::WorkerError;

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The recipe, its sources or its backends.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A file of samples that the recipe names and that doesn't exist.
    #[error(transparent)]
    UnknownName(#[from] UnknownName),
    /// The samples of a graph.
    #[error("graph `{graph}`")]
    Samples {
        /// The graph.
        graph: String,
        /// Why they can't be used.
        source: SamplesError,
    },
    /// A batch that a graph doesn't take.
    #[error("graph `{graph}`: {reason}")]
    Batch {
        /// The graph.
        graph: String,
        /// Why not.
        reason: String,
    },
    /// A profile that the recipe doesn't have.
    #[error(
        "the recipe has no profile `{name}`{}",
        what_there_is(name, "its profiles are", known.iter().map(String::as_str))
    )]
    NoSuchProfile {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file or folder.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The provider that was asked for.
    #[error("the provider `cuda` is not available on this machine: {reason}")]
    Provider {
        /// Why not.
        reason: String,
    },
    /// A profile could not be run, and that says nothing about the profile.
    #[error("graph `{graph}` of {profile} could not be run; this measurement was discarded")]
    Around {
        /// The profile.
        profile: String,
        /// The graph.
        graph: String,
        /// Why.
        source: WorkerError,
    },
    /// The user asked to stop.
    #[error("interrupted; this measurement was discarded")]
    Cancelled,
}

impl BenchError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pipeline(source) => source.kind(),
            Self::Samples { source, .. } => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Around { source, .. } => source.kind(),
            Self::UnknownName(_) | Self::Batch { .. } | Self::NoSuchProfile { .. } | Self::Io { .. } => {
                ErrorKind::Input
            }
            Self::Provider { .. } => ErrorKind::Unavailable,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

//! What can go wrong on the way from a recipe to profiles.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::canonical::NotCanonical;
use crate::error_kind::ErrorKind;
use crate::files::destination::BadDestination;
use crate::fleet::FleetError;
use crate::manifest::ManifestError;
use crate::nearest::did_you_mean;
use crate::onnx::OnnxError;
use crate::ops::fleet::FleetFailure;
use crate::ops::mixed_precision::MixedPrecisionError;
use crate::ops::read_manifest::ReadManifestError;
use crate::ops::samples::SamplesError;
use crate::ops::to_lower::ToLowerError;
use crate::recipe::{GraphMismatch, RecipeError, UnknownName};
use crate::source::SourceError;
use crate::store::StoreError;
use crate::toolchain::ToolchainError;
use crate::worker::error::WorkerError;

/// What makes it impossible as a whole.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The recipe's file can't be read.
    #[error("cannot read the recipe")]
    ReadRecipe {
        /// Why; names the path.
        source: io::Error,
    },
    /// The recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] Box<RecipeError>),
    /// Recipe and graph don't fit each other.
    #[error(transparent)]
    Graph(#[from] Box<GraphMismatch>),
    /// `--only` selects nothing.
    #[error(
        "no profile of the recipe matches `{selector}`; its profiles are {}{}",
        .profiles.join(", "),
        did_you_mean(selector, .profiles.iter().map(String::as_str))
    )]
    NothingSelected {
        /// What was asked for.
        selector: String,
        /// What there is.
        profiles: Vec<String>,
    },
    /// `--require-all`, and some can't be built on this machine.
    #[error("these profiles cannot be built on this machine:\n{}", .profiles.iter().map(|(name, needs)| format!("  {name}: {needs}")).collect::<Vec<_>>().join("\n"))]
    NotAllHere {
        /// Name and need of each.
        profiles: Vec<(String, String)>,
    },
    /// A graph's source is not available.
    #[error("{recipe}:{line}: the source of graph `{graph}` cannot be used")]
    Source {
        /// The recipe.
        recipe: String,
        /// Its line.
        line: u64,
        /// The graph.
        graph: String,
        /// Why.
        source: SourceError,
    },
    /// A graph's ONNX can't be used.
    #[error("{recipe}:{line}: the source of graph `{graph}` cannot be used")]
    Onnx {
        /// The recipe.
        recipe: String,
        /// Its line.
        line: u64,
        /// The graph.
        graph: String,
        /// Why.
        source: OnnxError,
    },
    /// A backend that the recipe names and that isn't on this machine.
    #[error(transparent)]
    UnknownBackend(UnknownName),
    /// A library that the backend needs isn't there.
    #[error("backend {backend} cannot be used")]
    Toolchain {
        /// The backend.
        backend: String,
        /// Why.
        source: ToolchainError,
    },
    /// A worker isn't there, or doesn't say what it is.
    #[error("backend {backend} cannot be used")]
    Worker {
        /// The backend.
        backend: String,
        /// Why.
        source: WorkerError,
    },
    /// The nodes that must stay in FP32 can't be found.
    #[error("cannot find which nodes of graph `{graph}` must stay in FP32")]
    MixedPrecision {
        /// The graph.
        graph: String,
        /// Why.
        source: MixedPrecisionError,
    },
    /// The samples that quantization measures on.
    #[error("the `calibration` of graph `{graph}` cannot be used")]
    Calibration {
        /// The graph.
        graph: String,
        /// Why.
        source: SamplesError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest would replace what it may not.
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// The manifest would replace that of another model.
    #[error("{} is the manifest of model `{found}`, and this recipe's model is `{model}`", path.display())]
    OtherModel {
        /// The manifest.
        path: PathBuf,
        /// Its model.
        found: String,
        /// The recipe's.
        model: String,
    },
    /// The manifest that is there.
    #[error(transparent)]
    ReadManifest(#[from] ReadManifestError),
    /// A value that can't be hashed.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// The manifest or a digest can't be written or read.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A graph's source changed.
    #[error("the source of graph `{graph}` cannot be used")]
    SourceChanged {
        /// The graph.
        graph: String,
        /// Which file.
        source: SourceChanged,
    },
    /// The fleet file.
    #[error(transparent)]
    Fleet(Box<FleetError>),
    /// The user or a signal said stop.
    #[error("interrupted; finished jobs are kept, and the next build resumes from there")]
    Cancelled,
}

impl PipelineError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadRecipe { .. }
            | Self::Recipe(_)
            | Self::Graph(_)
            | Self::NothingSelected { .. }
            | Self::Destination(_)
            | Self::OtherModel { .. }
            | Self::SourceChanged { .. }
            | Self::Io { .. } => ErrorKind::Input,
            Self::NotAllHere { .. } | Self::UnknownBackend(_) => ErrorKind::Unavailable,
            Self::Source { source, .. } => source.kind(),
            Self::Onnx { source, .. } => source.kind(),
            Self::Toolchain { source, .. } => source.kind(),
            Self::Worker { source, .. } => source.kind(),
            Self::MixedPrecision { source, .. } => source.kind(),
            Self::Calibration { source, .. } => source.kind(),
            Self::Store(error) => error.kind(),
            Self::Manifest(_) | Self::Fleet(_) => ErrorKind::Input,
            Self::ReadManifest(source) => source.kind(),
            Self::NotCanonical(_) => ErrorKind::Bug,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

impl PipelineError {
    /// Returns what the user can do, where the message doesn't say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Toolchain { source, .. } => source.hint(),
            Self::Source { source, .. } => source.hint(),
            Self::OtherModel { .. } => Some(
                "write to another file with --manifest, or delete that manifest if its model was renamed"
                    .into(),
            ),
            Self::UnknownBackend(_) => Some("build its worker, or name its folder in NIMCTL_BACKENDS".into()),
            Self::NotAllHere { .. } => Some("omit --require-all to build the other profiles".into()),
            _ => None,
        }
    }
}

/// A source that is no longer what it was when the command began.
#[derive(Debug, thiserror::Error)]
#[error("{} changed while it was used: run the command again when it is complete", path.display())]
pub struct SourceChanged {
    /// The file.
    pub(super) path: PathBuf,
}

/// Why one job failed; several profiles may share it.
#[derive(Clone, Debug)]
pub struct JobError {
    /// What it means for the exit code.
    pub kind: ErrorKind,
    /// The whole chain of causes, for people.
    pub message: String,
    /// The error itself.
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

impl JobError {
    /// Wraps an error.
    pub(super) fn new(kind: ErrorKind, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self { kind, message, source: Arc::new(error) }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<OnnxError> for JobError {
    fn from(error: OnnxError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<ToLowerError> for JobError {
    fn from(error: ToLowerError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<FleetFailure> for JobError {
    fn from(failure: FleetFailure) -> Self {
        Self::new(failure.kind, failure)
    }
}

impl From<WorkerError> for JobError {
    fn from(error: WorkerError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// A worker of another release than this nimctl.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {backend} worker makes plans of revision {found}, and this nimctl expects revision {expected}: install nimctl and its \
     workers from the same release"
)]
pub(super) struct WrongWorker {
    /// The backend.
    pub(super) backend: String,
    /// What the worker says.
    pub(super) found: u32,
    /// What the table of backends says.
    pub(super) expected: u32,
}

/// A plan that isn't what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongPlan {
    /// There is no such file, or another one than the worker says.
    #[error("the plan of the {backend} backend cannot be used: it {what}")]
    NotWritten {
        /// The backend.
        backend: String,
        /// What is wrong with it.
        what: String,
    },
    /// The header is missing.
    #[error("the tensorrt-rtx worker wrote a file that is not a TensorRT-RTX plan")]
    NoHeader,
    /// It is for another target or by another version.
    #[error(
        "the plan's header says version {found_version} for {found}; expected version {version} for {asked}"
    )]
    Header {
        /// The version in the header.
        found_version: String,
        /// The targets in the header.
        found: String,
        /// The toolchain's version.
        version: String,
        /// What was asked for.
        asked: String,
    },
}

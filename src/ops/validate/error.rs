//! What can go wrong while a recipe's profiles are validated.

use std::io;
use std::path::PathBuf;

use super::runtime::RunError;
use crate::error_kind::ErrorKind;
use crate::onnx::OnnxError;
use crate::ops::error::PipelineError;
use crate::ops::read_manifest::ReadManifestError;
use crate::ops::samples::SamplesError;
use crate::ops::to_lower::ToLowerError;
use crate::recipe::UnknownName;
use crate::store::StoreError;

/// What to do about a provider that isn't there.
const PROVIDER_HINT: &str = "name an ONNX Runtime that was built for CUDA (the Python wheel onnxruntime-gpu has one) with \
                             --onnxruntime-lib, or leave --provider out";

/// Why nothing can be validated; [`ValidateError::Profile`] is about one profile only.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
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
    /// A graph.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A quantized graph of the store.
    #[error(transparent)]
    Quantized(#[from] ToLowerError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker that computes the reference.
    #[error("the onnxruntime worker failed on the FP32 graph `{graph}`")]
    Reference {
        /// The graph.
        graph: String,
        /// Why.
        source: RunError,
    },
    /// The FP32 graph gives something that nothing can be held against.
    #[error(
        "output `{output}` of graph `{graph}` is NaN or infinite in FP32 ({case} shapes): use other samples"
    )]
    ReferenceNotFinite {
        /// The graph.
        graph: String,
        /// The output.
        output: String,
        /// The shapes.
        case: String,
    },
    /// A profile could not be run, and that says nothing about the profile.
    #[error("graph `{graph}` could not be run; the profile keeps the result that it had")]
    Around {
        /// The graph.
        graph: String,
        /// Why.
        source: RunError,
    },
    /// A file or folder.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A manifest.
    #[error(transparent)]
    Manifest(#[from] ReadManifestError),
    /// A manifest whose ids are of another kind.
    #[error("{}: profile id `{id}` was not created by nimctl", path.display())]
    ForeignId {
        /// The manifest.
        path: PathBuf,
        /// The id.
        id: String,
    },
    /// A manifest or an id of which the store has nothing.
    #[error("{name}: the store has no such profile")]
    NotInStore {
        /// What the user named.
        name: String,
    },
    /// Profiles of a recipe together with one that has none.
    #[error("no recipe is known for {profile}, but for others that were named: validate them by themselves")]
    WithAndWithoutRecipe {
        /// The readable name of one that has none.
        profile: String,
    },
    /// Profiles of several models, whose recipes are not known.
    #[error("the profiles are of several models ({}): validate one release at a time", .models.join(", "))]
    SeveralModels {
        /// The models, with their releases.
        models: Vec<String>,
    },
    /// Things of several recipes.
    #[error(
        "the profiles come from several recipes ({}): validate one recipe at a time",
        .recipes.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    SeveralRecipes {
        /// The recipes.
        recipes: Vec<PathBuf>,
    },
    /// Files of a labelled set.
    #[error("`validation.zero_shot`")]
    LabelledSet {
        /// Why they can't be used.
        source: SamplesError,
    },
    /// A labelled set that can't be used.
    #[error("`validation.zero_shot`: `{place}`: {reason}")]
    ZeroShot {
        /// `graph/input`.
        place: String,
        /// Why not.
        reason: String,
    },
    /// An output that has no value in any shapes.
    #[error(
        "output `{output}` of graph `{graph}` is empty in every shape in FP32, so it cannot be compared: use samples that produce \
         values"
    )]
    NothingToCompare {
        /// The graph.
        graph: String,
        /// The output.
        output: String,
    },
    /// A row that can't be replayed.
    #[error("cannot replay {place}: {reason}")]
    Replay {
        /// `graph/shapes/row`.
        place: String,
        /// Why not.
        reason: String,
    },
    /// One profile can't be run; the others can.
    #[error("{0}")]
    Profile(String),
    /// The provider that was asked for.
    #[error("the provider `cuda` is not available on this machine: {reason}")]
    Provider {
        /// Why not.
        reason: String,
    },
    /// The user asked to stop.
    #[error("interrupted; finished profiles keep their results")]
    Cancelled,
}

impl ValidateError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pipeline(source) => source.kind(),
            Self::Samples { source, .. } | Self::LabelledSet { source } => source.kind(),
            Self::Onnx(source) => source.kind(),
            Self::Quantized(source) => source.kind(),
            Self::Store(source) => source.kind(),
            // Graph and samples are the recipe's.
            Self::Reference { source: RunError::Worker(source), .. } if source.problem().is_some() => {
                if source.is_about_what_ran() {
                    ErrorKind::Input
                } else {
                    source.kind()
                }
            }
            Self::Reference { source, .. } | Self::Around { source, .. } => source.kind(),
            Self::Manifest(source) => source.kind(),
            Self::Io { .. }
            | Self::ForeignId { .. }
            | Self::NotInStore { .. }
            | Self::WithAndWithoutRecipe { .. }
            | Self::SeveralRecipes { .. }
            | Self::SeveralModels { .. }
            | Self::ZeroShot { .. }
            | Self::ReferenceNotFinite { .. }
            | Self::NothingToCompare { .. }
            | Self::UnknownName(_)
            | Self::Replay { .. } => ErrorKind::Input,
            Self::Profile(_) => ErrorKind::Refused,
            Self::Provider { .. } => ErrorKind::Unavailable,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }

    /// Returns what to do, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Pipeline(source) => source.hint(),
            Self::NotInStore { .. } => {
                let hint = "run `nimctl pull` or `nimctl build` first; a release's files are checked with `nimctl verify`";
                Some(hint.into())
            }
            Self::Provider { .. } => Some(PROVIDER_HINT.into()),
            _ => None,
        }
    }
}

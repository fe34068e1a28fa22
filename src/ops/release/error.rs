//! What can go wrong while a release is made.

use std::io;
use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::ops::bench::BenchError;
use crate::ops::error::PipelineError;
use crate::ops::validate::ValidateError;
use crate::ops::verify::ReadReleaseError;
use crate::profile::ModelRelease;
use crate::release::PolicyError;
use crate::store::StoreError;

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The destination, or its tar, exists.
    #[error("{} already exists: choose another folder, or remove it", path.display())]
    AlreadyThere {
        /// What is there.
        path: PathBuf,
    },
    /// The destination has no name.
    #[error("{} cannot be a release folder: choose a path that ends in a name", path.display())]
    NoName {
        /// What was asked for.
        path: PathBuf,
    },
    /// No recipe was named.
    #[error("no recipe was given to release")]
    NoRecipe,
    /// Recipes of different models or releases.
    #[error(
        "{} is for {} {}, but {} is for {} {}: a release holds one model and release",
        first_path.display(), first.name, first.release, second_path.display(), second.name, second.release
    )]
    DifferentModels {
        /// What the first recipe is of.
        first: ModelRelease,
        /// The first recipe.
        first_path: PathBuf,
        /// What another is of.
        second: ModelRelease,
        /// The other.
        second_path: PathBuf,
    },
    /// Two recipes give different profiles of one name.
    #[error(
        "{} and {} define different profiles named `{name}`: exclude one with --only, or remove it from its recipe",
        first.display(), second.display()
    )]
    NameTwice {
        /// The name.
        name: String,
        /// A recipe.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// The policy names something that doesn't exist.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy whose gates have nothing to be asked of.
    #[error(
        "the policy's `fail_if` compares with an earlier release, but {why}: add --baseline FOLDER and measure, or remove `fail_if`"
    )]
    GateWithoutQuestion {
        /// What is missing.
        why: &'static str,
    },
    /// The baseline is a release of another model.
    #[error("{} is a release of the model `{found}`, and this model is `{model}`: nothing can be compared", path.display())]
    OtherBaseline {
        /// The folder.
        path: PathBuf,
        /// Its model.
        found: String,
        /// The recipe's.
        model: String,
    },
    /// The baseline can't be read.
    #[error("cannot read the baseline {}", path.display())]
    Baseline {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ReadReleaseError,
    },
    /// A job of the build failed.
    #[error("the build failed: {message}")]
    BuildFailed {
        /// The first failure.
        message: String,
        /// What it means.
        kind: ErrorKind,
    },
    /// Building, as a whole.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Validating, as a whole.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// Measuring, as a whole.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest that was just built.
    #[error("cannot write the manifest: {0}")]
    Manifest(String),
    /// The report.
    #[error("cannot render the report")]
    Report(#[from] minijinja::Error),
    /// The user asked to stop.
    #[error("interrupted; what was built and found is kept in the store")]
    Cancelled,
    /// A file or folder.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ReleaseError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BuildFailed { kind, .. } => *kind,
            Self::Pipeline(source) => source.kind(),
            Self::Validate(source) => source.kind(),
            Self::Bench(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Report(_) => ErrorKind::Bug,
            Self::Cancelled => ErrorKind::Interrupted,
            Self::AlreadyThere { .. }
            | Self::NoRecipe
            | Self::DifferentModels { .. }
            | Self::NameTwice { .. }
            | Self::NoName { .. }
            | Self::Policy(_)
            | Self::GateWithoutQuestion { .. }
            | Self::OtherBaseline { .. }
            | Self::Baseline { .. }
            | Self::Manifest(_)
            | Self::Io { .. } => ErrorKind::Input,
        }
    }
}

//! `report`: what the store knows of a recipe's profiles, or what a release holds, put together for a page.

use std::path::Path;

use super::build::{self, BuildError, BuildOptions, BuildReport, Outcome, ProfileLine};
use super::verify;
use crate::error_kind::ErrorKind;
use crate::passport::Passport;
use crate::profile::ModelRelease;
use crate::store::{Store, StoreError};

/// What there is to report.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The model and its release.
    pub model: ModelRelease,
    /// What was built, with what was found of it.
    pub profiles: Vec<Passport>,
    /// Names of what was not, each with the reason.
    pub not_built: Vec<(String, String)>,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The recipe.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A release folder.
    #[error("{path} is no release")]
    NoRelease {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A release without profiles.
    #[error("{0} has no profiles: there is nothing to report")]
    Empty(String),
}

impl ReportError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Build(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::NoRelease { .. } | Self::Empty(_) => ErrorKind::Input,
        }
    }
}

/// Names of profiles that were not built, each with the reason.
type NotBuilt = Vec<(String, String)>;

/// Collects what the store knows of a recipe's profiles; `options` are those of a build, with the mode `FromStore`.
///
/// # Errors
/// The recipe, or the store.
pub fn of_recipe(options: &BuildOptions) -> Result<Collected, ReportError> {
    let BuildReport { model: (name, release), profiles, .. } = build::build(options, &|_| ())?;
    let (profiles, not_built) = sort_out(profiles, &Store::look_at(&options.store))?;
    Ok(Collected { model: ModelRelease { name, release }, profiles, not_built })
}

/// Collects what a release folder holds.
///
/// # Errors
/// A folder that is no release, or an empty one.
pub fn of_release(folder: &Path) -> Result<Collected, ReportError> {
    let path = || folder.display().to_string();
    let profiles =
        verify::passports(folder).map_err(|source| ReportError::NoRelease { path: path(), source })?;
    let model = profiles.first().map(|passport| passport.contents.model.clone());
    Ok(Collected { model: model.ok_or_else(|| ReportError::Empty(path()))?, profiles, not_built: Vec::new() })
}

/// Tells what was built, with its passport, from what was not, with the reason.
pub(super) fn sort_out(
    lines: Vec<ProfileLine>,
    store: &Store,
) -> Result<(Vec<Passport>, NotBuilt), StoreError> {
    let (mut profiles, mut not_built) = (Vec::new(), Vec::new());
    for ProfileLine { name, outcome } in lines {
        let why = match outcome {
            Outcome::Built { id, .. } => match store.passport(&id)? {
                Some(passport) => {
                    profiles.push(passport);
                    continue;
                }
                None => "its passport is not in the store: run `nimctl build`".into(),
            },
            Outcome::NotBuiltHere(needs) => needs,
            Outcome::NotSelected => "it was not selected".into(),
            Outcome::Failed(error) => error.message,
            Outcome::Planned | Outcome::UpToDate => {
                "the store does not have it as the recipe is now: run `nimctl build`".into()
            }
        };
        not_built.push((name, why));
    }
    Ok((profiles, not_built))
}

//! `report`: what the store knows about a recipe's profiles, or what a release contains, collected for a page.

use std::path::Path;

use super::assemble::{self, Assembled, AssembledState};
use super::error::PipelineError;
use super::resolve::Resolved;
use super::verify::{self, ReadReleaseError};
use super::workspace::Workspace;
use crate::error_kind::ErrorKind;
use crate::passport::Passport;
use crate::profile::ModelRelease;
use crate::store::{Store, StoreError};

/// Why nothing is known about a profile whose files exist.
pub(super) const NO_PASSPORT: &str = "its passport is not in the store: run `nimctl build`";
/// Why nothing is known about a profile.
pub(super) const NOT_IN_STORE: &str = "the store has no build of it for this recipe: run `nimctl build`";

/// The data of a report.
#[derive(Clone, Debug)]
pub struct Collected {
    /// The model and its release.
    pub model: ModelRelease,
    /// The profiles that were built.
    pub profiles: Vec<Passport>,
    /// Names of the profiles that were not built, each with the reason.
    pub not_built: Vec<(String, String)>,
}

/// Why a report can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The recipe.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The release can't be read.
    #[error("cannot read the release {path}")]
    NoRelease {
        /// The folder.
        path: String,
        /// Why.
        source: ReadReleaseError,
    },
    /// A release without profiles.
    #[error("{0} has no profiles: there is nothing to report")]
    Empty(String),
}

impl ReportError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pipeline(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Empty(_) => ErrorKind::Input,
            Self::NoRelease { source, .. } => source.kind(),
        }
    }
}

/// Names of profiles that were not built, each with the reason.
type NotBuilt = Vec<(String, String)>;

/// Collects what the store knows about a recipe's profiles.
///
/// # Errors
/// The store.
pub fn of_recipe(workspace: &Workspace, resolved: &Resolved) -> Result<Collected, ReportError> {
    let store = Store::look_at(&workspace.store);
    let (profiles, not_built) = sort_out(assemble::from_store(resolved, &store)?, &store)?;
    Ok(Collected { model: resolved.recipe().model.clone(), profiles, not_built })
}

/// Collects the profiles of a release folder.
///
/// # Errors
/// A folder that is not a release, or a release without profiles.
pub fn of_release(folder: &Path) -> Result<Collected, ReportError> {
    let path = || folder.display().to_string();
    let profiles =
        verify::passports(folder).map_err(|source| ReportError::NoRelease { path: path(), source })?;
    let model = profiles.first().map(|passport| passport.contents.model.clone());
    Ok(Collected { model: model.ok_or_else(|| ReportError::Empty(path()))?, profiles, not_built: Vec::new() })
}

/// Separates profiles that were built, with their passports, from those that were not, with the reasons.
pub(super) fn sort_out(
    assembled: Vec<Assembled>,
    store: &Store,
) -> Result<(Vec<Passport>, NotBuilt), StoreError> {
    let (mut profiles, mut not_built) = (Vec::new(), Vec::new());
    for Assembled { name, state } in assembled {
        let why = match state {
            AssembledState::Complete(profile) => match store.passport(&profile.passport.id)? {
                Some(passport) => {
                    profiles.push(passport);
                    continue;
                }
                None => NO_PASSPORT.into(),
            },
            AssembledState::NotBuiltHere(needs) => needs,
            AssembledState::NotSelected => "it was not selected".into(),
            AssembledState::Failed(error) => error.message,
            AssembledState::NotInStore => NOT_IN_STORE.into(),
        };
        not_built.push((name, why));
    }
    Ok((profiles, not_built))
}

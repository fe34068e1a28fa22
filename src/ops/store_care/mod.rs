//! `store`: what is in a store and who needs it, removing what nobody needs, checking and repairing it, and pins.

mod fsck;
mod gc;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::SystemTime;

pub use fsck::{Finding, FsckOptions, FsckReport, Seriousness, fsck};
pub use gc::{GcOptions, GcReport, Kept, Removal, RemovalKind, gc};
pub use usage::{Kind, KindUsage, Usage, usage};

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::manifest::{ManifestProfile, Workspace};
use crate::profile::{ModelRelease, ProfileId};
use crate::selection::{PinError, find_pinned};
use crate::store::{Pin, Store, StoreError, Survey};

/// Why a store was not looked at or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreCareError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No profile, or several, have this name.
    #[error(transparent)]
    Name(#[from] PinError),
    /// It was removed a moment ago.
    #[error("profile {0} is no longer in the store")]
    Gone(ProfileId),
}

impl StoreCareError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Name(_) | Self::Gone(_) => ErrorKind::Input,
        }
    }
}

/// A profile of the store.
#[derive(Clone, Debug)]
pub struct StoredProfile {
    /// Its id.
    pub id: ProfileId,
    /// Its readable name; empty if it has no passport that can be read.
    pub name: String,
    /// The model and its release; absent if it has no passport that can be read.
    pub model: Option<ModelRelease>,
    /// The recipe that it was built from, if that is known.
    pub recipe: Option<PathBuf>,
    /// The place that it was pulled from, if it was.
    pub place: Option<String>,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Bytes of those of its files that no other profile has.
    pub unique_bytes: u64,
    /// When it came here; `None` if its files can't be asked.
    pub came_at: Option<SystemTime>,
    /// Its pin.
    pub pin: Option<Pin>,
    /// Whether its recipe's last build made it.
    pub is_last_build: bool,
    /// Whether all of its files are there, with their sizes.
    pub is_complete: bool,
}

/// Lists the profiles of a store: by name, then the newest first.
///
/// # Errors
/// A store that can't be read.
pub fn list(store: &Store) -> Result<Vec<StoredProfile>, StoreCareError> {
    let survey = store.survey()?;
    let mut owners: BTreeMap<Sha256, BTreeSet<ProfileId>> = BTreeMap::new();
    for id in survey.ids() {
        for sha256 in survey.files_of(&id).into_keys() {
            owners.entry(sha256).or_default().insert(id);
        }
    }
    let mut profiles: Vec<StoredProfile> =
        survey.ids().iter().map(|id| stored_profile(store, &survey, &owners, id)).collect();
    profiles.sort_by(|a, b| {
        let model = |profile: &StoredProfile| profile.model.as_ref().map(|model| model.name.clone());
        (model(a), &a.name).cmp(&(model(b), &b.name)).then(b.came_at.cmp(&a.came_at)).then(a.id.cmp(&b.id))
    });
    Ok(profiles)
}

fn stored_profile(
    store: &Store,
    survey: &Survey,
    owners: &BTreeMap<Sha256, BTreeSet<ProfileId>>,
    id: &ProfileId,
) -> StoredProfile {
    let passport = survey.passports.get(id);
    let files = survey.files_of(id);
    let is_unique = |sha256: &Sha256| owners.get(sha256).is_some_and(|owners| owners.len() == 1);
    StoredProfile {
        id: *id,
        name: passport.map(|passport| passport.name.clone()).unwrap_or_default(),
        model: passport.map(|passport| passport.contents.model.clone()),
        recipe: survey.origins.get(id).map(|origin| origin.recipe.clone()),
        place: survey.pulls.get(id).map(|pull| pull.place.clone()),
        size_bytes: files.values().sum(),
        unique_bytes: files.iter().filter(|(sha256, _)| is_unique(sha256)).map(|(_, size)| size).sum(),
        came_at: survey.came_at(store, id),
        pin: survey.pins.get(id).cloned(),
        is_last_build: survey.is_last_build(id),
        is_complete: !files.is_empty() && files.iter().all(|(sha256, size)| store.has_blob(sha256, *size)),
    }
}

/// Pins a profile, given by its id, the beginning of it, or its readable name. Returns which one it was.
///
/// # Errors
/// No such profile, or several; a store that can't be written.
pub fn pin(store: &Store, named: &str, note: Option<String>) -> Result<StoredProfile, StoreCareError> {
    let profile = find(store, named)?;
    match store.pin(&profile.id, &Pin::new(note))? {
        Some(()) => Ok(profile),
        None => Err(StoreCareError::Gone(profile.id)),
    }
}

/// Takes a profile's pin away. Returns which one it was, and whether it had one.
///
/// # Errors
/// No such profile, or several; a store that can't be written.
pub fn unpin(store: &Store, named: &str) -> Result<(StoredProfile, bool), StoreCareError> {
    let profile = find(store, named)?;
    let had_one = store.unpin(&profile.id)?;
    Ok((profile, had_one))
}

fn find(store: &Store, named: &str) -> Result<StoredProfile, StoreCareError> {
    let mut profiles = list(store)?;
    let survey = store.survey()?;
    let as_manifest = |profile: &StoredProfile| ManifestProfile {
        id: profile.id.to_string(),
        tags: survey.passports.get(&profile.id).map(|passport| passport.tags.clone()).unwrap_or_default(),
        workspace: Workspace::default(),
    };
    let known: Vec<ManifestProfile> = profiles.iter().map(as_manifest).collect();
    let place = find_pinned(&known, named)?;
    Ok(profiles.swap_remove(place))
}

//! `sbom`: what a release consists of, from the passports of its profiles. Their files are not read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::pull::hostile::check_contents;
use super::pull::{PullError, RemoteRelease};
use super::verify;
use crate::error_kind::ErrorKind;
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use crate::passport::{NotOfItsId, Passport};
use crate::profile::ModelRelease;
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER};
use crate::sbom::cyclonedx::Bom;
use crate::sbom::{PinnedTool, ReleaseToList, of_release};
use crate::stored_format::Unreadable;
use crate::toolchain::Lock;

/// A bill of materials, and how much of the release it lists.
#[derive(Clone, Debug)]
pub struct Bill {
    /// The bill.
    pub bom: Bom,
    /// The names of the profiles that it lists.
    pub profiles: Vec<String>,
    /// The ids of those that were not pulled into the folder, so that nothing is known of them.
    pub left_out: Vec<String>,
}

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// The folder is not a release.
    #[error("{folder} is not a release: it has no {MANIFEST_FILE}")]
    NotARelease {
        /// The folder.
        folder: String,
    },
    /// A file of the folder.
    #[error("cannot read the release {folder}")]
    Read {
        /// The folder.
        folder: String,
        /// Why; names the file.
        source: io::Error,
    },
    /// The manifest.
    #[error("cannot read the release {folder}")]
    Manifest {
        /// The folder.
        folder: String,
        /// Why; names the file.
        source: ManifestError,
    },
    /// A passport.
    #[error("cannot read a passport of the release {folder}")]
    Passport {
        /// The folder.
        folder: String,
        /// Why; names the file.
        source: Unreadable,
    },
    /// A passport that is not that of its profile.
    #[error("{place}")]
    Changed {
        /// The release.
        place: String,
        /// What is wrong.
        source: NotOfItsId,
    },
    /// Passports of several releases.
    #[error("{place}: profile {id} is of {found}, and others are of {expected}")]
    OtherModel {
        /// The release.
        place: String,
        /// The id of the profile.
        id: String,
        /// The model and release in its passport.
        found: String,
        /// Those of the first passport.
        expected: String,
    },
    /// A passport in the folder of another profile.
    #[error("{place}: profiles/{folder} has the passport of profile {found}")]
    OtherProfile {
        /// The release.
        place: String,
        /// The id that its folder has.
        folder: String,
        /// The id in it.
        found: String,
    },
    /// No profiles.
    #[error("{place} has no profiles: there is nothing to list")]
    Empty {
        /// The release.
        place: String,
    },
    /// The place.
    #[error(transparent)]
    Place(#[from] PullError),
}

impl SbomError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotARelease { .. }
            | Self::Read { .. }
            | Self::Manifest { .. }
            | Self::Passport { .. }
            | Self::Empty { .. } => ErrorKind::Input,
            Self::Changed { .. } | Self::OtherModel { .. } | Self::OtherProfile { .. } => ErrorKind::Refused,
            Self::Place(error) => error.kind(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotARelease { .. } => Some(
                "name a folder that `nimctl release` or `nimctl pull -o` wrote, or where the release was published".into(),
            ),
            Self::Read { folder, .. }
            | Self::Manifest { folder, .. }
            | Self::Passport { folder, .. } => Some(format!("`nimctl verify {folder}` shows all that is wrong with it")),
            Self::Changed { place, .. }
            | Self::OtherModel { place, .. }
            | Self::OtherProfile { place, .. } => {
                Some(format!("do not use it; make or pull the release {place} again"))
            }
            Self::Empty { .. } => None,
            Self::Place(error) => error.hint(),
        }
    }
}

/// Lists a release folder.
///
/// # Errors
/// A folder that is not a release, or that was damaged.
pub fn of_folder(path: &Path) -> Result<Bill, SbomError> {
    let folder = path.display().to_string();
    let read = |source| SbomError::Read { folder: folder.clone(), source };
    let file = path.join(MANIFEST_FILE);
    if !file.exists() {
        return Err(SbomError::NotARelease { folder });
    }
    let text = fs_err::read_to_string(&file).map_err(read)?;
    let manifest = Manifest::parse(&text, &file.display().to_string())
        .map_err(|source| SbomError::Manifest { folder: folder.clone(), source })?;
    let (mut passports, mut left_out) = (Vec::new(), Vec::new());
    for profile in &manifest.profiles {
        let file = path.join(PROFILES_FOLDER).join(&profile.id).join(PASSPORT_FILE);
        if !file.exists() && verify::is_elsewhere(profile) {
            left_out.push(profile.id.clone());
            continue;
        }
        let bytes = fs_err::read(&file).map_err(read)?;
        let passport = Passport::parse(&bytes, &file.display().to_string())
            .map_err(|source| SbomError::Passport { folder: folder.clone(), source })?;
        if passport.id.to_string() != profile.id {
            let (found, of) = (passport.id.to_string(), profile.id.clone());
            return Err(SbomError::OtherProfile { place: folder, folder: of, found });
        }
        passports.push(passport);
    }
    bill(folder, &passports, left_out)
}

/// Lists a published release; only its documents and passports are fetched. `place` is how the user named it.
///
/// # Errors
/// A place that can't be read, or passports that are not those of the profiles; cancelled.
pub fn of_place(
    place: &str,
    release: &RemoteRelease<'_>,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Bill, SbomError> {
    let passports = release.manifest.profiles.iter().map(|profile| {
        if is_cancelled() { Err(PullError::Cancelled) } else { release.passport(&profile.id) }
    });
    bill(place.to_owned(), &passports.collect::<Result<Vec<_>, _>>()?, Vec::new())
}

fn bill(place: String, passports: &[Passport], left_out: Vec<String>) -> Result<Bill, SbomError> {
    let Some(first) = passports.first() else { return Err(SbomError::Empty { place }) };
    let model = &first.contents.model;
    for passport in passports {
        let changed = |source| SbomError::Changed { place: place.clone(), source };
        check_contents(&passport.contents)
            .map_err(|problem| changed(NotOfItsId { id: passport.id, problem }))?;
        passport.check_identity().map_err(changed)?;
        let found = &passport.contents.model;
        if found != model {
            let (id, found, expected) = (passport.id.to_string(), name(found), name(model));
            return Err(SbomError::OtherModel { place, id, found, expected });
        }
    }
    let pinned = pinned();
    let is_complete = left_out.is_empty();
    let bom = of_release(&ReleaseToList { model, passports, is_complete, pinned: &pinned });
    Ok(Bill { bom, profiles: passports.iter().map(|passport| passport.name.clone()).collect(), left_out })
}

fn name(model: &ModelRelease) -> String {
    format!("{} {}", model.name, model.release)
}

/// Returns the tools that are pinned. Of one with files for several kinds of machine, nobody could say which files ran.
fn pinned() -> Vec<PinnedTool> {
    let tools = Lock::embedded().tools.into_iter().filter_map(|(tool, locked)| {
        let mut hosts = locked.hosts.into_values();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
        let files: BTreeMap<_, _> = host.files.into_iter().map(|file| (file.name, file.sha256)).collect();
        Some(PinnedTool { tool, package: locked.package, version: locked.version, libraries: files })
    });
    tools.collect()
}

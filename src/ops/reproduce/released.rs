//! The release that is reproduced: what its profiles were made from, and their files in folders.

use std::path::{Path, PathBuf};

use super::error::{ReproduceError, io};
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestProfile};
use crate::ops::pull::hostile::check_contents;
use crate::ops::pull::{PullOptions, RemoteRelease};
use crate::ops::verify::{Finding, VerifyReport, verify};
use crate::passport::Passport;
use crate::process::Cancel;
use crate::profile::{CONTENTS_FILE, Contents, ModelRelease};
use crate::recipe::Only;
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER};
use crate::reproduction::MadeFrom;
use crate::store::Store;

/// A release with verified files.
#[derive(Debug)]
pub struct Released {
    /// The model and its release.
    pub model: ModelRelease,
    /// Its profiles, as far as they are here.
    pub(super) profiles: Vec<ReleasedProfile>,
}

/// One profile of it.
#[derive(Debug)]
pub(super) struct ReleasedProfile {
    pub(super) name: String,
    pub(super) id: String,
    /// Whether it is to be reproduced; others are there to be compared with.
    pub(super) is_asked_for: bool,
    /// What it was made from, and the folder of its files; `None` if they are not in the release folder.
    pub(super) here: Option<(MadeFrom, PathBuf)>,
}

impl Released {
    /// Reads a release folder. Every digest and id in it is recomputed first.
    ///
    /// # Errors
    /// No release folder, or a damaged one; `only` selects nothing.
    pub fn of_folder(folder: &Path, only: Option<&Only>, cancel: &Cancel) -> Result<Self, ReproduceError> {
        let path = folder.join(MANIFEST_FILE);
        if !path.is_file() {
            return Err(ReproduceError::NotARelease { path: folder.into(), manifest: MANIFEST_FILE });
        }
        let report = verify(folder).map_err(io(format!("cannot read the release {}", folder.display())))?;
        let VerifyReport { files: _, size_bytes: _, profiles: _, elsewhere, findings } = report;
        let damaged = |findings| ReproduceError::Damaged { path: folder.into(), findings };
        if !findings.is_empty() {
            return Err(damaged(findings));
        }
        if cancel.is_cancelled() {
            return Err(ReproduceError::Cancelled);
        }
        let text = fs_err::read_to_string(&path).map_err(io("cannot read the manifest"))?;
        let manifest = Manifest::parse(&text, &path.display().to_string())?;
        let mut profiles = Vec::new();
        let chosen: Vec<String> = chosen(&manifest, only)?.iter().map(|profile| profile.id.clone()).collect();
        for profile in &manifest.profiles {
            let id = profile.id.clone();
            let is_asked_for = chosen.contains(&id);
            if elsewhere.contains(&id) {
                profiles.push(ReleasedProfile {
                    name: profile.readable_name(),
                    id,
                    is_asked_for,
                    here: None,
                });
                continue;
            }
            let root = folder.join(PROFILES_FOLDER).join(&id);
            let read = |name: &str| fs_err::read(root.join(name)).map_err(io(format!("cannot read {name}")));
            let of_release = |name: &str| format!("{PROFILES_FOLDER}/{id}/{name}");
            let passport = Passport::parse(&read(PASSPORT_FILE)?, &of_release(PASSPORT_FILE))?;
            let contents = Contents::parse(&read(CONTENTS_FILE)?, &of_release(CONTENTS_FILE))?;
            if passport.contents != contents {
                let problem = format!("its contents are not those of {CONTENTS_FILE}");
                return Err(damaged(vec![Finding { path: of_release(PASSPORT_FILE), problem }]));
            }
            // As of a release that is pulled: paths that stay in its folder.
            check_contents(&contents)
                .map_err(|problem| damaged(vec![Finding { path: of_release(CONTENTS_FILE), problem }]))?;
            let name = passport.name.clone();
            let here = Some((MadeFrom::of_passport(&passport), root));
            profiles.push(ReleasedProfile { name, id, is_asked_for, here });
        }
        Ok(Self { model: model_of(&profiles, &manifest), profiles })
    }

    /// Pulls a release into a store, and lays out its files in `folder`.
    ///
    /// # Errors
    /// As [`RemoteRelease::pull`]; `only` selects nothing.
    pub fn of_place(
        release: &RemoteRelease<'_>,
        only: Option<&Only>,
        store: &Store,
        folder: &Path,
        options: &PullOptions<'_>,
    ) -> Result<Self, ReproduceError> {
        let mut profiles = Vec::new();
        for profile in chosen(&release.manifest, only)? {
            let pulled = release.pull(&profile.id, store, options)?;
            let Some(passport) = pulled.passport else { continue };
            let root = folder.join(&profile.id);
            store.lay_out_contents(&passport.contents.files, &root)?;
            profiles.push(ReleasedProfile {
                name: passport.name.clone(),
                id: profile.id.clone(),
                is_asked_for: true,
                here: Some((MadeFrom::of_passport(&passport), root)),
            });
        }
        Ok(Self { model: model_of(&profiles, &release.manifest), profiles })
    }
}

fn model_of(profiles: &[ReleasedProfile], manifest: &Manifest) -> ModelRelease {
    let of_profiles =
        profiles.iter().find_map(|profile| Some(profile.here.as_ref()?.0.contents.model.clone()));
    of_profiles.unwrap_or_else(|| ModelRelease {
        name: manifest.model.clone().unwrap_or_default(),
        release: manifest.release.clone().unwrap_or_default(),
    })
}

fn chosen<'a>(
    manifest: &'a Manifest,
    only: Option<&Only>,
) -> Result<Vec<&'a ManifestProfile>, ReproduceError> {
    let all = manifest.profiles.iter();
    if manifest.profiles.is_empty() {
        return Err(ReproduceError::NoProfiles);
    }
    let Some(only) = only else { return Ok(all.collect()) };
    let found: Vec<_> =
        all.clone().filter(|profile| only.chooses(&profile.readable_name(), &profile.tags)).collect();
    if found.is_empty() {
        let profiles = all.map(ManifestProfile::readable_name).collect();
        return Err(ReproduceError::NothingSelected { selector: only.to_string(), profiles });
    }
    Ok(found)
}

//! A release folder of what was pulled: made anew, or one that an earlier pull made and that gets more profiles.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{PullError, RemoteRelease};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::work_folder::{self, WorkFolder};
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestProfile, file_uri, oci_uri};
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, Contents};
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER, SUMS_FILE, Sums};
use crate::store::Store;

/// What is being laid out is in folders of this name.
pub(super) const STAGING_PREFIX: &str = ".pull-";
/// What was fetched for a folder, and is not laid out yet; its lock has the same name with `.lock`.
pub(super) const PARTIAL_FOLDER: &str = ".partial-pull";

impl RemoteRelease<'_> {
    /// Checks that a release can be laid out in a folder: before anything is fetched.
    ///
    /// # Errors
    /// A folder with other things in it, or something that is no folder.
    pub fn check_folder(&self, folder: &Path) -> Result<(), PullError> {
        known_files(folder, &self.manifest).map(|_| ())
    }

    /// Lays a release out in a folder: its documents, and the files of these profiles, which were pulled. The manifest points at
    /// files that are in the folder; those of other profiles are at the place, if `repository` (`host/name`) says where, and are left
    /// out otherwise.
    ///
    /// # Errors
    /// A folder with other things in it, or that can't be written.
    pub fn lay_out(
        &self,
        profiles: &[Passport],
        store: &Store,
        folder: &Path,
        repository: Option<&str>,
    ) -> Result<(), PullError> {
        work_folder::sweep(folder, STAGING_PREFIX);
        let known = known_files(folder, &self.manifest)?;
        fs_err::create_dir_all(folder.join(PROFILES_FOLDER)).map_err(io("making the folder"))?;
        for passport in profiles {
            let id = passport.id.to_string();
            let json = passport.contents.to_canonical_json();
            let json =
                json.map_err(|error| PullError::BadProfile { id: id.clone(), problem: error.to_string() })?;
            let stored = Stored {
                id: &id,
                contents: &passport.contents,
                contents_json: &json,
                passport: Some(passport),
            };
            stored.lay_out(store, folder)?;
        }
        let is_here = |id: &str| {
            profiles.iter().any(|passport| passport.id.to_string() == id)
                || known.keys().any(|path| path.starts_with(&format!("{PROFILES_FOLDER}/{id}/")))
        };
        let mut manifest = self.manifest.clone();
        manifest.profiles.retain(|profile| is_here(&profile.id) || repository.is_some());
        for profile in &mut manifest.profiles {
            let here = is_here(&profile.id);
            let ManifestProfile { id, tags: _, workspace } = profile;
            for (path, file) in &mut workspace.files {
                file.uri = match (repository, self.profile_digest(id)) {
                    (Some(repository), Some(digest)) if !here => Some(oci_uri(repository, &digest, path)),
                    _ => Some(file_uri(&format!("{PROFILES_FOLDER}/{id}/{path}"))),
                };
            }
        }
        let problem = |error: crate::manifest::ManifestError| PullError::BadRelease {
            name: MANIFEST_FILE.into(),
            problem: error.to_string(),
        };
        let text = manifest.to_yaml().map_err(problem)?;
        for (name, bytes) in &self.documents {
            let bytes = if name == MANIFEST_FILE { text.as_bytes() } else { bytes };
            atomic_file::write(&folder.join(name), bytes).map_err(io("writing a document"))?;
        }
        let sums = sums_of(folder)?;
        atomic_file::write(&folder.join(SUMS_FILE), sums.to_text().as_bytes())
            .map_err(io("writing a document"))
    }

    /// Writes what selection looks at: the manifest, and of each profile `contents.json` and the passport.
    ///
    /// # Errors
    /// A place that can't be read, a folder that can't be written.
    pub fn write_descriptions(&self, folder: &Path) -> Result<(), PullError> {
        for id in self.profiles.keys() {
            let (contents_json, passport) = self.descriptions(id)?;
            let root = folder.join(PROFILES_FOLDER).join(id);
            for (name, bytes) in [(CONTENTS_FILE, contents_json), (PASSPORT_FILE, passport)] {
                atomic_file::write(&root.join(name), &bytes).map_err(io("writing a document"))?;
            }
        }
        let bytes = &self.documents[MANIFEST_FILE];
        atomic_file::write(&folder.join(MANIFEST_FILE), bytes).map_err(io("writing a document"))
    }
}

/// A profile in the store, to be laid out.
pub(super) struct Stored<'a> {
    pub(super) id: &'a str,
    pub(super) contents: &'a Contents,
    pub(super) contents_json: &'a str,
    pub(super) passport: Option<&'a Passport>,
}

impl Stored<'_> {
    /// Lays out its files, with its contents and passport.
    pub(super) fn lay_out(&self, store: &Store, folder: &Path) -> Result<(), PullError> {
        let Self { id, contents, contents_json, passport } = self;
        let work = WorkFolder::new_in(folder, STAGING_PREFIX).map_err(io("making a folder"))?;
        let staging = work.path().join("profile");
        for file in &contents.files {
            let place = staging.join(&file.path);
            if let Some(parent) = place.parent() {
                fs_err::create_dir_all(parent).map_err(io("making a folder"))?;
            }
            // A copy, not a link: nothing done to it may reach the store.
            fs_err::copy(store.blob_path(&file.sha256), &place).map_err(io("copying a file"))?;
            fs_err::File::open(&place).and_then(|file| file.sync_all()).map_err(io("syncing a file"))?;
        }
        let passport = passport.map(|passport| (PASSPORT_FILE, passport.for_release()));
        let documents = [(CONTENTS_FILE, contents_json.as_bytes().to_vec())].into_iter().chain(passport);
        for (name, bytes) in documents {
            atomic_file::write(&staging.join(name), &bytes).map_err(io("writing a document"))?;
        }
        replace(&staging, &folder.join(PROFILES_FOLDER).join(id))
    }
}

/// Puts a folder in the place of another one.
pub(super) fn replace(staging: &Path, destination: &Path) -> Result<(), PullError> {
    match fs_err::symlink_metadata(destination) {
        Ok(metadata) if metadata.is_dir() => {
            fs_err::remove_dir_all(destination).map_err(io("replacing a folder"))?;
        }
        Ok(_) => return Err(PullError::InTheWay { path: destination.into() }),
        Err(_) => {}
    }
    fs_err::rename(staging, destination).map_err(io("naming a folder"))
}

/// Fails if there is a link where a folder of ours would be: it may lead anywhere.
pub(super) fn refuse_links<const N: usize>(paths: [&Path; N]) -> Result<(), PullError> {
    let is_link = |path: &&&Path| fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    match paths.iter().find(is_link) {
        Some(path) => Err(PullError::InTheWay { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

/// Returns the files that the folder lists, if it is a release folder of the same model.
pub(super) fn known_files(folder: &Path, manifest: &Manifest) -> Result<BTreeMap<String, Sha256>, PullError> {
    refuse_links([&folder.join(PROFILES_FOLDER)])?;
    let other = || PullError::OtherFolder { path: folder.into() };
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    let is_ours = |entry: io::Result<fs_err::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(PARTIAL_FOLDER))
    };
    if fs_err::read_dir(folder).map_err(|_| other())?.all(is_ours) {
        return Ok(BTreeMap::new());
    }
    let text = fs_err::read_to_string(folder.join(SUMS_FILE)).map_err(|_| other())?;
    let Sums(files) = Sums::parse(&text).map_err(|_| other())?;
    // Profiles of another release have other ids, and the manifest would not know them.
    let ids: Vec<&str> = manifest.profiles.iter().map(|profile| profile.id.as_str()).collect();
    let is_strange = |path: &&String| {
        let id = path
            .strip_prefix(PROFILES_FOLDER)
            .and_then(|rest| rest.trim_start_matches('/').split('/').next());
        id.is_some_and(|id| !ids.contains(&id))
    };
    match files.keys().find(is_strange) {
        Some(_) => Err(other()),
        None => Ok(files),
    }
}

pub(super) fn sums_of(folder: &Path) -> Result<Sums, PullError> {
    let mut sums = Sums::default();
    for entry in walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| io("listing the folder")(error.into()))?;
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_string_lossy().into_owned();
        // What another process is laying out is no part of it yet.
        if entry.file_type().is_file()
            && path != SUMS_FILE
            && ![STAGING_PREFIX, PARTIAL_FOLDER].iter().any(|ours| path.starts_with(ours))
        {
            let (sha256, _) = Sha256::of_file(entry.path()).map_err(io("hashing a file"))?;
            sums.0.insert(path, sha256);
        }
    }
    Ok(sums)
}

pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> PullError {
    move |source| PullError::Io { doing: doing.into(), source }
}

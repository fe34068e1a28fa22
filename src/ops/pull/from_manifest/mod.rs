//! The files of a manifest's profiles, from where its uris say.
//!
//! A profile of ours names its contents, and the id stands for them: its files go to the store, as from a release. Of other profiles
//! the manifest has checksums at most, and its id says nothing of the bytes: their files go to a folder.

mod checksum;
mod names;
mod others;
mod ours;
mod reader;

use std::path::{Path, PathBuf};

use super::folder::{self, known_files, sums_of};
use super::{FileError, PullError, PullOptions, Pulled};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::work_folder;
use crate::manifest::{
    IdKind, MANIFEST_FILE, Manifest, ManifestDocument, ManifestProfile, file_path, file_uri,
};
use crate::ops::read_manifest::{ReadManifestError, read_limited};
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, Contents};
use crate::registry::Client;
use crate::release::{PROFILES_FOLDER, SUMS_FILE};
use crate::store::Store;
use crate::uri::Sources;

/// Makes a client for what comes next.
pub type Connect<'a> = dyn Fn() -> Client<'a> + Sync + 'a;

/// A manifest whose uris are followed.
pub struct FromManifest<'a> {
    /// The SHA-256 of its text.
    pub digest: Sha256,
    source: String,
    document: ManifestDocument,
    sources: &'a Sources,
    connect: &'a Connect<'a>,
    client: Client<'a>,
}

/// What was pulled.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Each profile by its id.
    pub profiles: Vec<(String, Pulled)>,
    /// `PROFILE/PATH` of files that the manifest has no checksum for, and nothing else verifies.
    pub unverified: Vec<String>,
}

/// A profile that was fetched.
enum Fetched {
    /// Of ours, in the store: with a passport if one was found.
    InStore(Box<(Contents, String, Option<Passport>)>),
    /// Of others: each file's path in the profile, and where it is now.
    Here(Vec<(String, PathBuf)>),
}

impl<'a> FromManifest<'a> {
    /// Reads a manifest, which messages call by `name`.
    ///
    /// # Errors
    /// A file that can't be read, or is not a manifest.
    pub fn open(
        path: &Path,
        name: &str,
        sources: &'a Sources,
        connect: &'a Connect<'a>,
    ) -> Result<Self, PullError> {
        let text = read_limited(path).map_err(|source| ReadManifestError::Read { source })?;
        let document = ManifestDocument::parse(&text, name).map_err(ReadManifestError::Manifest)?;
        // It is to be found from any folder.
        let source = match std::path::absolute(path) {
            Ok(path) if !name.contains("://") => path.display().to_string(),
            Ok(_) | Err(_) => name.to_owned(),
        };
        Ok(Self { digest: Sha256::of(&text), source, document, sources, connect, client: connect() })
    }

    /// Returns where the profiles are from, as `nimctl pull` takes it.
    fn source(&self) -> String {
        self.source.clone()
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        self.document.manifest()
    }

    /// Returns the manifest with the form that it was read in.
    pub fn document(&self) -> &ManifestDocument {
        &self.document
    }

    /// Whether a profile is of ours: its id stands for its contents, and its files have the list of them.
    fn is_ours(&self, profile: &ManifestProfile) -> bool {
        self.document.id_kind(profile) == IdKind::Content
            && profile.workspace.files.contains_key(CONTENTS_FILE)
    }

    /// Whether the store keeps any of these profiles.
    pub fn needs_store(&self, ids: &[String]) -> bool {
        self.profiles(ids).any(|profile| self.is_ours(profile))
    }

    /// Checks what can be known before anything is fetched: that a folder can take the profiles, that their files can be in it, and
    /// that each uri leads somewhere.
    ///
    /// # Errors
    /// A folder with other things in it, or none for profiles that need one; paths that collide or leave it; a uri that leads nowhere;
    /// a checksum that can't be computed.
    pub fn check(&self, ids: &[String], folder: Option<&Path>) -> Result<(), PullError> {
        if let Some(folder) = folder {
            known_files(folder, self.manifest())?;
            names::ids(ids)?;
        }
        for profile in self.profiles(ids) {
            names::files(profile)?;
            if folder.is_none() && !self.is_ours(profile) {
                return Err(PullError::NeedsFolder { id: profile.id.clone() });
            }
            for (path, file) in &profile.workspace.files {
                let checked = || -> Result<(), FileError> {
                    self.sources.locate(file.uri.as_deref().ok_or(FileError::NoUri)?)?;
                    file.checksum.as_deref().map(checksum::Checksum::parse).transpose()?;
                    Ok(())
                };
                checked().map_err(|source| error(profile, path, source))?;
            }
        }
        Ok(())
    }

    fn profiles<'m>(&'m self, ids: &'m [String]) -> impl Iterator<Item = &'m ManifestProfile> {
        self.manifest().profiles.iter().filter(|profile| ids.contains(&profile.id))
    }

    /// Fetches profiles: those of ours into the store ([`FromManifest::needs_store`]), and all into a folder if one is named. What an interrupted pull fetched and a
    /// checksum verifies is not fetched again.
    ///
    /// # Errors
    /// As [`FromManifest::check`]; files that can't be fetched or are not what the manifest says; a store or folder that can't be
    /// written; cancelled.
    pub fn pull(
        &self,
        ids: &[String],
        store: Option<&Store>,
        folder: Option<&Path>,
        options: &PullOptions<'_>,
    ) -> Result<Outcome, PullError> {
        self.check(ids, folder)?;
        let mut outcome = Outcome::default();
        let mut fetched = Vec::new();
        let partial = folder.map(|folder| others::PartialFolder::open(folder, options)).transpose()?;
        for profile in self.profiles(ids) {
            let (pulled, one) = if let Some(store) = store.filter(|_| self.is_ours(profile)) {
                self.pull_ours(profile, store, options)?
            } else {
                let Some(partial) = &partial else {
                    return Err(PullError::NeedsFolder { id: profile.id.clone() });
                };
                self.pull_other(profile, partial, options, &mut outcome.unverified)?
            };
            outcome.profiles.push((profile.id.clone(), pulled));
            fetched.push((profile, one));
        }
        if let (Some(folder), Some(partial)) = (folder, partial) {
            self.lay_out(&fetched, store, folder, &partial)?;
            partial.remove();
        }
        Ok(outcome)
    }

    fn lay_out(
        &self,
        fetched: &[(&ManifestProfile, Fetched)],
        store: Option<&Store>,
        folder: &Path,
        partial: &others::PartialFolder,
    ) -> Result<(), PullError> {
        work_folder::sweep(folder, folder::STAGING_PREFIX);
        let known = known_files(folder, self.manifest())?;
        fs_err::create_dir_all(folder.join(PROFILES_FOLDER)).map_err(folder::io("making the folder"))?;
        for (profile, one) in fetched {
            match one {
                Fetched::InStore(ours) => {
                    let Some(store) = store else { unreachable!("it is in the store") };
                    let (contents, contents_json, passport) = &**ours;
                    let passport = passport.as_ref();
                    folder::Stored { id: &profile.id, contents, contents_json, passport }
                        .lay_out(store, folder)?;
                }
                Fetched::Here(files) => partial.lay_out(&profile.id, files, folder)?,
            }
        }
        let is_here = |id: &str| {
            fetched.iter().any(|(profile, _)| profile.id == id)
                || known.keys().any(|path| path.starts_with(&format!("{PROFILES_FOLDER}/{id}/")))
        };
        let mut manifest = self.manifest().clone();
        for profile in &mut manifest.profiles {
            let here = is_here(&profile.id);
            for (path, file) in &mut profile.workspace.files {
                if here {
                    file.uri = Some(file_uri(&format!("{PROFILES_FOLDER}/{}/{path}", profile.id)));
                }
            }
        }
        // Uris relative to the manifest's old place lead nowhere from the new one.
        let leads = |profile: &ManifestProfile| {
            let mut files = profile.workspace.files.values();
            is_here(&profile.id)
                || files.all(|file| file.uri.as_deref().is_none_or(|uri| file_path(uri).is_none()))
        };
        manifest.profiles.retain(leads);
        let text = manifest.to_yaml().map_err(|error| PullError::BadRelease {
            name: MANIFEST_FILE.into(),
            problem: error.to_string(),
        })?;
        let io = folder::io("writing a document");
        atomic_file::write(&folder.join(MANIFEST_FILE), text.as_bytes()).map_err(&io)?;
        let sums = sums_of(folder)?;
        atomic_file::write(&folder.join(SUMS_FILE), sums.to_text().as_bytes()).map_err(io)
    }
}

fn error(profile: &ManifestProfile, path: &str, source: impl Into<FileError>) -> PullError {
    PullError::File { id: profile.id.clone(), path: path.into(), source: source.into() }
}

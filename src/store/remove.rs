//! Removing what is not needed, and rewriting what is wrong: in an order in which a kill leaves nothing that refers to what is gone.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::survey::files_in;
use super::{Store, StoreError, oci};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::file_lock::FileLock;
use crate::passport::Passport;
use crate::profile::ProfileId;

/// The unit in which file systems count what a file takes.
const BLOCK_BYTES: u64 = 512;

/// What is not needed.
#[derive(Debug, Default)]
pub(crate) struct Unneeded {
    /// Profiles, with everything of them but their blobs.
    pub(crate) profiles: BTreeSet<ProfileId>,
    /// Records, and what is said about things that are gone.
    pub(crate) files: Vec<PathBuf>,
    /// Files that were being fetched.
    pub(crate) partials: Vec<PathBuf>,
    /// Blobs.
    pub(crate) blobs: Vec<PathBuf>,
}

impl Store {
    /// Decides what is not needed and removes it, while nobody builds, changes passports or begins to use a profile.
    ///
    /// # Errors
    /// Those of `decide`; a store that can't be written; cancelled.
    pub(crate) fn collect<T, E: From<StoreError>>(
        &self,
        waiting: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
        decide: impl FnOnce() -> Result<(T, Unneeded), E>,
    ) -> Result<T, E> {
        let _collecting = self.collecting(waiting, cancelled)?;
        self.with_passports(|| {
            let (decided, unneeded) = decide()?;
            self.remove_unneeded(&unneeded)?;
            Ok(decided)
        })
    }

    /// Does something that repairs the store, while nobody else changes it.
    ///
    /// # Errors
    /// Those of `repair`; a store that can't be written; cancelled.
    pub(crate) fn repairing<T, E: From<StoreError>>(
        &self,
        waiting: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
        repair: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let _collecting = self.collecting(waiting, cancelled)?;
        self.with_passports(repair)
    }

    fn remove_unneeded(&self, unneeded: &Unneeded) -> Result<(), StoreError> {
        let Unneeded { profiles, files, partials, blobs } = unneeded;
        oci::remove(self, profiles)?;
        for id in profiles {
            // First: without its passport, the record of a pull would own the files.
            self.remove_file(&self.pull_path(id))?;
            self.remove_file(&self.passport_path(id))?;
            for path in self.descriptions_of(id) {
                self.remove_file(&path)?;
            }
        }
        files.iter().try_for_each(|path| self.remove_file(path))?;
        for folder in ["nimctl/passports", "nimctl/builds"] {
            atomic_file::sync_folder(&self.root.join(folder)).map_err(|source| self.unwritable(source))?;
        }
        for path in partials {
            self.remove_partial(path)?;
        }
        self.remove_locks_of_nothing()?;
        blobs.iter().try_for_each(|path| self.remove_file(path))?;
        // Nobody can have taken it since it was found free.
        profiles.iter().try_for_each(|id| self.remove_file(&self.in_use_path(id)))
    }

    /// Removes a file; one that is gone already is no error.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), StoreError> {
        match fs_err::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unwritable(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes a file that was being fetched, and its lock, unless a process goes on with it.
    pub(crate) fn remove_partial(&self, path: &Path) -> Result<(), StoreError> {
        let lock_path = lock_of(path);
        let lock = FileLock::take(&lock_path, || false).map_err(|source| self.unwritable(source))?;
        if lock.is_some() {
            self.remove_file(path)?;
            self.remove_file(&lock_path)?;
        }
        Ok(())
    }

    /// Removes locks of partial files that are no longer there: a process was killed between the two.
    fn remove_locks_of_nothing(&self) -> Result<(), StoreError> {
        for lock_path in files_in(&self.root.join("nimctl/partial")) {
            let Some(name) = lock_path.to_str().and_then(|path| path.strip_suffix(".lock")) else { continue };
            let partial = PathBuf::from(name);
            if !partial.exists() {
                self.remove_partial(&partial)?;
            }
        }
        Ok(())
    }

    /// Returns whether a process puts this file together now.
    ///
    /// # Errors
    /// A lock file that can't be locked.
    pub(crate) fn is_fetched(&self, path: &Path) -> Result<bool, StoreError> {
        FileLock::is_held(&lock_of(path)).map_err(|source| StoreError::Io {
            doing: format!("asking who fetches {}", path.display()),
            source,
        })
    }

    /// Returns the files that are or were being fetched.
    pub(crate) fn partial_files(&self) -> Vec<PathBuf> {
        let is_lock = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lock");
        let mut files = files_in(&self.root.join("nimctl/partial"));
        files.retain(|path| !is_lock(path));
        files
    }

    /// Returns what is said about profiles beside their passports: recipes, samples of benchmarks and signatures.
    pub(crate) fn descriptions(&self) -> Vec<PathBuf> {
        ["origins", "bench", "signed"]
            .into_iter()
            .flat_map(|folder| files_in(&self.root.join("nimctl").join(folder)))
            .collect()
    }

    fn descriptions_of(&self, id: &ProfileId) -> [PathBuf; 4] {
        [self.origin_path(id), self.samples_path(id), self.signed_path(id), self.pull_path(id)]
    }

    /// Returns the bytes of a profile's passport and what is said about it.
    pub(crate) fn described_bytes(&self, id: &ProfileId) -> u64 {
        let passport = std::iter::once(self.passport_path(id));
        passport.chain(self.descriptions_of(id)).map(|path| taken_bytes(&path)).sum()
    }

    /// Takes profiles off the index.
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn unlist(&self, ids: &BTreeSet<ProfileId>) -> Result<(), StoreError> {
        oci::remove(self, ids)
    }

    /// Lists a profile in the index, if all of its files are there; writes its `contents.json` and OCI manifest where they are
    /// missing or damaged.
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn list_again(&self, passport: &Passport) -> Result<bool, StoreError> {
        oci::add_complete(self, passport)
    }

    /// Makes the index anew from the passports where it is absent or damaged.
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn mend_index(&self) -> Result<(), StoreError> {
        oci::mend_index(self)
    }

    /// Writes `oci-layout` where it is absent or damaged.
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn mend_layout(&self) -> Result<(), StoreError> {
        self.remove_file(&self.root.join("oci-layout"))?;
        oci::write_layout(&self.root).map_err(|source| self.unwritable(source))
    }

    /// Returns whether `oci-layout` says what it should.
    pub(crate) fn has_layout(&self) -> bool {
        oci::has_layout(&self.root)
    }

    /// Returns where the pin of a profile, of its file's name, would be.
    pub(crate) fn is_pin(&self, path: &Path) -> Option<ProfileId> {
        let id = ProfileId::from_hex(path.file_stem()?.to_str()?).ok()?;
        (self.pin_path(&id) == path).then_some(id)
    }

    /// Removes a blob that is damaged, and its chunk list.
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn remove_blob(&self, sha256: &Sha256) -> Result<(), StoreError> {
        self.remove_file(&self.chunk_list_path(sha256))?;
        self.remove_file(&self.blob_path(sha256))
    }
}

/// Returns what a file takes on the disk or has, whichever is less: files that are being fetched have holes. 0 if there is none.
pub(crate) fn taken_bytes(path: &Path) -> u64 {
    fs_err::metadata(path).map_or(0, |metadata| metadata.len().min(metadata.blocks() * BLOCK_BYTES))
}

fn lock_of(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

//! Passports of profiles, and the samples that their benchmarks are about: changed by one process at a time, each its own part.

use std::path::PathBuf;

use super::{Store, StoreError, oci};
use crate::benchmark::BenchStatus;
use crate::files::atomic_file;
use crate::files::file_lock::FileLock;
use crate::passport::{NOT_RUN, Origins, PASSPORT_SCHEMA, Passport, Status};
use crate::profile::ProfileId;
use crate::worklist::OutputFile;

impl Store {
    /// Writes a profile's passport, and lists the profile in the OCI index.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_profile(
        &self,
        passport: &Passport,
        contents_json: &str,
        files: &[OutputFile],
    ) -> Result<PathBuf, StoreError> {
        self.put_over(passport, contents_json, files, &|known| Ok(known.clone()))
    }

    /// Writes the passport of a profile that was built here. Results in a passport that was pulled are not of this machine: they do not stay.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_built_profile(
        &self,
        passport: &Passport,
        contents_json: &str,
        files: &[OutputFile],
    ) -> Result<PathBuf, StoreError> {
        self.put_over(passport, contents_json, files, &|known| self.with_results_of_here(known))
    }

    /// Returns a passport with the results that were found on this machine, and without those that came with a pull, of which nobody knows who
    /// wrote them.
    ///
    /// # Errors
    /// A store that can't be read.
    pub fn with_results_of_here(&self, known: &Passport) -> Result<Passport, StoreError> {
        let mut passport = known.clone();
        if self.origin(&known.id)?.is_some() {
            return Ok(passport);
        }
        let Origins { validation_key, bench_key, samples: _ } = known.made_of;
        if validation_key.is_none() {
            passport.validation = Status::Skipped(NOT_RUN.into());
        }
        if bench_key.is_none() {
            passport.bench = BenchStatus::Skipped(NOT_RUN.into());
        }
        Ok(passport)
    }

    fn put_over(
        &self,
        passport: &Passport,
        contents_json: &str,
        files: &[OutputFile],
        what_stays: &dyn Fn(&Passport) -> Result<Passport, StoreError>,
    ) -> Result<PathBuf, StoreError> {
        let path = self.passport_path(&passport.id);
        self.with_passports(|| {
            let config = self.put(contents_json.as_bytes())?;
            let known = self.read(&path, Passport::parse)?;
            let stays = known.as_ref().map(what_stays).transpose()?;
            let passport = match &stays {
                // Another process may have found something since this one was put together.
                Some(known) => passport.with_results_of(known),
                None => passport.clone(),
            };
            if known.as_ref().map(Passport::without_measurements) != Some(passport.without_measurements()) {
                self.write(&path, PASSPORT_SCHEMA, &passport)?;
            }
            oci::add_profile(self, &passport.id, config, contents_json.len() as u64, files)
        })?;
        Ok(path)
    }

    /// Returns a profile's passport, if it is there.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn passport(&self, id: &ProfileId) -> Result<Option<Passport>, StoreError> {
        self.read(&self.passport_path(id), Passport::parse)
    }

    /// Returns every passport that can be read, sorted by id.
    pub(crate) fn passports(&self) -> Result<Vec<Passport>, StoreError> {
        let folder = self.root.join("nimctl/passports");
        let io_error = |source| StoreError::Io { doing: "reading the store".into(), source };
        let mut passports = Vec::new();
        for entry in fs_err::read_dir(folder).map_err(io_error)? {
            let path = entry.map_err(io_error)?.path();
            let Some(bytes) = self.bytes(&path)? else { continue };
            passports.extend(Passport::parse(&bytes, &path.display().to_string()));
        }
        passports.sort_by_key(|passport| passport.id.to_string());
        Ok(passports)
    }

    /// Changes a part of a profile's passport, as it is now; `known` is changed and written in place of one that is gone. With
    /// `samples`, the file of every sample of its benchmark is replaced with it.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn change_passport(
        &self,
        known: &Passport,
        samples: Option<&[u8]>,
        change: impl FnOnce(&mut Passport),
    ) -> Result<(), StoreError> {
        self.with_passports(|| {
            let now = self.passport(&known.id)?;
            let mut passport = now.clone().unwrap_or_else(|| known.clone());
            change(&mut passport);
            if let Some(npz) = samples {
                let path = self.samples_path(&known.id);
                atomic_file::write(&path, npz).map_err(|source| self.unwritable(source))?;
            }
            if now.as_ref() == Some(&passport) {
                return Ok(());
            }
            self.write(&self.passport_path(&known.id), PASSPORT_SCHEMA, &passport)
        })
    }

    /// Writes a passport over the one that is there; to be called while no other process changes passports ([`Self::with_passports`]).
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn replace_passport(&self, passport: &Passport) -> Result<(), StoreError> {
        self.write(&self.passport_path(&passport.id), PASSPORT_SCHEMA, passport)
    }

    /// Does something while no other process changes passports, samples or the index.
    ///
    /// # Errors
    /// Those of `action`; a store that can't be written.
    pub(crate) fn with_passports<T, E: From<StoreError>>(
        &self,
        action: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let lock = FileLock::take(&self.root.join("passports.lock"), || true);
        let _lock = lock.map_err(|source| self.unwritable(source))?;
        action()
    }

    /// Returns where the samples of a profile's last benchmark are.
    pub fn samples_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/bench").join(format!("{id}.npz"))
    }

    /// Returns where a profile's passport is.
    pub fn passport_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/passports").join(format!("{id}.json"))
    }
}

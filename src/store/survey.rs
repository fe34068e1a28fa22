//! What a store has, and who needs what of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::found::{Found, FoundByCheck, QuantizedGraph};
use super::oci::{self, Listed};
use super::origin::Origin;
use super::{Parse, Pin, PullRecord, SignedProfile, Store, StoreError};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::passport::Passport;
use crate::profile::ProfileId;
use crate::stored_format::Unreadable;
use crate::worklist::{BuildKeyDocument, BuildRecord};

/// Everything that a store knows; the bytes of blobs are not read.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The profiles.
    pub(crate) passports: BTreeMap<ProfileId, Passport>,
    /// Records of finished jobs, by the 64 digits of their keys.
    pub(crate) records: BTreeMap<String, BuildRecord>,
    /// The key last built, by place.
    pub(crate) last: BTreeMap<String, String>,
    pub(crate) origins: BTreeMap<ProfileId, Origin>,
    pub(crate) pulls: BTreeMap<ProfileId, PullRecord>,
    pub(crate) pins: BTreeMap<ProfileId, Pin>,
    /// What the index lists; `None` if it is damaged.
    pub(crate) index: Option<Vec<Listed>>,
    /// Blobs, with their sizes in bytes.
    pub(crate) blobs: BTreeMap<Sha256, u64>,
    /// Files that can't be read, by path.
    pub(crate) unreadable: Vec<(PathBuf, Unreadable)>,
}

impl Store {
    /// Looks at everything in the store. Owners are looked at before blobs, so what is written meanwhile is missing nothing.
    ///
    /// # Errors
    /// A folder that can't be read, an index of a newer nimctl.
    pub(crate) fn survey(&self) -> Result<Survey, StoreError> {
        let mut survey = Survey { index: oci::listed(self)?, ..Survey::default() };
        let problems = &mut survey.unreadable;
        survey.passports = self.by_id("passports", Passport::parse, problems)?;
        survey.origins = self.by_id("origins", Origin::parse, problems)?;
        survey.pulls = self.by_id("pulls", PullRecord::parse, problems)?;
        survey.pins = self.by_id("pins", Pin::parse, problems)?;
        for path in self.files_below("last") {
            if let Some(document) = self.whole(&path, BuildKeyDocument::parse, problems)?
                && let Ok(key) = document.key()
            {
                survey.last.insert(self.shown(&path), key.to_hex());
            }
        }
        for path in self.files_below("builds") {
            if let Some(record) = self.whole(&path, BuildRecord::parse, problems)? {
                let is_its = path.file_stem().is_some_and(|stem| stem == record.key.to_hex().as_str());
                if is_its && record.document.key().is_ok_and(|key| key == record.key) {
                    survey.records.insert(record.key.to_hex(), record);
                } else {
                    let problem = "its key is not that of its document and name".into();
                    let shown = self.shown(&path);
                    problems.push((path, Unreadable::Damaged { path: shown, problem }));
                }
            }
        }
        survey.blobs = self.blobs()?;
        Ok(survey)
    }

    /// Returns the blobs with their sizes in bytes.
    pub(crate) fn blobs(&self) -> Result<BTreeMap<Sha256, u64>, StoreError> {
        let mut blobs = BTreeMap::new();
        for path in files_in(&self.root.join("blobs/sha256")) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let (Ok(sha256), Ok(metadata)) = (Sha256::from_hex(name), fs_err::metadata(&path)) {
                blobs.insert(sha256, metadata.len());
            }
        }
        Ok(blobs)
    }

    /// Returns the profiles that have a file in a folder of `nimctl/`.
    pub(super) fn ids_in(&self, folder: &str) -> Result<Vec<ProfileId>, StoreError> {
        let id = |path: &PathBuf| ProfileId::from_hex(path.file_stem()?.to_str()?).ok();
        Ok(files_in(&self.root.join("nimctl").join(folder)).iter().filter_map(id).collect())
    }

    /// Returns the files of results and signatures that can't be read: nothing refers to them, and they are found or pulled again.
    pub(crate) fn unreadable_results(&self) -> Result<Vec<(PathBuf, Unreadable)>, StoreError> {
        let mut problems = Vec::new();
        for path in self.files_below("mixed-precision") {
            if path.extension().is_some_and(|extension| extension == "json") {
                self.whole(&path, Found::parse, &mut problems)?;
            }
        }
        for path in self.files_below("quantized-graphs") {
            if path.extension().is_some_and(|extension| extension == "json") {
                self.whole(&path, QuantizedGraph::parse, &mut problems)?;
            }
        }
        for path in self.files_below("precision-checks") {
            self.whole(&path, FoundByCheck::parse, &mut problems)?;
        }
        for path in self.files_below("signed") {
            self.whole(&path, SignedProfile::parse, &mut problems)?;
        }
        Ok(problems)
    }

    fn by_id<T>(
        &self,
        folder: &str,
        parse: Parse<T>,
        problems: &mut Vec<(PathBuf, Unreadable)>,
    ) -> Result<BTreeMap<ProfileId, T>, StoreError> {
        let mut found = BTreeMap::new();
        for path in files_in(&self.root.join("nimctl").join(folder)) {
            let id = path.file_stem().and_then(|name| name.to_str()).map(ProfileId::from_hex);
            let Some(Ok(id)) = id else { continue };
            if let Some(value) = self.whole(&path, parse, problems)? {
                found.insert(id, value);
            }
        }
        Ok(found)
    }

    pub(super) fn whole<T>(
        &self,
        path: &Path,
        parse: Parse<T>,
        problems: &mut Vec<(PathBuf, Unreadable)>,
    ) -> Result<Option<T>, StoreError> {
        // Gone since its folder was listed.
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        match parse(&bytes, &self.shown(path)) {
            Ok(value) => Ok(Some(value)),
            Err(problem) => {
                problems.push((path.into(), problem));
                Ok(None)
            }
        }
    }

    /// Returns every file below a folder of `nimctl/`, but those in the making.
    pub(crate) fn files_below(&self, folder: &str) -> Vec<PathBuf> {
        let below = walkdir::WalkDir::new(self.root.join("nimctl").join(folder)).sort_by_file_name();
        below
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file() && !is_unfinished(entry.path()))
            .map(walkdir::DirEntry::into_path)
            .collect()
    }

    /// Returns a path as the store's own.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

impl Survey {
    /// Fails if a file can't be read that could say what is needed.
    pub(crate) fn refuse_unreadable(&self) -> Result<(), StoreError> {
        match self.unreadable.first() {
            Some((_, Unreadable::Newer(newer))) => Err(newer.clone().into()),
            Some((_, damaged)) => Err(StoreError::Unsure(damaged.clone())),
            None if self.index.is_none() => Err(StoreError::Unsure(Unreadable::Damaged {
                path: "index.json".into(),
                problem: "it is damaged".into(),
            })),
            None => Ok(()),
        }
    }

    /// Returns every blob that a profile's passport names, also those that are not there.
    pub(crate) fn blobs_of(&self, id: &ProfileId) -> BTreeSet<Sha256> {
        let mut blobs = BTreeSet::new();
        if let Some(passport) = self.passports.get(id) {
            blobs.extend(passport.contents.files.iter().map(|file| file.sha256));
            blobs.extend(passport.contents.to_canonical_json().map(|json| Sha256::of(json.as_bytes())).ok());
            let records = passport
                .graphs
                .values()
                .flat_map(|graph| std::iter::once(&graph.lowering).chain(&graph.compilation));
            blobs.extend(records.flat_map(BuildRecord::blobs));
        }
        let pull = self.pulls.get(id).filter(|pull| pull.is_complete);
        blobs.extend(pull.into_iter().flat_map(|pull| &pull.files).map(|file| file.sha256));
        let listed = self.index.iter().flatten().filter(|listed| listed.id.as_ref() == Some(id));
        blobs.extend(listed.flat_map(|listed| listed.blobs.iter().copied()));
        blobs
    }

    /// Returns the keys of the jobs that made a profile.
    pub(crate) fn keys_of(&self, id: &ProfileId) -> BTreeSet<String> {
        let graphs = self.passports.get(id).into_iter().flat_map(|passport| passport.graphs.values());
        let records = graphs.flat_map(|graph| std::iter::once(&graph.lowering).chain(&graph.compilation));
        records.map(|record| record.key.to_hex()).collect()
    }

    /// Returns whether a profile is what its recipe was last built to.
    pub(crate) fn is_last_build(&self, id: &ProfileId) -> bool {
        let last: BTreeSet<&String> = self.last.values().collect();
        let Some(passport) = self.passports.get(id) else { return false };
        if passport.graphs.is_empty()
            || !passport.graphs.values().all(|graph| last.contains(&graph.shipped().key.to_hex()))
        {
            return false;
        }
        // Two builds may differ in nothing that a job needs to know, and have the same jobs.
        let Some(origin) = self.origins.get(id) else { return true };
        let name = |id: &ProfileId| self.passports.get(id).map(|passport| &passport.name);
        self.origins.iter().all(|(other, found)| {
            found.recipe != origin.recipe || name(other) != name(id) || found.built_ms <= origin.built_ms
        })
    }

    /// Returns every profile: those with a passport, those that the index alone lists, and those that were pulled without a
    /// passport.
    pub(crate) fn ids(&self) -> BTreeSet<ProfileId> {
        let listed = self.index.iter().flatten().filter_map(|listed| listed.id);
        let pulled = self.pulls.iter().filter(|(_, pull)| pull.is_complete).map(|(id, _)| *id);
        self.passports.keys().copied().chain(listed).chain(pulled).collect()
    }

    /// Returns a profile's files with their sizes in bytes, each once.
    pub(crate) fn files_of(&self, id: &ProfileId) -> BTreeMap<Sha256, u64> {
        let files = match (self.passports.get(id), self.pulls.get(id)) {
            (Some(passport), _) => passport.contents.files.as_slice(),
            (None, Some(pull)) if pull.is_complete => pull.files.as_slice(),
            (None, _) => &[],
        };
        files.iter().map(|file| (file.sha256, file.size_bytes)).collect()
    }

    /// Returns when a profile came here: when its `contents.json` was written.
    pub(crate) fn came_at(&self, store: &Store, id: &ProfileId) -> Option<SystemTime> {
        let json = self.passports.get(id).and_then(|passport| passport.contents.to_canonical_json().ok());
        let blob = json.map(|json| store.blob_path(&Sha256::of(json.as_bytes())));
        let ways = blob.into_iter().chain([store.passport_path(id), store.pull_path(id)]);
        ways.into_iter().find_map(|path| fs_err::metadata(path).ok()?.modified().ok())
    }
}

/// Returns the files in a folder but those in the making, sorted; none if there is no folder.
pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_file() && !is_unfinished(path)).collect();
    files.sort();
    files
}

/// Returns whether a file is one in the making.
pub(crate) fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(atomic_file::is_temporary)
}

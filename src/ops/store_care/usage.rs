//! `store du`: which bytes are what.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::StoreCareError;
use crate::digest::Sha256;
use crate::store::{Store, Survey};

/// The unit in which file systems count what a file takes.
const BLOCK_BYTES: u64 = 512;

/// What bytes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Files of one profile.
    UniqueFiles,
    /// Files of several profiles, each counted once.
    SharedFiles,
    /// Lowered graphs and other results of jobs that no profile ships.
    Intermediate,
    /// `contents.json` of profiles and their OCI manifests.
    Documents,
    /// Files of pulls that run or ended early.
    Pulling,
    /// Files that nothing refers to.
    Unowned,
    /// Chunk lists of large files.
    ChunkLists,
    /// Files that are being fetched, or were when a pull ended early.
    Partial,
    /// Passports, records, references, samples of benchmarks: what was found out.
    Results,
    /// Folders and files of unfinished work.
    Unfinished,
}

impl Kind {
    /// Returns what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UniqueFiles => "files of one profile",
            Self::SharedFiles => "files of several profiles",
            Self::Intermediate => "lowered graphs and other intermediate outputs",
            Self::Documents => "contents.json and OCI manifests",
            Self::Pulling => "files of pulls that are not complete",
            Self::Unowned => "files without an owner",
            Self::ChunkLists => "chunk lists",
            Self::Partial => "partial fetches",
            Self::Results => "passports, records and results",
            Self::Unfinished => "leftovers and unfinished work",
        }
    }

    /// Returns its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::UniqueFiles => "unique_files",
            Self::SharedFiles => "shared_files",
            Self::Intermediate => "intermediate",
            Self::Documents => "documents",
            Self::Pulling => "pulling",
            Self::Unowned => "unowned",
            Self::ChunkLists => "chunk_lists",
            Self::Partial => "partial",
            Self::Results => "results",
            Self::Unfinished => "unfinished",
        }
    }
}

/// The files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindUsage {
    /// How many there are.
    pub files: u64,
    /// Bytes in them; of files with holes, what they take on the disk.
    pub size_bytes: u64,
}

/// What a store takes.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Each kind that there is.
    pub kinds: BTreeMap<Kind, KindUsage>,
}

impl Usage {
    /// Returns the bytes of all kinds.
    pub fn total_bytes(&self) -> u64 {
        self.kinds.values().map(|usage| usage.size_bytes).sum()
    }

    fn add(&mut self, kind: Kind, size_bytes: u64) {
        let usage = self.kinds.entry(kind).or_default();
        usage.files += 1;
        usage.size_bytes += size_bytes;
    }
}

/// Adds up what a store takes.
///
/// # Errors
/// A store that can't be read.
pub fn usage(store: &Store) -> Result<Usage, StoreCareError> {
    Ok(of(store, &store.survey()?))
}

pub(super) fn of(store: &Store, survey: &Survey) -> Usage {
    let mut usage = Usage::default();
    let kinds = kinds_of_blobs(survey);
    for (sha256, size_bytes) in &survey.blobs {
        usage.add(kinds.get(sha256).copied().unwrap_or(Kind::Unowned), *size_bytes);
    }
    for entry in walkdir::WalkDir::new(store.root()).into_iter().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path().strip_prefix(store.root()).unwrap_or(entry.path());
        let is_unfinished = crate::store::is_unfinished(path) || path.starts_with("tmp");
        if !metadata.is_file() || (path.starts_with("blobs") && !is_unfinished) {
            continue;
        }
        let kind = match path {
            _ if is_unfinished => Kind::Unfinished,
            path if path.starts_with("nimctl/chunks") => Kind::ChunkLists,
            path if path.starts_with("nimctl/partial") => Kind::Partial,
            path if is_lock(path) => continue,
            _ => Kind::Results,
        };
        let taken = if kind == Kind::Partial { metadata.blocks() * BLOCK_BYTES } else { metadata.len() };
        usage.add(kind, taken);
    }
    usage
}

fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock") || path == Path::new("lock")
}

fn kinds_of_blobs(survey: &Survey) -> BTreeMap<Sha256, Kind> {
    let mut kinds = BTreeMap::new();
    // What comes later says it better.
    for record in survey.records.values() {
        kinds.extend(record.blobs().map(|blob| (blob, Kind::Intermediate)));
    }
    for pull in survey.pulls.values().filter(|pull| !pull.is_complete) {
        kinds.extend(pull.files.iter().map(|file| (file.sha256, Kind::Pulling)));
    }
    for id in survey.ids() {
        for blob in survey.blobs_of(&id) {
            kinds.insert(blob, Kind::Intermediate);
        }
    }
    for listed in survey.index.iter().flatten() {
        kinds.extend(listed.blobs.iter().map(|blob| (*blob, Kind::Documents)));
    }
    let mut owners: BTreeMap<Sha256, u64> = BTreeMap::new();
    for id in survey.ids() {
        survey.files_of(&id).into_keys().for_each(|sha256| *owners.entry(sha256).or_default() += 1);
    }
    for passport in survey.passports.values() {
        if let Ok(json) = passport.contents.to_canonical_json() {
            kinds.insert(Sha256::of(json.as_bytes()), Kind::Documents);
        }
    }
    for (sha256, owners) in owners {
        kinds.insert(sha256, if owners > 1 { Kind::SharedFiles } else { Kind::UniqueFiles });
    }
    kinds
}

//! The store: an OCI image layout on disk, plus what only we need of it.
//!
//! ```text
//! oci-layout  index.json  blobs/sha256/<hex>      what registries and other clients read
//! nimctl/builds/<key>.json                        the record of each finished job
//! nimctl/last/<place>.json                        the key last built at a place, to say what changed
//! nimctl/passports/<id>.json                      one passport a profile
//! nimctl/bench/<id>.npz                           every sample of its last benchmark
//! nimctl/origins/<id>.json                        the recipe that a profile was built from
//! nimctl/pulls/<id>.json                          the place that a profile is or was pulled from
//! nimctl/pins/<id>.json                           a profile that a person wants to keep
//! nimctl/signed/<id>.json                         the signature that a profile was pulled with
//! nimctl/newest-releases/<hex>.json               the newest release of a model that a trust policy accepted
//! nimctl/mixed-precision/<key>.json               which nodes need FP32, found by running a graph; .jsonl while it runs
//! nimctl/quantized-graphs/<key>.json             how a graph was quantized, and the blobs of it; .jsonl while it is found
//! nimctl/chunks/<hex>.json                        the chunks of a large blob (crate::chunks)
//! nimctl/partial/<hex>                            a blob that is being fetched; what a kill leaves is gone on from
//! nimctl/precision-checks/<key>.json              whether a lowered graph keeps the numbers, found by running it
//! nimctl/in-use/<id>.lock                         shared by processes that read a profile's files
//! tmp/work-…  tmp/work-….lock                     folders of unfinished work, each held by the process that works there
//! lock                                            held by the one process that builds, or removes things
//! passports.lock                                  held while a passport or index.json is changed
//! gc.lock                                         held while things are removed; shared while a use of profiles begins
//! ```
//!
//! A blob is whole or absent: it is written in `tmp/`, synced and renamed. A process that is killed at any instant
//! leaves at most folders in `tmp/` and files named `.tmp-nimctl-…`, which the next process that opens the store removes, and blobs
//! that nothing refers to yet. What refers to others is written after them and removed before them: blobs, build record, last key;
//! blobs, passport, index.
//!
//! # Who waits for whom
//!
//! Reading needs no lock. Builds take turns (`lock`); pulls, validations, benchmarks and publishing run beside them and beside each
//! other. What they change of a passport or of `index.json` is changed in a moment, as it is then (`passports.lock`). Pulls that need
//! the same file take turns at that file (`nimctl/partial/<hex>.lock`), and the later one finds it there.
//!
//! Garbage collection ([`crate::ops::store_care`]) takes its turn with builds. It removes nothing that has an owner: a profile (a
//! passport, or an entry of `index.json`), the last build of a recipe (`nimctl/last`), a pull that runs, or one that ended early at
//! most [`PARTIAL_DAYS`] days ago. Profiles are removed only by limits that the user gives, and never one that is pinned, is a
//! recipe's last build, or is in use: whoever reads a profile's files holds `nimctl/in-use/<id>.lock` with others that do
//! ([`Store::hold`]), and a pull does from before it looks at what is here. A use begins under a shared `gc.lock`, which the
//! collector has alone while it decides and removes; that takes a moment, since it reads no blob. Locks go with the process that
//! holds them. Lock files of profiles and partial files are removed by whoever holds them, and those who waited take the lock of the
//! file that is at the path then ([`crate::files`]).
//!
//! Locks are `flock`s: they hold on local disks and, with Linux 2.6.12 and later, on NFS. On a file system without locks nothing is
//! collected.
//!
//! Files of `nimctl/` follow the rule of [`crate::stored_format`]: one that is damaged counts as absent, since it can be made
//! again; one of a newer nimctl is refused, and never overwritten. What the newest releases are can't be found again: one of those
//! that is damaged is refused, too. The collector refuses both: it can't know what they own.

mod chunk_lists;
mod error;
mod found;
mod in_use;
mod lay_out;
mod newest_releases;
mod oci;
mod origin;
mod passports;
mod pins;
mod pulls;
mod references;
mod remove;
mod signed;
mod space;
mod survey;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use chunk_lists::LEAST_LISTED_BYTES;
pub use error::StoreError;
pub use found::QuantizedGraph;
use found::{Found, FoundByCheck, MIXED_PRECISION_SCHEMA, PRECISION_CHECK_SCHEMA, QUANTIZED_GRAPH_SCHEMA};
pub use in_use::InUse;
use origin::Origin;
pub use pins::Pin;
pub use pulls::PullRecord;
pub(crate) use remove::{Unneeded, taken_bytes};
use serde::Serialize;
pub use signed::SignedProfile;
pub(crate) use space::is_full;
pub(crate) use survey::{Survey, is_unfinished};

use crate::chunks::{Digested, digest_and_cut};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::direct_file;
use crate::files::file_lock::FileLock;
use crate::files::work_folder::{self, WorkFolder};
use crate::mixed_precision::MixedPrecisionReport;
use crate::onnx::GraphDigest;
use crate::precision_check::PrecisionCheck;
use crate::profile::ProfileId;
use crate::stored_format::{self, Unreadable};
use crate::worklist::{BUILD_KEY_SCHEMA, BUILD_RECORD_SCHEMA, Job};
use crate::worklist::{BuildKey, BuildKeyDocument, BuildRecord, JobState, OutputFile, state};

/// How the bytes of a file are read; the path is only named in errors.
type Parse<T> = fn(&[u8], &str) -> Result<T, Unreadable>;

/// What a pull that ended early left is kept for so many days, so that the next one goes on from there.
pub const PARTIAL_DAYS: u64 = 7;
/// How the names of work folders begin.
const WORK_PREFIX: &str = "work-";

/// A store on disk.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The right to write; given up when dropped or when the process ends.
#[derive(Debug)]
pub struct WriteLock {
    _lock: FileLock,
}

impl Store {
    /// Opens a store, making the folders of a new one.
    ///
    /// # Errors
    /// A folder that can't be made or written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self { root: root.to_path_buf() };
        for folder in ["blobs/sha256", "nimctl/builds", "nimctl/last", "nimctl/passports", "tmp"] {
            fs_err::create_dir_all(root.join(folder)).map_err(|source| store.unwritable(source))?;
        }
        oci::write_layout(root).map_err(|source| store.unwritable(source))?;
        store.sweep();
        Ok(store)
    }

    /// Removes what processes that were killed left half done.
    fn sweep(&self) {
        let tmp = self.root.join("tmp");
        work_folder::sweep(&tmp, WORK_PREFIX);
        work_folder::sweep_without_locks(&tmp);
        let own = walkdir::WalkDir::new(self.root.join("nimctl")).into_iter().flatten();
        let own = own.filter(|entry| entry.file_type().is_dir()).map(walkdir::DirEntry::into_path);
        own.chain([self.root.clone(), self.root.join("blobs/sha256")])
            .for_each(|folder| atomic_file::sweep(&folder));
    }

    /// Opens a store that is there, as [`Self::open`] does.
    ///
    /// # Errors
    /// There is none; one that can't be written.
    pub fn open_existing(root: &Path) -> Result<Self, StoreError> {
        Self::look_at_existing(root)?;
        Self::open(root)
    }

    /// Opens a store that is there, without writing anything.
    ///
    /// # Errors
    /// There is none.
    pub fn look_at_existing(root: &Path) -> Result<Self, StoreError> {
        match root.join("blobs/sha256").is_dir() {
            true => Ok(Self::look_at(root)),
            false => Err(StoreError::NoStore { root: root.into() }),
        }
    }

    /// Opens a store that may not exist, without writing anything.
    pub fn look_at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Returns the store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Takes the write lock, and lists in the index what a process that was killed did not get to; one that is absent or damaged is
    /// made anew from the passports. `waiting` is called once if
    /// another process holds it; `cancelled` is asked while waiting.
    ///
    /// # Errors
    /// A store that can't be written; cancelled.
    pub fn lock(
        &self,
        waiting: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<WriteLock, StoreError> {
        let lock = self.lock_as_it_is(waiting, cancelled)?;
        self.with_passports(|| oci::mend_index(self))?;
        Ok(lock)
    }

    /// Takes the write lock, and leaves everything as it is.
    fn lock_as_it_is(
        &self,
        waiting: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<WriteLock, StoreError> {
        let mut waiting = Some(waiting);
        let lock = FileLock::take(&self.root.join("lock"), || {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            !cancelled()
        });
        let lock = lock.map_err(|source| self.unwritable(source))?.ok_or(StoreError::Cancelled)?;
        Ok(WriteLock { _lock: lock })
    }

    /// Makes a folder for files in the making, on the blobs' file system; removed when dropped, and after a kill by the next
    /// process that opens the store.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn work_folder(&self) -> Result<WorkFolder, StoreError> {
        WorkFolder::new_in(&self.root.join("tmp"), WORK_PREFIX).map_err(|source| self.unwritable(source))
    }

    /// Returns where a blob is, if it is there.
    pub fn blob_path(&self, sha256: &Sha256) -> PathBuf {
        self.root.join("blobs/sha256").join(sha256.to_hex())
    }

    /// Returns whether a blob is there with this size. Bytes are not read: a blob was verified when it came in, and
    /// `nimctl verify` reads them all.
    pub fn has_blob(&self, sha256: &Sha256, size_bytes: u64) -> bool {
        fs_err::metadata(self.blob_path(sha256))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() == size_bytes)
    }

    /// Adds a finished file of a work folder to the store, under its digest. The file is synced while its two
    /// digests are computed: on a fast disk this costs what the slower digest costs.
    ///
    /// # Errors
    /// A file that can't be read, a store that can't be written.
    pub fn adopt(&self, file: &Path, path_in_profile: &str) -> Result<OutputFile, StoreError> {
        let io_error =
            |source| StoreError::Io { doing: format!("adding {} to the store", file.display()), source };
        let (digests, synced) = std::thread::scope(|scope| {
            let synced = scope.spawn(|| fs_err::File::open(file)?.sync_all());
            let digests =
                direct_file::Reader::open(file).and_then(|mut reader| digest_and_cut(|| reader.next_chunk()));
            (digests, synced.join())
        });
        let Digested { sha256, blake3, chunks } = digests.map_err(io_error)?;
        let ended_early = |_| io::Error::other("the thread that syncs ended early");
        synced.map_err(ended_early).and_then(|result| result).map_err(io_error)?;
        // Over a blob that is there: its bytes may have been damaged since, and these were just hashed.
        fs_err::rename(file, self.blob_path(&sha256)).map_err(io_error)?;
        atomic_file::sync_folder(&self.root.join("blobs/sha256")).map_err(io_error)?;
        self.put_chunk_list(&sha256, &chunks)?;
        Ok(OutputFile { path: path_in_profile.into(), sha256, blake3, size_bytes: chunks.size_bytes })
    }

    /// Writes some bytes as a small blob, unless they are there and undamaged.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        let sha256 = Sha256::of(bytes);
        if self.get(&sha256).is_err() {
            atomic_file::write(&self.blob_path(&sha256), bytes).map_err(|source| self.unwritable(source))?;
        }
        Ok(sha256)
    }

    /// Reads a small blob and checks its digest.
    ///
    /// # Errors
    /// A blob that is missing, or whose bytes don't match.
    pub fn get(&self, sha256: &Sha256) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(sha256);
        let bytes = fs_err::read(&path)
            .map_err(|source| StoreError::Io { doing: format!("reading {sha256}"), source })?;
        let found = Sha256::of(&bytes);
        if found == *sha256 { Ok(bytes) } else { Err(StoreError::Damaged { path, expected: *sha256, found }) }
    }

    /// Reads a blob, and checks its digest.
    ///
    /// # Errors
    /// A blob that can't be read, or whose bytes don't match.
    pub fn check_blob(&self, sha256: &Sha256) -> Result<(), StoreError> {
        let path = self.blob_path(sha256);
        let (found, _) = Sha256::of_file(&path)
            .map_err(|source| StoreError::Io { doing: format!("reading {sha256}"), source })?;
        if found == *sha256 { Ok(()) } else { Err(StoreError::Damaged { path, expected: *sha256, found }) }
    }

    /// Decides whether a job must run, from what the store has.
    ///
    /// # Errors
    /// A record that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn job_state(&self, job: &Job) -> Result<JobState, StoreError> {
        let record = self
            .read(&self.record_path(&job.key), BuildRecord::parse)?
            .filter(|record: &BuildRecord| record.document == job.document);
        let missing = record
            .iter()
            .flat_map(|record| &record.outputs)
            .find(|output| !self.has_blob(&output.sha256, output.size_bytes))
            .map(|output| output.sha256);
        let mut last = None;
        if record.is_none() {
            for user in &job.users {
                last = last.or(self.read(&self.last_path(&user.place), BuildKeyDocument::parse)?);
            }
        }
        Ok(state(job, record, missing, last.as_ref()))
    }

    /// Remembers a finished job.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn remember(&self, job: &Job, record: &BuildRecord) -> Result<(), StoreError> {
        self.write(&self.record_path(&job.key), BUILD_RECORD_SCHEMA, record)?;
        self.remember_places(job)
    }

    /// Remembers that a job's key is the one last built at its places.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn remember_places(&self, job: &Job) -> Result<(), StoreError> {
        for user in &job.users {
            let path = self.last_path(&user.place);
            let known = self.read(&path, BuildKeyDocument::parse)?;
            if known.as_ref() != Some(&job.document) {
                self.write(&path, BUILD_KEY_SCHEMA, &job.document)?;
            }
        }
        Ok(())
    }

    /// Returns the recipe that a profile was built from on this machine, if that is known.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn origin(&self, id: &ProfileId) -> Result<Option<PathBuf>, StoreError> {
        let origin = self.read(&self.origin_path(id), Origin::parse)?;
        Ok(origin.map(|origin| origin.recipe))
    }

    fn origin_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/origins").join(format!("{id}.json"))
    }

    /// Returns which nodes of a graph were found to need FP32, if that is known.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn mixed_precision(&self, key: &Sha256) -> Result<Option<MixedPrecisionReport>, StoreError> {
        let found = self.read(&self.mixed_precision_path(key), Found::parse)?;
        Ok(found.map(|Found { schema: _, report }| report))
    }

    /// Remembers which nodes of a graph were found to need FP32; the journal of the search has had its day.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_mixed_precision(&self, key: &Sha256, report: &MixedPrecisionReport) -> Result<(), StoreError> {
        let found = Found { schema: MIXED_PRECISION_SCHEMA.into(), report: report.clone() };
        self.write(&self.mixed_precision_path(key), MIXED_PRECISION_SCHEMA, &found)?;
        match fs_err::remove_file(self.mixed_precision_journal(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unwritable(error)),
            _ => Ok(()),
        }
    }

    fn mixed_precision_path(&self, key: &Sha256) -> PathBuf {
        self.root.join("nimctl/mixed-precision").join(format!("{}.json", key.to_hex()))
    }

    /// Returns where a search for these nodes keeps its journal.
    pub fn mixed_precision_journal(&self, key: &Sha256) -> PathBuf {
        self.root.join("nimctl/mixed-precision").join(format!("{}.jsonl", key.to_hex()))
    }

    /// Returns how a graph was quantized, if that is known and the quantized graph is here.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn quantized_graph(&self, key: &Sha256) -> Result<Option<QuantizedGraph>, StoreError> {
        let found = self.read(&self.quantized_graph_path(key), QuantizedGraph::parse)?;
        Ok(found.filter(|found| self.has_graph(&found.graph)))
    }

    /// Returns whether all files of a graph are here.
    pub fn has_graph(&self, graph: &GraphDigest) -> bool {
        graph.files.iter().all(|file| self.has_blob(&file.sha256, file.size_bytes))
    }

    /// Remembers how a graph was quantized; the journal of the search has had its day. The quantized graph is here already.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_quantized_graph(&self, key: &Sha256, found: &QuantizedGraph) -> Result<(), StoreError> {
        self.write(&self.quantized_graph_path(key), QUANTIZED_GRAPH_SCHEMA, found)?;
        match fs_err::remove_file(self.quantized_graph_journal(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unwritable(error)),
            _ => Ok(()),
        }
    }

    fn quantized_graph_path(&self, key: &Sha256) -> PathBuf {
        self.root.join("nimctl/quantized-graphs").join(format!("{}.json", key.to_hex()))
    }

    /// Returns where a search for how to quantize a graph keeps its journal.
    pub fn quantized_graph_journal(&self, key: &Sha256) -> PathBuf {
        self.root.join("nimctl/quantized-graphs").join(format!("{}.jsonl", key.to_hex()))
    }

    /// Returns what a check of a lowered graph came to, if that is known.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn precision_check(&self, key: &Sha256) -> Result<Option<PrecisionCheck>, StoreError> {
        let found = self.read(&self.precision_check_path(key), FoundByCheck::parse)?;
        Ok(found.map(|FoundByCheck { schema: _, check }| check))
    }

    /// Remembers what a check of a lowered graph came to.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_precision_check(&self, key: &Sha256, check: &PrecisionCheck) -> Result<(), StoreError> {
        let found = FoundByCheck { schema: PRECISION_CHECK_SCHEMA.into(), check: check.clone() };
        self.write(&self.precision_check_path(key), PRECISION_CHECK_SCHEMA, &found)
    }

    fn precision_check_path(&self, key: &Sha256) -> PathBuf {
        self.root.join("nimctl/precision-checks").join(format!("{}.json", key.to_hex()))
    }

    fn record_path(&self, key: &BuildKey) -> PathBuf {
        self.root.join("nimctl/builds").join(format!("{}.json", key.to_hex()))
    }

    fn last_path(&self, place: &str) -> PathBuf {
        self.root.join("nimctl/last").join(format!("{place}.json"))
    }

    /// Reads a file of the store. One that is damaged counts as absent, since it can be made again.
    fn read<T>(&self, path: &Path, parse: Parse<T>) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        match parse(&bytes, &path.display().to_string()) {
            Ok(value) => Ok(Some(value)),
            Err(Unreadable::Damaged { path: _, problem: _ }) => Ok(None),
            Err(Unreadable::Newer(newer)) => Err(newer.into()),
        }
    }

    /// Writes a file of the store, unless a newer nimctl wrote what is there.
    fn write(&self, path: &Path, schema: &str, value: &impl Serialize) -> Result<(), StoreError> {
        if let Some(bytes) = self.bytes(path)? {
            stored_format::refuse_newer_json(&bytes, schema, path.display())?;
        }
        let text =
            serde_json::to_string_pretty(value).map_err(|error| self.unwritable(io::Error::other(error)))?;
        atomic_file::write(path, text.as_bytes()).map_err(|source| self.unwritable(source))
    }

    fn bytes(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match fs_err::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            // Below a file there is nothing either: who wants to write there is told so.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(source) => Err(StoreError::Io { doing: "reading the store".into(), source }),
        }
    }

    fn unwritable(&self, source: io::Error) -> StoreError {
        let root = self.root.clone();
        match space::is_full(&source) {
            true => StoreError::Full { free_bytes: self.free_bytes().unwrap_or_default(), root, source },
            false => StoreError::Unwritable { root, source },
        }
    }
}

#[cfg(test)]
mod tests;

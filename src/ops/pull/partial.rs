//! A file that is being put together, and what it takes: its place in the store, threads, and a count of what is there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::follower::Follower;
use super::{PullError, PullOptions};
use crate::chunks::{Chunk, MAX_CHUNK_BYTES};
use crate::digest::{Blake3, Sha256, both_of_chunks};
use crate::files::atomic_file;
use crate::files::file_lock::FileLock;
use crate::packs::IndexedFile;
use crate::store::Store;

/// Files are read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
/// More threads than this make nothing quicker.
const MAX_THREADS: usize = 16;

/// Chunks of a file, each with the places in the file where it belongs.
pub(super) type Wanted = BTreeMap<Chunk, Vec<u64>>;

/// A file that is put together, by this process alone. What a kill leaves of it, the next process goes on from.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) file: File,
    lock: PathBuf,
    _held: FileLock,
}

impl Partial {
    /// Opens it; while another process has it, waits, and returns `None` if that one finished it.
    pub(super) fn open(
        store: &Store,
        IndexedFile { sha256, size_bytes, .. }: &IndexedFile,
        suffix: &str,
        progress: &Progress<'_>,
    ) -> Result<Option<Self>, PullError> {
        let with = |path: &Path, suffix: &str| {
            let mut path = path.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        let path = with(&store.partial_path(sha256), suffix);
        let lock = with(&path, ".lock");
        let doing = || "making a place for a file that is fetched".to_owned();
        let io = |source| PullError::Io { doing: doing(), source };
        fs_err::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(io)?;
        let held =
            FileLock::take(&lock, || !progress.is_cancelled()).map_err(io)?.ok_or(PullError::Cancelled)?;
        // Another process may have finished it since this one looked, also without being waited for. What was damaged then may
        // still be.
        if store.has_blob(sha256, *size_bytes) && store.check_blob(sha256).is_ok() {
            let _ = fs_err::remove_file(&lock);
            return Ok(None);
        }
        let file = fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        Ok(Some(Self { path, file: file.map_err(io)?.into_parts().0, lock, _held: held }))
    }

    /// Returns the chunks that are not there yet; tells the follower of the others.
    pub(super) fn wanted(
        &self,
        file: &IndexedFile,
        follower: &Follower,
        progress: &Progress<'_>,
    ) -> Result<Wanted, PullError> {
        let is_new = self.file.metadata().map_err(io(&file.path))?.blocks() == 0;
        let mut wanted = Wanted::new();
        let mut buffer = vec![0; MAX_CHUNK_BYTES];
        let mut offset = 0;
        for placed in &file.chunks {
            progress.check()?;
            let chunk = placed.chunk;
            let bytes = &mut buffer[..chunk.length as usize];
            let is_there =
                !is_new && self.file.read_exact_at(bytes, offset).is_ok() && Chunk::of(bytes) == chunk;
            if is_there {
                follower.add(offset, u64::from(chunk.length));
                progress.add(u64::from(chunk.length));
            } else {
                wanted.entry(chunk).or_default().push(offset);
            }
            offset += u64::from(chunk.length);
        }
        Ok(wanted)
    }

    /// Makes it a blob.
    pub(super) fn finish(self, store: &Store, sha256: &Sha256) -> io::Result<()> {
        self.file.sync_all()?;
        let blob = store.blob_path(sha256);
        fs_err::rename(&self.path, &blob)?;
        atomic_file::sync_folder(blob.parent().unwrap_or(Path::new(".")))?;
        let _ = fs_err::remove_file(&self.lock);
        Ok(())
    }

    /// Forgets it.
    pub(super) fn remove(self) {
        let _ = fs_err::remove_file(&self.path);
        let _ = fs_err::remove_file(&self.lock);
    }
}

/// Returns both digests of a file and its size in bytes.
pub(super) fn digests_of(path: &Path) -> io::Result<(Sha256, Blake3, u64)> {
    let mut file = fs_err::File::open(path)?;
    both_of_chunks(|| piece(&mut file))
}

/// Returns the next bytes of a file; `None` at its end.
pub(super) fn piece(file: &mut fs_err::File) -> io::Result<Option<Vec<u8>>> {
    let mut piece = Vec::with_capacity(PIECE_BYTES as usize);
    file.take(PIECE_BYTES).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then_some(piece))
}

/// Works on tasks with several threads, until one fails.
pub(super) fn in_parallel<T: Sync>(
    tasks: &[T],
    progress: &Progress<'_>,
    work: impl Fn(&T) -> Result<(), PullError> + Sync,
) -> Result<(), PullError> {
    let next = AtomicUsize::new(0);
    let has_failed = AtomicBool::new(false);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..progress.options.parallel.clamp(1, MAX_THREADS).min(tasks.len()) {
            scope.spawn(|| {
                while !has_failed.load(Ordering::Relaxed) {
                    let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    if let Err(error) = progress.check().and_then(|()| work(task)) {
                        has_failed.store(true, Ordering::Relaxed);
                        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
    });
    // A request that was broken off because of a cancellation says something else.
    progress.check()?;
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Counts what is there of a profile, and asks whether to go on.
pub(super) struct Progress<'a> {
    done: AtomicU64,
    total: AtomicU64,
    options: &'a PullOptions<'a>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(total: u64, options: &'a PullOptions<'a>) -> Self {
        (options.on_bytes)(0, total);
        Self { done: AtomicU64::new(0), total: AtomicU64::new(total), options }
    }

    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let total = self.total.load(Ordering::Relaxed);
        (self.options.on_bytes)(done.min(total), total);
    }

    /// There is more than was known.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        (self.options.cancelled)()
    }

    pub(super) fn check(&self) -> Result<(), PullError> {
        if self.is_cancelled() { Err(PullError::Cancelled) } else { Ok(()) }
    }
}

pub(super) fn io(path: &str) -> impl Fn(io::Error) -> PullError {
    let doing = format!("putting together `{path}`");
    move |source| PullError::Io { doing: doing.clone(), source }
}

//! Reads every blob: both digests and the chunks of each, several at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{FsckOptions, StoreCareError};
use crate::chunks::{Chunk, ChunkList, Digested, MAX_CHUNK_BYTES, digest_and_cut};
use crate::digest::{Blake3, Sha256};
use crate::files::direct_file;
use crate::store::{LEAST_LISTED_BYTES, Store, StoreError};

/// A blob that was read.
#[derive(Debug)]
pub(super) enum Blob {
    /// It is what its name says.
    Whole {
        blake3: Blake3,
        /// How it is cut.
        chunks: ChunkList,
        /// Whether the list in the store is one of this blob.
        is_list_right: bool,
    },
    /// It has other bytes.
    Damaged { found: Sha256 },
    /// It can't be read.
    Unreadable(String),
}

/// Every blob, by its name.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    pub(super) by_name: BTreeMap<Sha256, Blob>,
    pub(super) count: usize,
    pub(super) read_bytes: u64,
}

/// Reads every blob; one that is removed meanwhile is left out.
pub(super) fn read_all(store: &Store, options: &FsckOptions<'_>) -> Result<Blobs, StoreCareError> {
    let blobs: Vec<(Sha256, u64)> = store.blobs()?.into_iter().collect();
    let total = blobs.iter().map(|(_, size_bytes)| size_bytes).sum();
    (options.on_bytes)(0, total);
    let (next, done, read) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let failed = Mutex::new(None);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.parallel.clamp(1, blobs.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some((sha256, _)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    let on_piece = |bytes: u64| {
                        let done = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
                        (options.on_bytes)(done.min(total), total);
                    };
                    match read_one(store, sha256, options, &on_piece) {
                        Ok(Some(blob)) => {
                            read.lock().unwrap_or_else(PoisonError::into_inner).insert(*sha256, blob);
                        }
                        Ok(None) => {}
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error.into());
    }
    let by_name = read.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Blobs { count: by_name.len(), by_name, read_bytes: done.into_inner() })
}

/// Reads a blob; `None` if it is gone.
pub(super) fn read_one(
    store: &Store,
    sha256: &Sha256,
    options: &FsckOptions<'_>,
    on_piece: &dyn Fn(u64),
) -> Result<Option<Blob>, StoreError> {
    let path = store.blob_path(sha256);
    let mut is_cancelled = false;
    let read = direct_file::Reader::open(&path).and_then(|mut reader| {
        digest_and_cut(|| {
            if (options.cancelled)() {
                is_cancelled = true;
                return Err(std::io::Error::other("cancelled"));
            }
            let piece = reader.next_chunk()?;
            on_piece(piece.as_ref().map_or(0, |piece| AsRef::<[u8]>::as_ref(piece).len() as u64));
            Ok(piece)
        })
    });
    if is_cancelled {
        return Err(StoreError::Cancelled);
    }
    Ok(match read {
        Err(_) if !path.exists() => None,
        Err(error) => Some(Blob::Unreadable(error.to_string())),
        Ok(Digested { sha256: found, .. }) if found != *sha256 => Some(Blob::Damaged { found }),
        Ok(Digested { sha256: _, blake3, chunks }) => {
            let is_list_right = match store.chunk_list(sha256) {
                Ok(None) => chunks.size_bytes < LEAST_LISTED_BYTES,
                // Whoever cut it: a list is right if its chunks are those of the file.
                Ok(Some(list)) => list == chunks || has_chunks(&path, &list),
                // It is not ours to judge.
                Err(StoreError::Newer(_)) => true,
                Err(error) => return Err(error),
            };
            Some(Blob::Whole { blake3, chunks, is_list_right })
        }
    })
}

/// Returns whether a file is cut as a list says.
fn has_chunks(path: &Path, list: &ChunkList) -> bool {
    use std::os::unix::fs::FileExt as _;
    let Ok(file) = fs_err::File::open(path) else { return false };
    if file.metadata().map(|metadata| metadata.len()).ok() != Some(list.size_bytes) {
        return false;
    }
    let mut buffer = vec![0; MAX_CHUNK_BYTES];
    list.placed().all(|(offset, chunk)| {
        let bytes = &mut buffer[..chunk.length as usize];
        file.file().read_exact_at(bytes, offset).is_ok() && Chunk::of(bytes) == chunk
    })
}

//! Puts files together: from chunks that are here, and parts of packs that are fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::follower::Follower;
use super::partial::{Partial, Progress, Wanted, digests_of, in_parallel, io, piece};
use super::{PullError, PullOptions, Pulled, output};
use crate::chunks::{Chunk, Digested, MAX_CHUNK_BYTES, digest_and_cut};
use crate::digest::Sha256;
use crate::oci::{Blob, Place};
use crate::packs::{IndexedFile, PackIndex};
use crate::store::{Store, taken_bytes};
use crate::worklist::OutputFile;

/// Chunks in a pack that are so near to each other are fetched together with what lies between them.
const NEAR_BYTES: u64 = 64 << 10;
/// One request is for at most this much: what is lost if it breaks.
const MAX_REQUEST_BYTES: u64 = 8 << 20;
/// As many chunks of a blob are one thread's work.
const CHUNKS_AT_A_TIME: usize = 128;

/// Chunks that are fetched with one request.
struct Request {
    pack: Blob,
    range: Range<u64>,
    /// Where each chunk begins in the pack.
    chunks: Vec<(u64, Chunk)>,
}

/// Puts every file of an index into the store.
pub(super) fn packed(
    place: &dyn Place,
    store: &Store,
    index: &PackIndex,
    pulled: &mut Pulled,
    options: &PullOptions<'_>,
) -> Result<Vec<OutputFile>, PullError> {
    let progress = Progress::new(pulled.files_bytes, options);
    let missing = missing(store, &index.files, pulled, &progress)?;
    check_space(store, &missing)?;
    for file in &missing {
        from_packs(place, store, index, file, pulled, &progress)
            .map_err(|error| told_if_full(error, store, &missing))?;
    }
    Ok(index.files.iter().map(|file| output(file, file.blake3)).collect())
}

/// Puts every file into the store, each from the blob of its digest.
pub(super) fn plain(
    place: &dyn Place,
    store: &Store,
    files: &[IndexedFile],
    pulled: &mut Pulled,
    options: &PullOptions<'_>,
) -> Result<Vec<OutputFile>, PullError> {
    let progress = Progress::new(pulled.files_bytes, options);
    let missing = missing(store, files, pulled, &progress)?;
    check_space(store, &missing)?;
    for file in &missing {
        from_blob(place, store, file, pulled, &progress)
            .map_err(|error| told_if_full(error, store, &missing))?;
    }
    let listed = |file: &IndexedFile| {
        let (_, blake3, _) = digests_of(&store.blob_path(&file.sha256)).map_err(io(&file.path))?;
        Ok(output(file, blake3))
    };
    files.iter().map(listed).collect()
}

/// Returns the files that the store does not have, or has damaged.
fn missing<'a>(
    store: &Store,
    files: &'a [IndexedFile],
    pulled: &mut Pulled,
    progress: &Progress<'_>,
) -> Result<Vec<&'a IndexedFile>, PullError> {
    let mut missing: Vec<&IndexedFile> = Vec::new();
    for file in files {
        progress.check()?;
        let is_here = store.has_blob(&file.sha256, file.size_bytes)
            && Sha256::of_file(&store.blob_path(&file.sha256)).is_ok_and(|(found, _)| found == file.sha256);
        if is_here {
            pulled.here_bytes += file.size_bytes;
            progress.add(file.size_bytes);
        } else if missing.iter().all(|other| other.sha256 != file.sha256) {
            missing.push(file);
        }
    }
    Ok(missing)
}

/// Returns what is still needed for files, less what is there of them.
fn needed_bytes(store: &Store, missing: &[&IndexedFile]) -> u64 {
    let needed = |file: &&IndexedFile| {
        // Another process may have finished it.
        if store.has_blob(&file.sha256, file.size_bytes) {
            return 0;
        }
        let partial = store.partial_path(&file.sha256);
        let stream = partial.with_extension("stream");
        file.size_bytes.saturating_sub(taken_bytes(&partial)).saturating_sub(taken_bytes(&stream))
    };
    missing.iter().map(needed).sum()
}

/// Says what is needed and free where an error means that the disk is full: others may have filled it since it was checked.
fn told_if_full(error: PullError, store: &Store, missing: &[&IndexedFile]) -> PullError {
    match store.free_bytes() {
        Some(free_bytes) if error.is_disk_full() => {
            PullError::NoSpace { free_bytes, needed_bytes: needed_bytes(store, missing) }
        }
        _ => error,
    }
}

/// Checks that the files fit.
fn check_space(store: &Store, missing: &[&IndexedFile]) -> Result<(), PullError> {
    let needed_bytes = needed_bytes(store, missing);
    // A file system that can't say how much is free says so when it is full.
    let Some(free_bytes) = store.free_bytes() else { return Ok(()) };
    if needed_bytes > free_bytes { Err(PullError::NoSpace { free_bytes, needed_bytes }) } else { Ok(()) }
}

/// A file that is put together from chunks.
struct Target<'a> {
    file: &'a IndexedFile,
    partial: Partial,
    follower: Follower,
}

fn from_packs(
    place: &dyn Place,
    store: &Store,
    index: &PackIndex,
    file: &IndexedFile,
    pulled: &mut Pulled,
    progress: &Progress<'_>,
) -> Result<(), PullError> {
    let Some(partial) = Partial::open(store, file, "", progress)? else {
        made_by_another(file, pulled, progress);
        return Ok(());
    };
    partial.file.set_len(file.size_bytes).map_err(io(&file.path))?;
    let target = Target { file, partial, follower: Follower::new(file.size_bytes) };
    let wanted = target.partial.wanted(file, &target.follower, progress)?;
    let (sha256, blake3) = std::thread::scope(|scope| {
        let Target { file: _, partial, follower } = &target;
        let digests = scope.spawn(|| follower.digests(&partial.file));
        let synced = scope.spawn(|| follower.sync(&partial.file));
        // Dropped whatever happens, so that no thread waits for what doesn't come.
        let ended = Ended(follower);
        target.fill(place, store, index, wanted, pulled, progress)?;
        drop(ended);
        let early = |_| std::io::Error::other("a thread ended early");
        synced.join().map_err(early).and_then(|result| result).map_err(io(&file.path))?;
        digests.join().map_err(early).and_then(|result| result).map_err(io(&file.path))
    })?;
    if (sha256, blake3) != (file.sha256, file.blake3) {
        target.partial.remove();
        return Err(PullError::BadFile { path: file.path.clone(), expected: file.sha256, found: sha256 });
    }
    if let Ok(list) = PackIndex::chunk_list(file) {
        store.put_chunk_list(&file.sha256, &list)?;
    }
    target.partial.finish(store, &file.sha256).map_err(io(&file.path))
}

/// Tells a follower that nothing more comes.
struct Ended<'a>(&'a Follower);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Counts a file that another process fetched meanwhile.
fn made_by_another(file: &IndexedFile, pulled: &mut Pulled, progress: &Progress<'_>) {
    pulled.here_bytes += file.size_bytes;
    progress.add(file.size_bytes);
}

fn size_bytes(wanted: &Wanted) -> u64 {
    wanted.iter().map(|(chunk, places)| u64::from(chunk.length) * places.len() as u64).sum()
}

impl Target<'_> {
    /// Puts every wanted chunk where it belongs: fetches those that no file here has, and copies the others. The follower reads
    /// up to the first gap, so what is fetched, which may be little, comes first.
    fn fill(
        &self,
        place: &dyn Place,
        store: &Store,
        index: &PackIndex,
        mut wanted: Wanted,
        pulled: &mut Pulled,
        progress: &Progress<'_>,
    ) -> Result<(), PullError> {
        let needed: BTreeSet<Chunk> = wanted.keys().copied().collect();
        let here = store.find_chunks(&needed)?;
        let mut local = Wanted::new();
        wanted.retain(|chunk, places| {
            let is_here = here.contains_key(chunk);
            if is_here {
                local.insert(*chunk, std::mem::take(places));
            }
            !is_here
        });
        pulled.fetched_bytes += self.fetch(place, index, &wanted, progress)?;
        let before = size_bytes(&local);
        self.copy(here, &mut local, progress)?;
        pulled.reused_bytes += before - size_bytes(&local);
        // What was damaged here.
        pulled.fetched_bytes += self.fetch(place, index, &local, progress)?;
        Ok(())
    }

    /// Fetches chunks; returns how many bytes came.
    fn fetch(
        &self,
        place: &dyn Place,
        index: &PackIndex,
        wanted: &Wanted,
        progress: &Progress<'_>,
    ) -> Result<u64, PullError> {
        let fetched = AtomicU64::new(0);
        let requests = requests(index, self.file, wanted, place.reads_ranges());
        in_parallel(&requests, progress, |request| {
            let Request { pack, range, chunks } = request;
            let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
            place.read_blob(pack, range.clone(), &mut |piece| {
                go_on(progress)?;
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            for (offset, chunk) in chunks {
                let start = usize::try_from(offset - range.start).unwrap_or(usize::MAX);
                let found = bytes.get(start..start.saturating_add(chunk.length as usize));
                let Some(found) = found.filter(|found| Chunk::of(found) == *chunk) else {
                    let (place, offset) = (place.name(), *offset);
                    return Err(PullError::BadChunk { place, pack: pack.digest, offset });
                };
                self.put(wanted, *chunk, found, progress)?;
            }
            Ok(())
        })?;
        Ok(fetched.into_inner())
    }

    /// Copies what other blobs here have; what is damaged there stays wanted.
    fn copy(
        &self,
        here: BTreeMap<Chunk, (PathBuf, u64)>,
        wanted: &mut Wanted,
        progress: &Progress<'_>,
    ) -> Result<(), PullError> {
        let mut by_blob: BTreeMap<PathBuf, Vec<(u64, Chunk)>> = BTreeMap::new();
        for (chunk, (blob, offset)) in here {
            by_blob.entry(blob).or_default().push((offset, chunk));
        }
        let mut parts: Vec<(PathBuf, Vec<(u64, Chunk)>)> = Vec::new();
        for (blob, mut chunks) in by_blob {
            chunks.sort_unstable();
            parts.extend(chunks.chunks(CHUNKS_AT_A_TIME).map(|part| (blob.clone(), part.to_vec())));
        }
        let copied = Mutex::new(Vec::new());
        in_parallel(&parts, progress, |(blob, chunks)| {
            let Ok(source) = fs_err::File::open(blob) else { return Ok(()) };
            let mut buffer = vec![0; MAX_CHUNK_BYTES];
            let mut done = Vec::new();
            for (offset, chunk) in chunks {
                let bytes = &mut buffer[..chunk.length as usize];
                if source.file().read_exact_at(bytes, *offset).is_ok() && Chunk::of(bytes) == *chunk {
                    self.put(wanted, *chunk, bytes, progress)?;
                    done.push(*chunk);
                }
            }
            copied.lock().unwrap_or_else(PoisonError::into_inner).extend(done);
            Ok(())
        })?;
        for chunk in copied.into_inner().unwrap_or_else(PoisonError::into_inner) {
            wanted.remove(&chunk);
        }
        Ok(())
    }

    /// Writes a chunk to every place where it belongs.
    fn put(
        &self,
        wanted: &Wanted,
        chunk: Chunk,
        bytes: &[u8],
        progress: &Progress<'_>,
    ) -> Result<(), PullError> {
        let length = u64::from(chunk.length);
        for place in wanted.get(&chunk).into_iter().flatten() {
            self.partial.file.write_all_at(bytes, *place).map_err(io(&self.file.path))?;
            self.follower.add(*place, length);
            progress.add(length);
        }
        Ok(())
    }
}

/// Returns the requests for wanted chunks: near ones together, in the order of the packs.
fn requests(index: &PackIndex, file: &IndexedFile, wanted: &Wanted, in_parts: bool) -> Vec<Request> {
    let mut places: Vec<(u32, u64, Chunk)> = file
        .chunks
        .iter()
        .filter(|placed| wanted.contains_key(&placed.chunk))
        .map(|placed| (placed.pack, placed.offset, placed.chunk))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut requests: Vec<Request> = Vec::new();
    for (pack, offset, chunk) in places {
        let Some(pack) = index.packs.get(pack as usize) else { continue };
        let end = offset + u64::from(chunk.length);
        let joins = |last: &&mut Request| {
            let is_near = offset.saturating_sub(last.range.end) <= NEAR_BYTES;
            last.pack.digest == pack.digest
                && (!in_parts || is_near && end - last.range.start <= MAX_REQUEST_BYTES)
        };
        match requests.last_mut().filter(joins) {
            Some(last) => {
                last.range.end = last.range.end.max(end);
                last.chunks.push((offset, chunk));
            }
            None => {
                let range = if in_parts { offset..end } else { 0..pack.size_bytes };
                requests.push(Request {
                    pack: Blob { digest: pack.digest, size_bytes: pack.size_bytes },
                    range,
                    chunks: vec![(offset, chunk)],
                });
            }
        }
    }
    requests
}

/// Fetches a file as one blob, from where an earlier try ended.
fn from_blob(
    place: &dyn Place,
    store: &Store,
    file: &IndexedFile,
    pulled: &mut Pulled,
    progress: &Progress<'_>,
) -> Result<(), PullError> {
    let Some(partial) = Partial::open(store, file, ".stream", progress)? else {
        made_by_another(file, pulled, progress);
        return Ok(());
    };
    loop {
        let start = partial.file.metadata().map_err(io(&file.path))?.len().min(file.size_bytes);
        let mut end = start;
        progress.add(start);
        place.read_blob(
            &Blob { digest: file.sha256, size_bytes: file.size_bytes },
            start..file.size_bytes,
            &mut |piece| {
                go_on(progress)?;
                partial.file.write_all_at(piece, end)?;
                end += piece.len() as u64;
                progress.add(piece.len() as u64);
                Ok(())
            },
        )?;
        pulled.fetched_bytes += end - start;
        partial.file.set_len(file.size_bytes).map_err(io(&file.path))?;
        let mut reader = fs_err::File::open(&partial.path).map_err(io(&file.path))?;
        let Digested { sha256, blake3: _, chunks } =
            digest_and_cut(|| piece(&mut reader)).map_err(io(&file.path))?;
        if sha256 == file.sha256 {
            store.put_chunk_list(&sha256, &chunks)?;
            return partial.finish(store, &sha256).map_err(io(&file.path));
        }
        if start == 0 {
            partial.remove();
            return Err(PullError::BadFile { path: file.path.clone(), expected: file.sha256, found: sha256 });
        }
        // What was there was not its beginning.
        partial.file.set_len(0).map_err(io(&file.path))?;
    }
}

fn go_on(progress: &Progress<'_>) -> io::Result<()> {
    if progress.is_cancelled() { Err(io::Error::other("cancelled")) } else { Ok(()) }
}

//! What lies beside large blobs: their chunk lists, and parts of blobs that are being fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::{Store, StoreError};
use crate::chunks::{CHUNK_LIST_SCHEMA, Chunk, ChunkList};
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::stored_format::{self, Unreadable};

/// Blobs of fewer bytes have no list: they are quickly cut again.
pub(crate) const LEAST_LISTED_BYTES: u64 = 1 << 20;

impl Store {
    /// Returns the chunks of a blob, if they are known.
    ///
    /// # Errors
    /// A list that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn chunk_list(&self, sha256: &Sha256) -> Result<Option<ChunkList>, StoreError> {
        let path = self.chunk_list_path(sha256);
        let Some(bytes) = self.bytes(&path)? else { return Ok(None) };
        match ChunkList::parse(&bytes, sha256, &path.display().to_string()) {
            Ok(list) => Ok(Some(list)),
            Err(Unreadable::Damaged { path: _, problem: _ }) => Ok(None),
            Err(Unreadable::Newer(newer)) => Err(newer.into()),
        }
    }

    /// Remembers the chunks of a blob.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_chunk_list(&self, sha256: &Sha256, list: &ChunkList) -> Result<(), StoreError> {
        if list.size_bytes < LEAST_LISTED_BYTES {
            return Ok(());
        }
        let path = self.chunk_list_path(sha256);
        if let Some(bytes) = self.bytes(&path)? {
            stored_format::refuse_newer_json(&bytes, CHUNK_LIST_SCHEMA, path.display())?;
        }
        let json = list.to_json(sha256);
        atomic_file::write(&path, json.as_bytes()).map_err(|source| self.unwritable(source))
    }

    /// Returns where some of these chunks lie: the blob and the offset in it, in bytes. Blobs may have been damaged since they were
    /// cut: what is read has to be compared with the chunk's digest.
    ///
    /// # Errors
    /// A store that can't be read.
    pub fn find_chunks(
        &self,
        needed: &BTreeSet<Chunk>,
    ) -> Result<BTreeMap<Chunk, (PathBuf, u64)>, StoreError> {
        let mut found = BTreeMap::new();
        let folder = self.root.join("nimctl/chunks");
        let Ok(entries) = fs_err::read_dir(folder) else { return Ok(found) };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(sha256) = Sha256::from_hex(name) else { continue };
            // What a newer nimctl wrote is of no use here.
            let Ok(Some(list)) = self.chunk_list(&sha256) else { continue };
            if !self.has_blob(&sha256, list.size_bytes) {
                continue;
            }
            for (offset, chunk) in list.placed().filter(|(_, chunk)| needed.contains(chunk)) {
                found.entry(chunk).or_insert_with(|| (self.blob_path(&sha256), offset));
            }
        }
        Ok(found)
    }

    /// Returns where a blob is put together that is being fetched. What a kill leaves there is gone on from.
    pub fn partial_path(&self, sha256: &Sha256) -> PathBuf {
        self.root.join("nimctl/partial").join(sha256.to_hex())
    }

    pub(super) fn chunk_list_path(&self, sha256: &Sha256) -> PathBuf {
        self.root.join("nimctl/chunks").join(format!("{}.json", sha256.to_hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::Chunker;

    #[test]
    fn chunks_of_large_blobs_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = (0..2 << 20).map(|_| random.u8(..)).collect();
        let work = store.work_folder().unwrap();
        let file = work.path().join("plan");
        fs_err::write(&file, &bytes).unwrap();
        let adopted = store.adopt(&file, "plan").unwrap();
        let mut chunker = Chunker::default();
        chunker.push(&bytes);
        let list = chunker.finish();
        assert_eq!(store.chunk_list(&adopted.sha256).unwrap().as_ref(), Some(&list));
        let (offset, second) = list.placed().nth(1).unwrap();
        let other = Chunk::of(b"other");
        let found = store.find_chunks(&BTreeSet::from([second, other])).unwrap();
        assert_eq!(found, BTreeMap::from([(second, (store.blob_path(&adopted.sha256), offset))]));
        // A damaged list counts as absent, and a blob that is gone is not found.
        fs_err::write(store.chunk_list_path(&adopted.sha256), "{").unwrap();
        assert_eq!(store.chunk_list(&adopted.sha256).unwrap(), None);
        store.put_chunk_list(&adopted.sha256, &list).unwrap();
        fs_err::remove_file(store.blob_path(&adopted.sha256)).unwrap();
        assert!(store.find_chunks(&BTreeSet::from([second])).unwrap().is_empty());
    }
}

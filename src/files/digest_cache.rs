//! Digests of large files that users bring, remembered by path and file status.
//!
//! Only a cache: one that can't be read or written costs time, nothing else. One of a newer nimctl is not used, and left as it
//! is.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::files::read_file::{self, ReadFile, Status};
use crate::stored_format::{self, Unreadable};

const SCHEMA: &str = "nimctl.digest-cache/1";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    schema: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    status: Status,
    sha256: Sha256,
}

/// Returns the digest and size of a file, from the cache where the file is what it was.
///
/// # Errors
/// The file can't be read, or changes while it is.
pub(crate) fn digest_of_file(path: &Path, cache_path: &Path) -> io::Result<(Sha256, u64)> {
    digest_of_open(&ReadFile::open(path)?, path, cache_path)
}

/// Returns the digest and size of an open file; `path` is the one that it is remembered by.
///
/// # Errors
/// As [`digest_of_file`].
pub(crate) fn digest_of_open(file: &ReadFile, path: &Path, cache_path: &Path) -> io::Result<(Sha256, u64)> {
    let key = path.to_str();
    if let Some(known) = key.and_then(|key| read(cache_path)?.files.remove(key))
        && known.status == file.status()
    {
        return Ok((known.sha256, file.size_bytes()));
    }
    let sha256 = read_file::digest(file)?;
    if let Some(key) = key
        && file.is_settled()
        // Read again: another process may have added to it while this one hashed.
        && let Some(mut cache) = read(cache_path)
    {
        cache.schema = SCHEMA.into();
        cache.files.retain(|path, _| Path::new(path).exists());
        cache.files.insert(key.into(), Entry { status: file.status(), sha256 });
        if let Ok(bytes) = serde_json::to_vec_pretty(&cache) {
            let _ = atomic_file::write(cache_path, &bytes);
        }
    }
    Ok((sha256, file.size_bytes()))
}

/// Returns the cache, an empty one if there is none that can be read; `None` if a newer nimctl wrote it.
fn read(path: &Path) -> Option<Cache> {
    let Ok(bytes) = fs_err::read(path) else { return Some(Cache::default()) };
    match stored_format::from_json(&bytes, SCHEMA, path.display()) {
        Ok(cache) => Some(cache),
        Err(Unreadable::Damaged { path: _, problem: _ }) => Some(Cache::default()),
        Err(Unreadable::Newer(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_young_file_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("lib.so"), folder.path().join("cache.json"));
        atomic_file::write(&file, b"one").unwrap();
        assert_eq!(digest_of_file(&file, &cache).unwrap(), (Sha256::of(b"one"), 3));
        assert!(!cache.exists());
    }

    #[test]
    fn an_entry_counts_only_for_the_same_status() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("lib.so"), folder.path().join("cache.json"));
        atomic_file::write(&file, b"one").unwrap();
        let mut entry =
            Entry { status: ReadFile::open(&file).unwrap().status(), sha256: Sha256::of(b"remembered") };
        let write = |entry: &Entry| {
            let files = BTreeMap::from([(file.to_str().unwrap().to_string(), entry.clone())]);
            let bytes = serde_json::to_vec(&Cache { schema: SCHEMA.into(), files }).unwrap();
            atomic_file::write(&cache, &bytes).unwrap();
        };
        write(&entry);
        assert_eq!(digest_of_file(&file, &cache).unwrap().0, Sha256::of(b"remembered"));
        let other = folder.path().join("other");
        fs_err::write(&other, b"one").unwrap();
        entry.status = ReadFile::open(&other).unwrap().status();
        write(&entry);
        assert_eq!(digest_of_file(&file, &cache).unwrap().0, Sha256::of(b"one"));
        atomic_file::write(&cache, b"{ not json").unwrap();
        assert_eq!(digest_of_file(&file, &cache).unwrap().0, Sha256::of(b"one"));
    }

    /// A file of an earlier nimctl, which must stay readable.
    #[test]
    fn the_golden_file_is_read() {
        let golden = include_bytes!("../../tests/fixtures/formats/digest-cache.json");
        let cache: Cache = stored_format::from_json(golden, SCHEMA, "golden").unwrap();
        assert_eq!(cache.files["/libraries/libx.so"].sha256, Sha256::of(b"one"));
    }

    #[test]
    fn a_newer_cache_is_neither_used_nor_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("lib.so"), folder.path().join("cache.json"));
        atomic_file::write(&file, b"one").unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        fs_err::File::options().write(true).open(&file).unwrap().into_parts().0.set_modified(old).unwrap();
        let newer = br#"{"schema": "nimctl.digest-cache/2", "entries": []}"#;
        atomic_file::write(&cache, newer).unwrap();
        assert_eq!(digest_of_file(&file, &cache).unwrap(), (Sha256::of(b"one"), 3));
        assert_eq!(fs_err::read(&cache).unwrap(), newer);
        assert!(read(&cache).is_none());
    }
}

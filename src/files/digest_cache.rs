//! Digests of large files that users bring, remembered by path and file status.
//!
//! Only a cache: one that can't be read or written costs time, nothing else. One of a newer nimctl is not used, and left as it
//! is.

#![expect(clippy::disallowed_methods, reason = "the age of a file is measured")]

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::stored_format::{self, Unreadable};

const SCHEMA: &str = "nimctl.digest-cache/1";
/// A file changed so recently may change again within the file system's clock tick, and look the same.
const SETTLED_NS: i128 = 2_000_000_000;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    size_bytes: u64,
    mtime_ns: i64,
    // The time of the last change of status can't be set back, as the time of modification can.
    ctime_ns: i64,
    inode: u64,
    device: u64,
}

impl Status {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs_err::metadata(path)?;
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Ok(Self {
            size_bytes: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        })
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let now_ns = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        [self.mtime_ns, self.ctime_ns].into_iter().all(|time_ns| now_ns - i128::from(time_ns) >= SETTLED_NS)
    }
}

/// Returns the digest and size of a file, from the cache where the file is what it was.
///
/// # Errors
/// The file can't be read.
pub(crate) fn digest_of_file(path: &Path, cache_path: &Path) -> io::Result<(Sha256, u64)> {
    let status = Status::of(path)?;
    let key = path.to_str();
    if let Some(known) = key.and_then(|key| read(cache_path)?.files.remove(key))
        && known.status == status
    {
        return Ok((known.sha256, status.size_bytes));
    }
    let (sha256, size_bytes) = Sha256::of_file(path)?;
    if let Some(key) = key
        && Status::of(path)? == status
        && status.is_settled(SystemTime::now())
        // Read again: another process may have added to it while this one hashed.
        && let Some(mut cache) = read(cache_path)
    {
        cache.schema = SCHEMA.into();
        cache.files.retain(|path, _| Path::new(path).exists());
        cache.files.insert(key.into(), Entry { status, sha256 });
        if let Ok(bytes) = serde_json::to_vec_pretty(&cache) {
            let _ = atomic_file::write(cache_path, &bytes);
        }
    }
    Ok((sha256, size_bytes))
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_young_file_is_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("lib.so"), folder.path().join("cache.json"));
        atomic_file::write(&file, b"one").unwrap();
        assert_eq!(digest_of_file(&file, &cache).unwrap(), (Sha256::of(b"one"), 3));
        assert!(!cache.exists());
        let status = Status::of(&file).unwrap();
        assert!(!status.is_settled(SystemTime::now()));
        assert!(status.is_settled(SystemTime::now() + Duration::from_secs(3)));
    }

    #[test]
    fn an_entry_counts_only_for_the_same_status() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cache) = (folder.path().join("lib.so"), folder.path().join("cache.json"));
        atomic_file::write(&file, b"one").unwrap();
        let mut entry = Entry { status: Status::of(&file).unwrap(), sha256: Sha256::of(b"remembered") };
        let write = |entry: &Entry| {
            let files = BTreeMap::from([(file.to_str().unwrap().to_string(), entry.clone())]);
            let bytes = serde_json::to_vec(&Cache { schema: SCHEMA.into(), files }).unwrap();
            atomic_file::write(&cache, &bytes).unwrap();
        };
        write(&entry);
        assert_eq!(digest_of_file(&file, &cache).unwrap().0, Sha256::of(b"remembered"));
        entry.status.mtime_ns += 1;
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
        let old = SystemTime::now() - Duration::from_secs(60);
        fs_err::File::options().write(true).open(&file).unwrap().into_parts().0.set_modified(old).unwrap();
        let newer = br#"{"schema": "nimctl.digest-cache/2", "entries": []}"#;
        atomic_file::write(&cache, newer).unwrap();
        assert_eq!(digest_of_file(&file, &cache).unwrap(), (Sha256::of(b"one"), 3));
        assert_eq!(fs_err::read(&cache).unwrap(), newer);
        assert!(read(&cache).is_none());
    }
}

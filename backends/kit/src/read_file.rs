//! A file that is open for reading, and whether it is still what it was.

#![expect(clippy::disallowed_methods, reason = "the age of a file is measured")]

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A file changed so recently may change again within the file system's clock tick, and look the same.
const SETTLED_NS: i128 = 2_000_000_000;

/// What a file system says of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    size_bytes: u64,
    mtime_ns: i64,
    // The time of the last change of status can't be set back, as the time of modification can.
    ctime_ns: i64,
    inode: u64,
    device: u64,
}

impl Status {
    fn of(metadata: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            size_bytes: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// Returns whether a later change would show, at this time.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let now_ns = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
        [self.mtime_ns, self.ctime_ns].into_iter().all(|time_ns| now_ns - i128::from(time_ns) >= SETTLED_NS)
    }
}

/// A file that is open for reading. Whatever its path leads to later, this is read.
#[derive(Debug)]
pub struct ReadFile {
    path: PathBuf,
    file: File,
    status: Status,
    is_settled: bool,
}

impl ReadFile {
    /// Opens a file.
    ///
    /// # Errors
    /// I/O errors, with the path; `InvalidInput` if it is not a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening: opening a named pipe waits for its writer.
        if !fs_err::metadata(path)?.is_file() {
            let what = format!("{} is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let file = fs_err::File::open(path)?.into_parts().0;
        let status = Status::of(&file.metadata()?);
        Ok(Self { path: path.into(), file, status, is_settled: status.is_settled(SystemTime::now()) })
    }

    /// Returns the path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the size that it had when it was opened.
    pub fn size_bytes(&self) -> u64 {
        self.status.size_bytes
    }

    /// Returns a reader of the whole file, from its beginning.
    pub fn reader(&self) -> impl Read {
        struct FromStart<'a>(&'a File, u64);
        impl Read for FromStart<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.0.read_at(buffer, self.1)?;
                self.1 += count as u64;
                Ok(count)
            }
        }
        FromStart(&self.file, 0)
    }

    /// Returns what its file system said of it when it was opened.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Returns whether any change since would show in its status: it was not changed just before it was opened.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Returns whether its status is another one now.
    ///
    /// # Errors
    /// I/O errors.
    pub fn has_another_status(&self) -> io::Result<bool> {
        Ok(Status::of(&self.file.metadata()?) != self.status)
    }

    /// Returns whether its path still leads to it.
    pub fn is_at_its_path(&self) -> bool {
        is_at_its_target(&self.file, &self.path)
    }

    /// Returns whether it became shorter since it was opened.
    pub fn is_shorter(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() < self.status.size_bytes)
    }
}

fn is_at_its_target(file: &File, path: &Path) -> bool {
    let (Ok(file), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (file.dev(), file.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn changes_show() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::write(place("a"), b"one").unwrap();
        let file = ReadFile::open(&place("a")).unwrap();
        assert!(!file.is_settled() && file.status().is_settled(SystemTime::now() + Duration::from_secs(3)));
        assert!(!file.has_another_status().unwrap() && file.is_at_its_path() && !file.is_shorter());
        fs_err::write(place("a"), b"o").unwrap();
        assert!(file.has_another_status().unwrap() && file.is_at_its_path() && file.is_shorter());
        fs_err::write(place("b"), b"one").unwrap();
        fs_err::rename(place("b"), place("a")).unwrap();
        assert!(!file.is_at_its_path());
        let mut text = String::new();
        file.reader().read_to_string(&mut text).unwrap();
        assert_eq!(text, "o", "what was opened is read");
        ReadFile::open(folder.path()).unwrap_err();
    }
}

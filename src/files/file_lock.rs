//! One process at a time, or several that agree: a lock on a file, released when it is dropped or when the process ends.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::atomic_file::is_at;

const POLL: Duration = Duration::from_millis(50);

/// A held lock.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: fs_err::File,
}

impl FileLock {
    /// Takes the lock on a file, which is created where it is absent. While another process holds the lock,
    /// calls `keep_waiting` again and again; returns `None` once it returns `false`. The holder may remove the file: whoever waited
    /// for it takes the lock on the file that is there then.
    ///
    /// # Errors
    /// A file that can't be created or locked.
    pub(crate) fn take(path: &Path, keep_waiting: impl FnMut() -> bool) -> io::Result<Option<Self>> {
        Self::take_by(path, open_or_create, fs_err::File::try_lock, keep_waiting)
    }

    /// Takes the lock together with others that take it so, as [`Self::take`] does. A file that can't be written is locked too, if
    /// it is there.
    ///
    /// # Errors
    /// A file that can't be created or locked.
    pub(crate) fn share(path: &Path, keep_waiting: impl FnMut() -> bool) -> io::Result<Option<Self>> {
        let open = |path: &Path| match open_or_create(path) {
            // Another user's, or on a file system that is mounted to be read.
            Err(error) if is_denied(&error) => fs_err::File::open(path).map_err(|_| error),
            opened => opened,
        };
        Self::take_by(path, open, fs_err::File::try_lock_shared, keep_waiting)
    }

    /// Returns whether a process holds the lock, alone or with others; the file need not be writable.
    ///
    /// # Errors
    /// A file that can't be read or locked.
    pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
        let file = match fs_err::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn take_by(
        path: &Path,
        open: impl Fn(&Path) -> io::Result<fs_err::File>,
        try_lock: fn(&fs_err::File) -> Result<(), TryLockError>,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> io::Result<Option<Self>> {
        let mut file = open(path)?;
        loop {
            match try_lock(&file) {
                Ok(()) if is_at(file.file(), path) => return Ok(Some(Self { _file: file })),
                Ok(()) => file = open(path)?,
                Err(TryLockError::WouldBlock) if keep_waiting() => std::thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

fn open_or_create(path: &Path) -> io::Result<fs_err::File> {
    fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::FileLock;

    #[test]
    fn a_lock_is_waited_for_and_given_up_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = FileLock::take(&path, || panic!("nobody holds it")).unwrap();
        let mut asked = 0;
        let second = FileLock::take(&path, || {
            asked += 1;
            asked < 3
        });
        assert!(second.unwrap().is_none());
        assert_eq!(asked, 3);
        drop(held);
        assert!(FileLock::take(&path, || false).unwrap().is_some());
    }

    #[test]
    fn some_share_a_lock_that_another_wants_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = FileLock::share(&path, || false).unwrap();
        let second = FileLock::share(&path, || false).unwrap();
        assert!(first.is_some() && second.is_some());
        drop(first);
        assert!(FileLock::take(&path, || false).unwrap().is_none() && FileLock::is_held(&path).unwrap());
        drop(second);
        assert!(!FileLock::is_held(&path).unwrap() && !FileLock::is_held(&folder.path().join("x")).unwrap());
        let alone = FileLock::take(&path, || false).unwrap();
        assert!(alone.is_some() && FileLock::share(&path, || false).unwrap().is_none());
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_of_nobodys_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut first = FileLock::take(&path, || false).unwrap();
        let second = FileLock::take(&path, || {
            // The holder is done: it removes the file, and gives the lock up.
            fs_err::remove_file(&path).unwrap();
            first = None;
            true
        });
        assert!(second.unwrap().is_some() && path.exists());
    }
}

//! One process at a time: a lock on a file, released when it is dropped or when the process ends.

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
    pub(crate) fn take(path: &Path, mut keep_waiting: impl FnMut() -> bool) -> io::Result<Option<Self>> {
        let open = || fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let mut file = open()?;
        loop {
            match file.try_lock() {
                Ok(()) if is_at(file.file(), path) => return Ok(Some(Self { _file: file })),
                Ok(()) => file = open()?,
                Err(TryLockError::WouldBlock) if keep_waiting() => std::thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
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

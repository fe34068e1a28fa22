//! One process at a time at one thing: a lock on a file, given back when dropped or when the process ends.

use std::fs::TryLockError;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Stage, ToolchainError, Watch};

const POLL: Duration = Duration::from_millis(100);

/// A lock that is held.
pub(crate) struct PlaceLock {
    _file: fs_err::File,
}

impl PlaceLock {
    /// Takes the lock, waiting for whoever has it.
    pub(crate) fn take(path: PathBuf, what: &str, watch: &mut Watch<'_>) -> Result<Self, ToolchainError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let failed = |error| ToolchainError::writing(format!("lock {}", path.display()), folder, error);
        fs_err::create_dir_all(folder).map_err(failed)?;
        let file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            watch.tell(Stage::Waiting, 0, None);
            if watch.is_cancelled() {
                let doing = format!("waiting for another nimctl that fetches {what}");
                return Err(ToolchainError::Cancelled { doing });
            }
            std::thread::sleep(POLL);
        }
    }
}

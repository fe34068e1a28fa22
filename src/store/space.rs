//! How much fits.

use std::io;
use std::path::Path;

use super::Store;

impl Store {
    /// Returns how many bytes are free for it; `None` where the file system can't say.
    pub fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.root)
    }
}

/// Returns how many bytes are free where a folder is; `None` where the file system can't say.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let state = rustix::fs::statvfs(folder).ok()?;
    Some(state.f_bavail.saturating_mul(state.f_frsize))
}

/// Returns whether an error means that nothing more fits: on the disk, or in the user's share of it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

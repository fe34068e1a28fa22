//! One process at a time fetches to one place.

use std::path::{Path, PathBuf};

use super::{Stage, ToolchainError, Watch};
use crate::files::file_lock::FileLock;

/// Takes the lock of a place, waiting for whoever has it. `what` is what is fetched there, for messages.
pub(crate) fn lock_place(
    path: PathBuf,
    what: &str,
    watch: &mut Watch<'_>,
) -> Result<FileLock, ToolchainError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let failed = |error| ToolchainError::writing(format!("lock {}", path.display()), folder, error);
    fs_err::create_dir_all(folder).map_err(failed)?;
    let lock = FileLock::take(&path, || {
        watch.tell(Stage::Waiting, 0, None);
        !watch.is_cancelled()
    });
    lock.map_err(failed)?.ok_or_else(|| ToolchainError::Cancelled {
        doing: format!("waiting for another nimctl that fetches {what}"),
    })
}

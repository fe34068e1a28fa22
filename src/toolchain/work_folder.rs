//! Folders for unfinished work: beside the destination, so that a rename finishes it, and gone afterwards.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

/// Makes a folder in `parent` named `.tmp-<topic>-…`, with the permissions that the user's umask gives; gone when
/// dropped.
pub(crate) fn work_folder(parent: &Path, topic: &str) -> io::Result<TempDir> {
    fs_err::create_dir_all(parent)?;
    tempfile::Builder::new()
        .prefix(&prefix(topic))
        .permissions(std::fs::Permissions::from_mode(0o777))
        .tempdir_in(parent)
}

/// Removes the folders of a topic that killed processes left. Only whoever holds the topic's lock may call it.
pub(crate) fn remove_leftovers(parent: &Path, topic: &str) -> io::Result<()> {
    fs_err::create_dir_all(parent)?;
    for entry in fs_err::read_dir(parent)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix(topic)) {
            match fs_err::remove_dir_all(entry.path()) {
                Ok(()) => {}
                // The pip of a killed nimctl may still be writing there; the next one gets it.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) => {
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn prefix(topic: &str) -> String {
    format!(".tmp-{topic}-")
}

/// Returns the size of the largest file below a folder: while something is fetched, that is the thing.
pub(crate) fn largest_file_bytes(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .max()
        .unwrap_or(0)
}

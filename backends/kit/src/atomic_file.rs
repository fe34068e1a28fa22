//! Files that are whole or absent: written beside their destination, synced, renamed.

use std::io::{self, Write};
use std::path::Path;

/// Writes `bytes` to `path` so that a reader, or a kill at any instant, sees the old file or the new one.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent)?;
    let mut file = temporary_in(parent)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// Makes a temporary file in `folder`, readable by all as the user's umask allows; gone when dropped.
///
/// # Errors
/// I/O errors, with the path.
pub fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    // The kernel takes the umask off these permissions, as it does for any new file.
    tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| {
            io::Error::new(error.kind(), format!("cannot create a file in {}: {error}", folder.display()))
        })
}

/// Syncs a temporary file and gives it its final name, which must be on the same file system.
///
/// # Errors
/// I/O errors, with the path.
pub fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| {
        io::Error::new(failed.error.kind(), format!("cannot write {}: {}", path.display(), failed.error))
    })?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Syncs a folder, so that the names of what was put into it last.
///
/// # Errors
/// I/O errors, with the path.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs_err::File::open(folder)?.sync_all()
}

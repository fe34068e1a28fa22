//! Files that are whole or absent: written beside their destination, synced, renamed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How many links may lead from one to the next; Linux follows as many.
const MAX_LINKS: usize = 40;

/// Writes `bytes` to `path` so that a reader, or a kill at any instant, sees the old file or the new one. A link is followed
/// to the file that it names, and a file that is replaced keeps its permissions.
///
/// # Errors
/// I/O errors, with the path; a path that is there and not a regular file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = &destination(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs_err::create_dir_all(parent)?;
    let mut file = temporary_in(parent)?;
    file.write_all(bytes)?;
    persist(file, path)
}

/// Returns the file that writing to `path` means: where its links lead. The file need not exist.
///
/// # Errors
/// A path that is there and not a regular file, or links in a circle.
pub fn destination(path: &Path) -> io::Result<PathBuf> {
    if let Ok(metadata) = fs_err::metadata(path) {
        refuse_other_kinds(path, &metadata)?;
    }
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            // An absolute target replaces the whole path.
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other(format!("cannot write {}: its links lead in a circle", path.display())))
}

/// A rename would put a file in the place of a device or a FIFO without a word.
fn refuse_other_kinds(path: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let what = if metadata.is_dir() { "a folder" } else { "not a regular file" };
    Err(io::Error::other(format!("cannot write {}: it is {what}", path.display())))
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

/// Syncs a temporary file and gives it its final name, which must be on the same file system. A file that is replaced keeps
/// its permissions; of a link, [`destination`] tells the file.
///
/// # Errors
/// I/O errors, with the path; a path that is there and not a regular file.
pub fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    if let Ok(replaced) = std::fs::metadata(path) {
        refuse_other_kinds(path, &replaced)?;
        file.as_file().set_permissions(replaced.permissions())?;
    }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_are_followed_also_to_what_is_not_there_yet() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::create_dir(place("far")).unwrap();
        symlink("far/file", place("link")).unwrap();
        symlink(place("link"), place("second")).unwrap();
        for text in ["new", "newer"] {
            write(&place("second"), text.as_bytes()).unwrap();
            assert_eq!(fs_err::read_to_string(place("far/file")).unwrap(), text);
        }
        assert!(place("link").is_symlink() && place("second").is_symlink());
        symlink("circle", place("circle")).unwrap();
        assert!(write(&place("circle"), b"x").unwrap_err().to_string().contains("circle"));
    }

    #[test]
    fn a_file_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"a").unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, b"b").unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn only_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        symlink("pipe", folder.path().join("link")).unwrap();
        for name in ["pipe", "link"] {
            let error = write(&folder.path().join(name), b"x").unwrap_err().to_string();
            assert!(error.ends_with("it is not a regular file"), "{error}");
        }
        let error = write(folder.path(), b"x").unwrap_err().to_string();
        assert!(error.ends_with("it is a folder"), "{error}");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2);
    }
}

//! Files that are whole or absent: written beside their destination, synced, renamed.

use std::fs::TryLockError;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How the name of a temporary file begins.
const PREFIX: &str = ".tmp-nimctl-";
/// How often another name is tried, where a temporary file was swept before it was locked.
const ATTEMPTS: usize = 100;

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

/// Makes a temporary file in `folder`, readable by all as the user's umask allows; gone when dropped. It is locked as long as it
/// is open, so that [`sweep`] knows it for one that is needed.
///
/// # Errors
/// I/O errors, with the path.
pub fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot create a file in {}: {error}", folder.display()))
    };
    for _ in 0..ATTEMPTS {
        // The kernel takes the umask off these permissions, as it does for any new file.
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        match file.as_file().try_lock() {
            Ok(()) if is_at(file.as_file(), file.path()) => return Ok(file),
            // Another process sweeps, and had it first.
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // A file system without locks: nobody can sweep there either.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
    Err(failed(io::Error::other("each one was removed by another process at once")))
}

/// Returns whether a file of this name is one that is being written, or was when its process ended early.
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(PREFIX)
}

/// Removes the temporary files in `folder` that killed processes left. What can't be removed is left for the next time.
pub fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_temporary(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = std::fs::OpenOptions::new().write(true).open(&path) else { continue };
        if file.try_lock().is_ok() && is_at(&file, &path) {
            let _ = fs_err::remove_file(&path);
        }
    }
}

/// Returns whether an open file is still the one that a path names.
pub fn is_at(file: &std::fs::File, path: &Path) -> bool {
    let (Ok(file), Ok(named)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
    (file.dev(), file.ino()) == (named.dev(), named.ino())
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

/// Gives a synced file or folder a name on the same file system that nothing has yet.
///
/// # Errors
/// `AlreadyExists` if something has the name; other I/O errors.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that can't promise it.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs_err::rename(from, to)?;
        }
        renamed => renamed?,
    }
    sync_folder(to.parent().unwrap_or(Path::new(".")))
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
    fn what_killed_processes_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut alive = temporary_in(folder.path()).unwrap();
        for name in [".tmp-nimctl-dead", ".tmp-other", "file"] {
            fs_err::write(folder.path().join(name), b"x").unwrap();
        }
        sweep(folder.path());
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(!is_there(".tmp-nimctl-dead") && is_there(".tmp-other") && is_there("file"));
        alive.write_all(b"whole").unwrap();
        let path = folder.path().join("named");
        persist(alive, &path).unwrap();
        sweep(folder.path());
        assert_eq!(fs_err::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_new_name_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::create_dir(place("folder")).unwrap();
        fs_err::write(place("file"), b"x").unwrap();
        fs_err::write(place("other"), b"y").unwrap();
        for (from, to) in [("other", "file"), ("folder", "file"), ("file", "folder")] {
            let error = rename_new(&place(from), &place(to)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{from} to {to}");
        }
        rename_new(&place("folder"), &place("renamed")).unwrap();
        assert!(place("renamed").is_dir() && fs_err::read(place("file")).unwrap() == b"x");
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

//! Folders of unfinished work: each belongs to a process, and those of processes that have ended are removed.
//!
//! Beside a folder `<name>` is `<name>.lock`, which its process holds as long as the folder is needed. The lock file is there
//! before the folder and goes after it, so whoever gets the lock may remove both: [`sweep`] does. A process that is killed
//! gives its locks up.

use std::collections::BTreeSet;
use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::atomic_file::is_at;

const LOCK_SUFFIX: &str = ".lock";
/// How often a name is tried that something else has, or that was swept before it was locked.
const ATTEMPTS: usize = 100;
/// A worker that was just told to end may still write.
const REMOVALS: usize = 5;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(20);

/// The folders of this process.
static OURS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A folder of this process, gone with everything in it when dropped.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    /// `None` on a file system without locks: nobody can sweep there either.
    _lock: Option<std::fs::File>,
}

impl WorkFolder {
    /// Makes a folder `<prefix>…` in `parent`, which must exist.
    ///
    /// # Errors
    /// A parent that can't be written.
    pub fn new_in(parent: &Path, prefix: &str) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let (file, lock_path) = tempfile::Builder::new()
                .prefix(prefix)
                .suffix(LOCK_SUFFIX)
                .permissions(std::fs::Permissions::from_mode(0o666))
                .tempfile_in(parent)?
                .keep()
                .map_err(|failed| failed.error)?;
            let lock = match file.try_lock() {
                // Between its creation and here, another process may have swept it.
                Ok(()) if is_at(&file, &lock_path) => Some(file),
                Ok(()) | Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(_)) => None,
            };
            let path = folder_of(&lock_path).unwrap_or_default();
            match fs_err::create_dir(&path) {
                Ok(()) => {
                    OURS.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
                    return Ok(Self { path, _lock: lock });
                }
                Err(error) => {
                    let _ = fs_err::remove_file(&lock_path);
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
        Err(io::Error::other(format!("cannot make a folder in {}: no name is free", parent.display())))
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        remove(&self.path);
        OURS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

/// Removes the folders of this process, for an end that drops nothing.
pub fn remove_ours() {
    let ours = std::mem::take(&mut *OURS.lock().unwrap_or_else(PoisonError::into_inner));
    ours.iter().for_each(|path| remove(path));
}

/// Removes the folders `<prefix>…` in `parent` whose process has ended. What can't be removed is left for the next time.
pub fn sweep(parent: &Path, prefix: &str) {
    for path in paths_in(parent) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(prefix) {
            continue;
        }
        let Some(folder) = folder_of(&path) else { continue };
        let Ok(lock) = std::fs::OpenOptions::new().write(true).open(&path) else { continue };
        if lock.try_lock().is_ok() && is_at(&lock, &path) {
            remove(&folder);
        }
    }
}

/// Removes everything in a folder of ours alone that no lock file is beside: what an earlier nimctl left.
pub(crate) fn sweep_without_locks(parent: &Path) {
    for path in paths_in(parent) {
        if folder_of(&path).is_none() && !lock_of(&path).exists() {
            let _ = if path.is_dir() { fs_err::remove_dir_all(&path) } else { fs_err::remove_file(&path) };
        }
    }
}

fn paths_in(parent: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs_err::read_dir(parent).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// Removes a folder and its lock file; the lock stays if the folder does, so that the next sweep tries again.
fn remove(folder: &Path) {
    for attempt in 0..REMOVALS {
        match fs_err::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempt + 1 < REMOVALS => {
                std::thread::sleep(BETWEEN_REMOVALS);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            Ok(()) | Err(_) => break,
        }
    }
    if !folder.exists() {
        let _ = fs_err::remove_file(lock_of(folder));
    }
}

fn lock_of(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(LOCK_SUFFIX);
    name.into()
}

/// Returns the folder that a lock file is for; `None` for another file.
fn folder_of(lock: &Path) -> Option<PathBuf> {
    Some(lock.to_str()?.strip_suffix(LOCK_SUFFIX)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            paths_in(folder).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_lives_as_long_as_its_process_needs_it() {
        let parent = tempfile::tempdir().unwrap();
        let work = WorkFolder::new_in(parent.path(), "work-").unwrap();
        fs_err::write(work.path().join("file"), b"x").unwrap();
        sweep(parent.path(), "work-");
        sweep_without_locks(parent.path());
        assert!(work.path().join("file").exists());
        assert_eq!(names(parent.path()).len(), 2);
        drop(work);
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }

    #[test]
    fn what_the_dead_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        fs_err::create_dir_all(at("work-dead/below")).unwrap();
        fs_err::write(at("work-dead.lock"), b"").unwrap();
        fs_err::write(at("work-early.lock"), b"").unwrap();
        fs_err::create_dir(at("work-without")).unwrap();
        fs_err::create_dir(at("others")).unwrap();
        fs_err::write(at("others.lock"), b"").unwrap();
        sweep(parent.path(), "work-");
        assert_eq!(names(parent.path()), ["others", "others.lock", "work-without"]);
        sweep_without_locks(parent.path());
        assert_eq!(names(parent.path()), ["others", "others.lock"]);
    }

    /// Sweeping and making, as fast as threads can: a lock is of an open file, so threads are as good as processes.
    #[test]
    fn no_folder_is_swept_while_it_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep(parent.path(), "work-");
                    sweep_without_locks(parent.path());
                }
            });
            let makers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..300 {
                            let work = WorkFolder::new_in(parent.path(), "work-").unwrap();
                            fs_err::write(work.path().join("file"), b"x").unwrap();
                            std::thread::yield_now();
                            assert!(work.path().join("file").exists());
                        }
                    })
                })
                .collect();
            let failed = makers.into_iter().any(|maker| maker.join().is_err());
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(!failed);
        });
        assert_eq!(names(parent.path()), Vec::<String>::new());
    }
}

//! Who uses which profile, so that garbage collection leaves it alone.
//!
//! Whoever reads a profile's files holds its lock `nimctl/in-use/<id>.lock` together with others that do. To find a profile and take
//! its lock is one step for the collector: `gc.lock` is shared meanwhile, which takes moments, and the collector has it alone while
//! it decides and removes. So nobody waits for a long time, and what is in use stays.

use std::path::PathBuf;

use super::{Store, StoreError, WriteLock};
use crate::files::file_lock::FileLock;
use crate::profile::ProfileId;

/// Profiles that stay where they are as long as this is held.
#[derive(Debug, Default)]
pub struct InUse {
    _locks: Vec<FileLock>,
}

/// The right to remove what nobody needs; nobody builds and no use of a profile begins meanwhile.
#[derive(Debug)]
pub(super) struct Collecting {
    _writing: WriteLock,
    _alone: FileLock,
}

impl Store {
    /// Finds profiles to use, and keeps them from being removed until the second value is dropped. In a store that can't be written
    /// they are kept as far as its lock files are there; on a file system without locks nothing is collected.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn hold<T, E>(&self, find: impl FnOnce() -> Result<(T, Vec<ProfileId>), E>) -> Result<(T, InUse), E> {
        // Looking at a store that isn't there makes none.
        let deciding = self.root.join("nimctl").is_dir().then(|| FileLock::share(&self.gc_lock(), || true));
        let (found, ids) = find()?;
        let share = |id: &ProfileId| {
            let path = self.in_use_path(id);
            // Without the folder there is nobody else either: the collector makes none.
            let _ = path.parent().map(fs_err::create_dir_all);
            FileLock::share(&path, || true).ok().flatten()
        };
        let in_use = InUse {
            _locks: match &deciding {
                Some(_) => ids.iter().filter_map(share).collect(),
                None => Vec::new(),
            },
        };
        drop(deciding);
        Ok((found, in_use))
    }

    /// Takes the right to remove things, after builds that run. `waiting` and `cancelled` are those of [`Store::lock`].
    ///
    /// # Errors
    /// A store that can't be written; cancelled.
    pub(super) fn collecting(
        &self,
        waiting: impl FnOnce(),
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Collecting, StoreError> {
        let writing = self.lock_as_it_is(waiting, cancelled)?;
        let alone = FileLock::take(&self.gc_lock(), || !cancelled());
        let alone = alone.map_err(|source| self.unwritable(source))?.ok_or(StoreError::Cancelled)?;
        Ok(Collecting { _writing: writing, _alone: alone })
    }

    /// Returns whether a process uses a profile. To be asked by the collector: until it is done, no use begins.
    ///
    /// # Errors
    /// A lock file that can't be locked.
    pub(crate) fn is_in_use(&self, id: &ProfileId) -> Result<bool, StoreError> {
        let path = self.in_use_path(id);
        FileLock::is_held(&path)
            .map_err(|source| StoreError::Io { doing: format!("asking who uses profile {id}"), source })
    }

    /// Returns the lock file of a profile's users.
    pub(super) fn in_use_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/in-use").join(format!("{id}.lock"))
    }

    fn gc_lock(&self) -> PathBuf {
        self.root.join("gc.lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_in_use_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let id = ProfileId::from_hex(&"a".repeat(64)).unwrap();
        let find = || Ok::<_, StoreError>(((), vec![id]));
        let ((), first) = store.hold(find).unwrap();
        let ((), second) = store.hold(find).unwrap();
        let collecting = store.collecting(|| (), &|| false).unwrap();
        assert!(store.is_in_use(&id).unwrap());
        drop(first);
        assert!(store.is_in_use(&id).unwrap());
        drop(second);
        assert!(!store.is_in_use(&id).unwrap());
        // A use that begins waits until the collector is done.
        let found = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let found = || {
                    found.store(true, std::sync::atomic::Ordering::SeqCst);
                    find()
                };
                store.hold(found).unwrap();
            });
            std::thread::sleep(std::time::Duration::from_millis(150));
            assert!(!found.load(std::sync::atomic::Ordering::SeqCst));
            drop(collecting);
        });
        assert!(found.load(std::sync::atomic::Ordering::SeqCst));
    }

    #[test]
    fn to_look_at_a_store_that_is_not_there_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::look_at(&folder.path().join("store"));
        store.hold(|| Ok::<_, StoreError>(((), Vec::new()))).unwrap();
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    }
}

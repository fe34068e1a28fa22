//! Outputs of references that were computed before.

use std::path::PathBuf;

use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::files::atomic_file;

impl Store {
    /// Returns the outputs of a reference that was computed before: an archive of tensors.
    ///
    /// # Errors
    /// A file that can't be read.
    pub fn reference(&self, key: &Sha256) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes(&self.reference_path(key))
    }

    /// Remembers the outputs of a reference.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_reference(&self, key: &Sha256, npz: &[u8]) -> Result<(), StoreError> {
        atomic_file::write(&self.reference_path(key), npz).map_err(|source| self.unwritable(source))
    }

    fn reference_path(&self, key: &Sha256) -> PathBuf {
        self.root.join("nimctl/references").join(format!("{}.npz", key.to_hex()))
    }
}

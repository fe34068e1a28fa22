//! Files of the store where others read them: as they were when they were hashed, not as whatever their paths lead to later.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, linkat};

use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::onnx::GraphDigest;
use crate::portable_path;
use crate::profile::ContentsFile;
use crate::worklist::OutputFile;

impl Store {
    /// Lays the files of a blob list out in a folder of this process, and checks their digests: each blob is opened once, hashed
    /// through that descriptor, and what is laid out is the very file that is open, whatever its path in the store leads to
    /// meanwhile. Where the file system has no hard links, or refuses them, the bytes that were hashed are copied.
    ///
    /// A hard link is the same file: whoever may write blobs of the store can still overwrite it in place. Workers that know the
    /// digests ([`crate::worker::protocol::Digests`]) find out.
    ///
    /// # Errors
    /// A blob that is missing or damaged, a folder that can't be written.
    pub fn lay_out(&self, files: &[OutputFile], folder: &Path) -> Result<(), StoreError> {
        self.lay_out_all(files.iter().map(|file| (file.path.as_str(), &file.sha256)), folder)
    }

    /// Does so with the files of a graph.
    ///
    /// # Errors
    /// As [`Self::lay_out`].
    pub fn lay_out_graph(&self, graph: &GraphDigest, folder: &Path) -> Result<(), StoreError> {
        self.lay_out_all(graph.files.iter().map(|file| (file.path.as_str(), &file.sha256)), folder)
    }

    /// Does so with the files that a profile's contents list.
    ///
    /// # Errors
    /// As [`Self::lay_out`].
    pub fn lay_out_contents(&self, files: &[ContentsFile], folder: &Path) -> Result<(), StoreError> {
        self.lay_out_all(files.iter().map(|file| (file.path.as_str(), &file.sha256)), folder)
    }

    fn lay_out_all<'a>(
        &self,
        files: impl Iterator<Item = (&'a str, &'a Sha256)>,
        folder: &Path,
    ) -> Result<(), StoreError> {
        for (path, sha256) in files {
            let (blob, destination) = (self.blob_path(sha256), folder.join(path));
            let io_error = |source| StoreError::Io { doing: format!("laying out {path}"), source };
            portable_path::check(path)
                .map_err(|error| io_error(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            if let Some(parent) = destination.parent() {
                fs_err::create_dir_all(parent).map_err(io_error)?;
            }
            let mut open = fs_err::File::open(&blob).map_err(io_error)?.into_parts().0;
            let found = match link(&open, &destination) {
                Ok(()) => Sha256::of_reader(&mut open).map_err(io_error)?.0,
                Err(_) => copy(&mut open, &destination).map_err(io_error)?,
            };
            if found != *sha256 {
                fs_err::remove_file(&destination).map_err(io_error)?;
                return Err(StoreError::Damaged { path: blob, expected: *sha256, found });
            }
        }
        Ok(())
    }
}

/// Gives an open file another name.
fn link(file: &File, destination: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, &*open, CWD, destination, AtFlags::SYMLINK_FOLLOW)?)
}

/// Copies a file, and returns the digest of what was copied.
fn copy(file: &mut File, destination: &Path) -> io::Result<Sha256> {
    struct Copying<'a>(&'a mut File, fs_err::File);
    impl io::Read for Copying<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.write_all(&buffer[..count])?;
            Ok(count)
        }
    }
    let copy = fs_err::OpenOptions::new().write(true).create_new(true).open(destination)?;
    Ok(Sha256::of_reader(&mut Copying(file, copy))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Blake3;

    fn store_with(bytes: &[u8]) -> (tempfile::TempDir, Store, OutputFile) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let sha256 = store.put(bytes).unwrap();
        let blake3 = Blake3::of(bytes);
        let file = OutputFile { path: "model.plan".into(), sha256, blake3, size_bytes: bytes.len() as u64 };
        (folder, store, file)
    }

    /// What was laid out is what was hashed, also if the blob is another file a moment later.
    #[test]
    fn a_blob_that_is_replaced_changes_nothing() {
        let (_folder, store, file) = store_with(b"plan");
        let work = store.work_folder().unwrap();
        store.lay_out(std::slice::from_ref(&file), work.path()).unwrap();
        let other = work.path().join("other");
        fs_err::write(&other, b"PLAN").unwrap();
        fs_err::rename(other, store.blob_path(&file.sha256)).unwrap();
        assert_eq!(fs_err::read(work.path().join("model.plan")).unwrap(), b"plan");
    }

    #[test]
    fn a_damaged_blob_is_not_laid_out() {
        let (_folder, store, file) = store_with(b"plan");
        fs_err::write(store.blob_path(&file.sha256), b"plam").unwrap();
        let work = store.work_folder().unwrap();
        let error = store.lay_out(std::slice::from_ref(&file), work.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(!work.path().join("model.plan").exists());
    }

    #[test]
    fn nothing_is_laid_out_elsewhere() {
        let (_folder, store, file) = store_with(b"plan");
        let work = store.work_folder().unwrap();
        for path in ["../escaped", "/escaped", "a/../../escaped", ""] {
            let file = OutputFile { path: path.into(), ..file.clone() };
            assert!(matches!(store.lay_out(&[file], work.path()), Err(StoreError::Io { .. })), "{path}");
        }
        assert!(!work.path().with_file_name("escaped").exists());
    }

    #[test]
    fn a_copy_is_of_what_was_hashed() {
        let (_folder, store, file) = store_with(b"plan");
        let work = store.work_folder().unwrap();
        let destination = work.path().join("copy");
        let mut open = fs_err::File::open(store.blob_path(&file.sha256)).unwrap().into_parts().0;
        assert_eq!(copy(&mut open, &destination).unwrap(), file.sha256);
        assert_eq!(fs_err::read(&destination).unwrap(), b"plan");
        assert_eq!(copy(&mut open, &destination).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}

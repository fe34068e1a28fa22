//! Files that were fetched or generated and are kept: a list beside them says what they were when they came.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic_file;
use super::digest_cache::digest_of_file;
use crate::digest::Sha256;
use crate::stored_format::{self, Newer, Unreadable};

const SCHEMA: &str = "nimctl.kept-files/1";

/// The digests of the files of one folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptFiles {
    schema: String,
    /// By path, relative to the folder.
    files: BTreeMap<String, Sha256>,
}

impl KeptFiles {
    /// Reads a list; an empty one if there is none that can be read.
    ///
    /// # Errors
    /// A list that a newer nimctl wrote.
    pub(crate) fn read(list: &Path) -> Result<Self, Newer> {
        let none = || Self { schema: SCHEMA.into(), files: BTreeMap::new() };
        let Ok(bytes) = fs_err::read(list) else { return Ok(none()) };
        match stored_format::from_json(&bytes, SCHEMA, list.display()) {
            Ok(known) => Ok(known),
            Err(Unreadable::Damaged { path: _, problem: _ }) => Ok(none()),
            Err(Unreadable::Newer(newer)) => Err(newer),
        }
    }

    /// Returns whether a file of the folder is what it was when it came; `cache` remembers digests.
    pub(crate) fn is_right(&self, folder: &Path, file: &Path, cache: &Path) -> bool {
        let known = file.to_str().and_then(|name| self.files.get(name));
        known.is_some_and(|known| {
            digest_of_file(&folder.join(file), cache).is_ok_and(|(found, _)| found == *known)
        })
    }

    /// Returns whether the list has files, and all of them are right.
    pub(crate) fn are_right(&self, folder: &Path, cache: &Path) -> bool {
        !self.files.is_empty() && self.files.keys().all(|file| self.is_right(folder, Path::new(file), cache))
    }

    /// Adds a file that just came.
    ///
    /// # Errors
    /// A file that can't be read.
    pub(crate) fn add(&mut self, file: &str, path: &Path) -> io::Result<()> {
        self.files.insert(file.into(), Sha256::of_file(path)?.0);
        Ok(())
    }

    /// Writes the list.
    ///
    /// # Errors
    /// A list that can't be written.
    pub(crate) fn write(&self, list: &Path) -> io::Result<()> {
        atomic_file::write(list, &serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_right_if_it_is_what_came() {
        let folder = tempfile::tempdir().unwrap();
        let (file, list, cache) = (folder.path().join("a"), folder.path().join("l"), folder.path().join("c"));
        fs_err::write(&file, b"one").unwrap();
        let mut kept = KeptFiles::read(&list).unwrap();
        assert!(!kept.are_right(folder.path(), &cache));
        kept.add("a", &file).unwrap();
        kept.write(&list).unwrap();
        let kept = KeptFiles::read(&list).unwrap();
        let is_right = || kept.is_right(folder.path(), Path::new("a"), &cache);
        assert!(is_right() && kept.are_right(folder.path(), &cache));
        assert!(!kept.is_right(folder.path(), Path::new("b"), &cache));
        fs_err::write(&file, b"two").unwrap();
        assert!(!is_right());
        fs_err::write(&list, b"{ not json").unwrap();
        assert!(KeptFiles::read(&list).unwrap().files.is_empty());
        fs_err::write(&list, br#"{"schema": "nimctl.kept-files/2"}"#).unwrap();
        KeptFiles::read(&list).unwrap_err();
    }

    /// A file of an earlier nimctl, which must stay readable.
    #[test]
    fn the_golden_file_is_read() {
        let golden = include_bytes!("../../tests/fixtures/formats/kept-files.json");
        let kept: KeptFiles = stored_format::from_json(golden, SCHEMA, "golden").unwrap();
        assert_eq!(kept.files["thing/model.onnx"], Sha256::of(b"one"));
    }
}

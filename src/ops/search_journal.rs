//! The journal of a search: a line for each graph that was run, so that no graph runs twice.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The runs of a search so far: what came of each, a struct.
#[derive(Debug)]
pub(super) struct Journal<F> {
    path: PathBuf,
    file: fs_err::File,
    runs: BTreeMap<Vec<String>, F>,
}

/// A journal that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the search's journal {}", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Serialize, Deserialize)]
struct Line<F> {
    kept: Vec<String>,
    #[serde(flatten)]
    found: F,
}

impl<F: Copy + Serialize + DeserializeOwned> Journal<F> {
    /// Opens a journal, or begins one. A line that a killed process left half written counts as absent.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError { path: path.into(), source };
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder).map_err(failed)?;
        }
        let mut file =
            fs_err::OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        let text = String::from_utf8_lossy(&fs_err::read(path).map_err(failed)?).into_owned();
        let runs = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line<F>>(line).ok())
            .map(|Line { kept, found }| (kept, found))
            .collect();
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { path: path.into(), file, runs })
    }

    /// Returns what came of the run with these nodes kept.
    pub(super) fn get(&self, kept: &[String]) -> Option<F> {
        self.runs.get(kept).copied()
    }

    /// Returns how many graphs were run.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.runs.len()).unwrap_or(u32::MAX)
    }

    /// Writes down a run.
    pub(super) fn add(&mut self, kept: &[String], found: F) -> Result<(), JournalError> {
        let failed = |source| JournalError { path: self.path.clone(), source };
        let line = Line { kept: kept.to_vec(), found };
        let text = serde_json::to_string(&line).map_err(std::io::Error::other).map_err(failed)?;
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        self.runs.insert(line.kept, found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
    struct Cosine {
        row_cosine: f64,
    }

    #[test]
    fn what_was_written_is_known_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/journal.jsonl");
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let cosine = |row_cosine: f64| Cosine { row_cosine };
        let open = || Journal::<Cosine>::open(&path).unwrap();
        let mut journal = open();
        journal.add(&names(&["a", "b"]), cosine(0.1 + 0.2)).unwrap();
        journal.add(&names(&[]), cosine(-1.0)).unwrap();
        let whole = fs_err::read(&path).unwrap();
        crate::files::atomic_file::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut journal = open();
        assert_eq!(journal.get(&names(&["a", "b"])), Some(cosine(0.1 + 0.2)));
        assert_eq!(journal.get(&[]), None);
        journal.add(&names(&[]), cosine(0.5)).unwrap();
        assert_eq!(open().get(&[]), Some(cosine(0.5)));
        assert_eq!(journal.len(), 2);
    }
}

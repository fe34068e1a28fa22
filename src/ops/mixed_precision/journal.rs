//! The journal of a search: a line for each graph that was run, so that no graph runs twice.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::MixedPrecisionError;

/// The runs of a search so far.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: fs_err::File,
    runs: BTreeMap<Vec<String>, f64>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    kept: Vec<String>,
    row_cosine: f64,
}

impl Journal {
    /// Opens a journal, or begins one. A line that a killed process left half written counts as absent.
    pub(super) fn open(path: &Path) -> Result<Self, MixedPrecisionError> {
        let failed = |source| MixedPrecisionError::Journal { path: path.into(), source };
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder).map_err(failed)?;
        }
        let mut file =
            fs_err::OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        let text = String::from_utf8_lossy(&fs_err::read(path).map_err(failed)?).into_owned();
        let runs = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok())
            .map(|Line { kept, row_cosine }| (kept, row_cosine))
            .collect();
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self { path: path.into(), file, runs })
    }

    /// Returns what was measured with these nodes kept.
    pub(super) fn get(&self, kept: &[String]) -> Option<f64> {
        self.runs.get(kept).copied()
    }

    /// Returns how many graphs were run.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.runs.len()).unwrap_or(u32::MAX)
    }

    /// Writes down a run.
    pub(super) fn add(&mut self, kept: &[String], row_cosine: f64) -> Result<(), MixedPrecisionError> {
        let failed = |source| MixedPrecisionError::Journal { path: self.path.clone(), source };
        let line = Line { kept: kept.to_vec(), row_cosine };
        let text = serde_json::to_string(&line).map_err(std::io::Error::other).map_err(failed)?;
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        self.runs.insert(line.kept, row_cosine);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_known_again_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/journal.jsonl");
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut journal = Journal::open(&path).unwrap();
        journal.add(&names(&["a", "b"]), 0.1 + 0.2).unwrap();
        journal.add(&names(&[]), -1.0).unwrap();
        let whole = fs_err::read(&path).unwrap();
        crate::files::atomic_file::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.get(&names(&["a", "b"])), Some(0.1 + 0.2));
        assert_eq!(journal.get(&[]), None);
        journal.add(&names(&[]), 0.5).unwrap();
        assert_eq!(Journal::open(&path).unwrap().get(&[]), Some(0.5));
        assert_eq!(journal.len(), 2);
    }
}

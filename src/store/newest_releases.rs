//! The newest release of each model that a trust policy accepted here: an older one is a roll-back. Nothing can make a damaged file
//! again, so it counts as neither absent nor old: whoever asks is refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file.
pub(super) const NEWEST_RELEASE_SCHEMA: &str = "nimctl.newest-release/1";

/// The newest release of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewestRelease {
    schema: String,
    model: String,
    release: String,
}

impl NewestRelease {
    fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, NEWEST_RELEASE_SCHEMA, path)
    }
}

impl Store {
    /// Returns the newest release of a model that was accepted here, if there is one.
    ///
    /// # Errors
    /// A file that can't be read, is damaged, or is of a newer nimctl.
    pub fn newest_release(&self, model: &str) -> Result<Option<String>, StoreError> {
        let path = self.newest_release_path(model);
        let Some(bytes) = self.bytes(&path)? else { return Ok(None) };
        let shown = path.display().to_string();
        match NewestRelease::parse(&bytes, &shown) {
            Ok(newest) if newest.model == model => Ok(Some(newest.release)),
            Ok(NewestRelease { model: other, .. }) => {
                let problem = format!("it is about the model `{}`", other.escape_debug());
                Err(StoreError::NewestReleaseUnknown(Unreadable::Damaged { path: shown, problem }))
            }
            Err(Unreadable::Newer(newer)) => Err(newer.into()),
            Err(damaged) => Err(StoreError::NewestReleaseUnknown(damaged)),
        }
    }

    /// Remembers the newest release of a model, in place of what is there: also of what is damaged.
    ///
    /// # Errors
    /// A store that can't be written; a file of a newer nimctl.
    pub(crate) fn put_newest_release(&self, model: &str, release: &str) -> Result<(), StoreError> {
        let newest = NewestRelease {
            schema: NEWEST_RELEASE_SCHEMA.into(),
            model: model.into(),
            release: release.into(),
        };
        self.write(&self.newest_release_path(model), NEWEST_RELEASE_SCHEMA, &newest)
    }

    /// Returns the files of newest releases that can't be read.
    pub(crate) fn unreadable_newest_releases(&self) -> Result<Vec<(PathBuf, Unreadable)>, StoreError> {
        let mut problems = Vec::new();
        for path in self.files_below("newest-releases") {
            if let Some(newest) = self.whole(&path, NewestRelease::parse, &mut problems)?
                && path != self.newest_release_path(&newest.model)
            {
                let problem = "it is about another model than its name".into();
                let shown = self.shown(&path);
                problems.push((path, Unreadable::Damaged { path: shown, problem }));
            }
        }
        Ok(problems)
    }

    /// Returns where the newest release of a model is. Any text may be the name of one.
    pub(super) fn newest_release_path(&self, model: &str) -> PathBuf {
        let name = format!("{}.json", Sha256::of(model.as_bytes()).to_hex());
        self.root.join("nimctl/newest-releases").join(name)
    }
}

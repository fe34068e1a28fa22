//! Where a pulled profile came from; while it is fetched, also which files it will have, so that none of them is collected.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{InUse, Store, StoreError};
use crate::profile::{ContentsFile, ProfileId};
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file.
pub(super) const PULL_SCHEMA: &str = "nimctl.pull/1";

/// A pull of one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRecord {
    pub(super) schema: String,
    /// The place and release, as `nimctl pull` takes them.
    pub place: String,
    /// Whether all of it is there.
    pub is_complete: bool,
    /// The profile's files.
    pub files: Vec<ContentsFile>,
}

impl PullRecord {
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, PULL_SCHEMA, path)
    }
}

impl Store {
    /// Says that a profile is pulled from a place: from now on, and for some days if this process ends early, nothing is removed
    /// that is there of its files.
    ///
    /// # Errors
    /// A store that can't be written; a record of a newer nimctl.
    pub fn begin_pull(
        &self,
        id: &ProfileId,
        place: &str,
        files: &[ContentsFile],
    ) -> Result<InUse, StoreError> {
        let record = PullRecord {
            schema: PULL_SCHEMA.into(),
            place: place.into(),
            is_complete: false,
            files: files.into(),
        };
        let begin = || {
            // Written anew also if it is the same: its age counts.
            self.write(&self.pull_path(id), PULL_SCHEMA, &record)?;
            Ok::<_, StoreError>(((), vec![*id]))
        };
        Ok(self.hold(begin)?.1)
    }

    /// Says that all of a profile is there.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn end_pull(&self, id: &ProfileId) -> Result<(), StoreError> {
        let path = self.pull_path(id);
        match self.read(&path, PullRecord::parse)? {
            Some(record) if !record.is_complete => {
                self.write(&path, PULL_SCHEMA, &PullRecord { is_complete: true, ..record })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns where a profile was pulled from, if that is known.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent.
    pub fn pull_record(&self, id: &ProfileId) -> Result<Option<PullRecord>, StoreError> {
        self.read(&self.pull_path(id), PullRecord::parse)
    }

    /// Returns where the record of a profile's pull is.
    pub(super) fn pull_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/pulls").join(format!("{id}.json"))
    }
}

//! Where a profile came from on this machine. Not in its passport: it says nothing about the profile elsewhere.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::profile::ProfileId;
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file; the first files had none.
pub(super) const ORIGIN_SCHEMA: &str = "nimctl.origin/1";

/// The recipe that a profile was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    #[serde(default)]
    pub(super) schema: String,
    /// The recipe.
    pub(crate) recipe: PathBuf,
    /// When the recipe was last built to it, in milliseconds since 1970: the build with the latest time is the recipe's last one.
    /// 0 in files of earlier versions.
    #[serde(default)]
    pub(crate) built_ms: u64,
}

impl Store {
    /// Remembers that a recipe was built to these profiles: to go by their ids later, and to know the recipe's last build.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn put_origins(&self, ids: &[ProfileId], recipe: &Path) -> Result<(), StoreError> {
        let mut last_ms = 0;
        for id in self.ids_in("origins")? {
            let origin =
                self.read(&self.origin_path(&id), Origin::parse)?.filter(|found| found.recipe == recipe);
            last_ms = last_ms.max(origin.map_or(0, |origin| origin.built_ms));
        }
        #[expect(clippy::disallowed_methods, reason = "builds of a recipe come one after the other")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Later than the last one, also if the clock was set back.
        let built_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(last_ms.saturating_add(1));
        for id in ids {
            let path = self.origin_path(id);
            let known = self.read(&path, Origin::parse)?;
            let is_known =
                known.is_some_and(|known| known.recipe == recipe && known.built_ms == last_ms && last_ms > 0);
            if !is_known {
                let origin = Origin { schema: ORIGIN_SCHEMA.into(), recipe: recipe.into(), built_ms };
                self.write(&path, ORIGIN_SCHEMA, &origin)?;
            }
        }
        Ok(())
    }
}

impl Origin {
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        let damaged = |problem: String| Unreadable::Damaged { path: path.to_string(), problem };
        if let Some(found) = stored_format::head_of_json(bytes).map_err(damaged)? {
            stored_format::check(&found, ORIGIN_SCHEMA, path)?;
        }
        serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
    }
}

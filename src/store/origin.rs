//! Where a profile came from on this machine. Not in its passport: it says nothing about the profile elsewhere.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::stored_format::{self, Unreadable};

/// The schema name inside the file; the first files had none.
pub(super) const ORIGIN_SCHEMA: &str = "nimctl.origin/1";

/// The recipe that a profile was built from.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Origin {
    #[serde(default)]
    pub(super) schema: String,
    pub(super) recipe: PathBuf,
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

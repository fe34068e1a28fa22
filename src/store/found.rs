//! Which nodes of a graph were found to need FP32, as the store remembers it.

use serde::{Deserialize, Serialize};

use crate::mixed_precision::MixedPrecisionReport;
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file.
pub(super) const MIXED_PRECISION_SCHEMA: &str = "nimctl.mixed-precision/1";

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    pub(super) schema: String,
    pub(super) report: MixedPrecisionReport,
}

impl Found {
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, MIXED_PRECISION_SCHEMA, path)
    }
}

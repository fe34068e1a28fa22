//! `installed.json`: what an install holds.

use serde::{Deserialize, Serialize};

use super::Tool;
use super::lock::Pin;
use crate::digest::Sha256;
use crate::stored_format::{self, Unreadable};

/// The name of the file; no file of a wheel may have it.
pub(super) const RECORD_NAME: &str = "installed.json";
/// Its schema.
const RECORD_SCHEMA: &str = "nimctl.installed-tool/1";

/// What an install holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    schema: String,
    pub(super) name: Tool,
    pub(super) version: String,
    pub(super) wheel_sha256: Sha256,
    pub(super) files: Vec<RecordedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedFile {
    pub(super) name: String,
    pub(super) sha256: Sha256,
    pub(super) size_bytes: u64,
}

impl Record {
    pub(super) fn of_pin(tool: Tool, pin: &Pin<'_>) -> Self {
        let files = pin.files.iter().map(|file| RecordedFile {
            name: file.name.clone(),
            sha256: file.sha256,
            size_bytes: file.size_bytes,
        });
        Self {
            schema: RECORD_SCHEMA.into(),
            name: tool,
            version: pin.version.into(),
            wheel_sha256: pin.wheel.sha256,
            files: files.collect(),
        }
    }

    /// Reads a record; `path` is what errors call it.
    pub(super) fn parse(text: &[u8], path: impl std::fmt::Display) -> Result<Self, Unreadable> {
        stored_format::from_json(text, RECORD_SCHEMA, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of an earlier nimctl, which must stay readable.
    #[test]
    fn the_golden_record_is_read() {
        let golden = include_bytes!("../../tests/fixtures/formats/installed-tool.json");
        let record = Record::parse(golden, "golden").unwrap();
        assert_eq!((record.name, record.files.len()), (Tool::OnnxRuntime, 1));
    }
}

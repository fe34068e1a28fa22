//! Device files, written by an earlier probe.

use serde::Deserialize;

use super::{DEVICES_SCHEMA, Host};
use crate::stored_format::{self, Newer};

/// A file that is not a valid device file.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDeviceFile {
    /// It is not JSON, or a fact is missing or has the wrong type.
    #[error("{path}:{line}:{column}: {message}")]
    Json {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A newer nimctl wrote it.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// It has another schema, or none.
    #[error("{path} has {}; expected {DEVICES_SCHEMA}", .found.as_deref().map_or("no schema".into(), |found| format!("schema {found:?}")))]
    Schema {
        /// The file.
        path: String,
        /// The schema in the file.
        found: Option<String>,
    },
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: Option<String>,
}

impl Host {
    /// Reads the text of a device file; `path` is used only in errors.
    ///
    /// # Errors
    /// What is wrong, with line and column if it is the JSON.
    pub fn read(text: &str, path: &str) -> Result<Self, InvalidDeviceFile> {
        let invalid = |error: serde_json::Error| {
            let (line, column, message) = (error.line(), error.column(), error.to_string());
            let place = format!(" at line {line} column {column}");
            let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
            InvalidDeviceFile::Json { path: path.into(), line, column, message }
        };
        let Head { schema } = serde_json::from_str(text).map_err(invalid)?;
        if let Some(found) = &schema
            && stored_format::is_newer(found, DEVICES_SCHEMA)
        {
            return Err(Newer::new(path, found, DEVICES_SCHEMA).into());
        }
        if schema.as_deref() != Some(DEVICES_SCHEMA) {
            return Err(InvalidDeviceFile::Schema { path: path.into(), found: schema });
        }
        serde_json::from_str(text).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let host = Host::stated(["h100-sxm:2", "a100-sxm/1g.10gb"]).unwrap();
        let text = serde_json::to_string_pretty(&host).unwrap();
        assert_eq!(Host::read(&text, "f").unwrap(), host);
    }

    #[test]
    fn what_is_no_file_of_devices_is_refused() {
        for (text, expected) in [
            ("", "f:1:0: EOF while parsing a value"),
            ("{\n  \"schema\": nothing", "f:2:14: expected ident"),
            ("{}", "f has no schema; expected nimctl.devices/1"),
            (
                "{\"schema\": \"nimctl.error/1\"}",
                "f has schema \"nimctl.error/1\"; expected nimctl.devices/1",
            ),
            (
                "{\"schema\": \"nimctl.devices/2\", \"hosts\": []}",
                "f: written by a newer nimctl (schema nimctl.devices/2, this nimctl reads nimctl.devices/1): upgrade nimctl",
            ),
            (
                "{\"schema\": \"nimctl.devices/1\",\n \"origin\": \"stated\"}",
                "f:2:20: missing field `devices`",
            ),
        ] {
            assert_eq!(Host::read(text, "f").unwrap_err().to_string(), expected);
        }
    }
}

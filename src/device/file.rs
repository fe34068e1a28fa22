//! Files of devices: what an earlier probe wrote.

use serde::Deserialize;

use super::{DEVICES_SCHEMA, Host};
use crate::stored_format::{self, Newer};

/// A file that should hold devices and doesn't.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDeviceFile {
    /// It is no JSON, or a fact is missing or of another type.
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
    /// It is something else.
    #[error("{path} is {}, not {DEVICES_SCHEMA}", .found.as_deref().map_or("JSON without a schema".into(), |found| format!("of schema {found:?}")))]
    Schema {
        /// The file.
        path: String,
        /// What it says it is.
        found: Option<String>,
    },
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: Option<String>,
}

impl Host {
    /// Reads the text of a file of devices; `path` is for messages.
    ///
    /// # Errors
    /// What is wrong, with line and column where there is one.
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
            ("{}", "f is JSON without a schema, not nimctl.devices/1"),
            ("{\"schema\": \"nimctl.error/1\"}", "f is of schema \"nimctl.error/1\", not nimctl.devices/1"),
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

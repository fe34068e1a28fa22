//! Device files, written by an earlier probe.

use serde::Deserialize;

use super::{DEVICES_SCHEMA, Device, Host};
use crate::gpu;
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
        let mut host: Self = serde_json::from_str(text).map_err(invalid)?;
        host.devices.iter_mut().for_each(complete);
        Ok(host)
    }
}

/// Fills in what follows from the product name and the PCI id of a GPU that the file doesn't identify: someone wrote it by hand,
/// or an older nimctl with a shorter list.
fn complete(device: &mut Device) {
    if device.known_as.is_some() {
        return;
    }
    device.pci_id = device.pci_id.as_deref().map(gpu::full_pci_id);
    if let Some(known) = gpu::identified(Some(&device.product_name), device.pci_id.as_deref()) {
        device.known_as = Some(known.name.clone());
        device.compute_capability = device.compute_capability.or(Some(known.compute_capability));
        device.unified_memory |= known.unified_memory;
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
    fn what_follows_from_name_and_id_may_be_absent() {
        let text = r#"{"schema": "nimctl.devices/1", "origin": "stated", "devices": [
            {"index": 0, "product_name": "NVIDIA L4"},
            {"index": 1, "product_name": "a new name", "pci_id": "2330"},
            {"index": 2, "product_name": "NVIDIA L4-24Q", "pci_id": "27b8:10de"}]}"#;
        let devices = Host::read(text, "f").unwrap().devices;
        let known: Vec<_> = devices.iter().map(|device| device.known_as.as_deref()).collect();
        assert_eq!(known, [Some("l4"), Some("h100-sxm"), None]);
        assert_eq!(devices[0].compute_capability, Some("8.9".parse().unwrap()));
        assert_eq!(devices[1].pci_id.as_deref(), Some("2330:10de"));
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

//! Pins: profiles that a person wants to keep.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::profile::ProfileId;
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file.
pub(super) const PIN_SCHEMA: &str = "nimctl.pin/1";

/// Why a profile is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    schema: String,
    /// What the person wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Pin {
    /// Makes a pin with a note.
    pub fn new(note: Option<String>) -> Self {
        Self { schema: PIN_SCHEMA.into(), note }
    }

    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, PIN_SCHEMA, path)
    }
}

impl Store {
    /// Pins a profile; a pin that is there gets the new note. Waits while garbage is collected, and keeps nothing if it was collected.
    ///
    /// # Errors
    /// A store that can't be written, or a pin of a newer nimctl. `None` if the profile is no longer there.
    pub fn pin(&self, id: &ProfileId, pin: &Pin) -> Result<Option<()>, StoreError> {
        let ((), _in_use) = self.hold(|| Ok::<_, StoreError>(((), vec![*id])))?;
        if !self.passport_path(id).exists() {
            return Ok(None);
        }
        self.write_pin(id, pin)?;
        Ok(Some(()))
    }

    /// Writes a pin, whether its profile is there or not.
    pub(crate) fn write_pin(&self, id: &ProfileId, pin: &Pin) -> Result<(), StoreError> {
        self.write(&self.pin_path(id), PIN_SCHEMA, pin)
    }

    /// Takes a profile's pin away; returns whether it had one.
    ///
    /// # Errors
    /// A store that can't be written.
    pub fn unpin(&self, id: &ProfileId) -> Result<bool, StoreError> {
        match fs_err::remove_file(self.pin_path(id)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.unwritable(error)),
        }
    }

    /// Returns where a profile's pin is.
    pub(super) fn pin_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/pins").join(format!("{id}.json"))
    }
}

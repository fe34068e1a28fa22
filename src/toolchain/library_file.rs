//! A shared library on disk.

use std::path::PathBuf;

use serde::Serialize;

use crate::digest::Sha256;

/// One shared library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct LibraryFile {
    /// Its file name; links are resolved where the user brought it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

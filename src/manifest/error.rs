//! What can be wrong with a manifest.

use crate::profile::InvalidTag;
use crate::stored_format::Newer;
use crate::yaml::Position;

/// A manifest that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the YAML of a manifest.
    #[error("{path}:{position}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// Where in it.
        position: Position,
        /// What is wrong, and what was expected.
        message: String,
    },
    /// A later schema version.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// Another schema version.
    #[error("{path} has schema version {found}; this nimctl reads 2.0, and the form of 2024 that has none")]
    Version {
        /// The file.
        path: String,
        /// What it says.
        found: String,
    },
    /// The input of NVIDIA's manifest generator.
    #[error(
        "{path} is a profiles file (schema version 1.0), not a manifest; `nimctl manifest import` makes one of it"
    )]
    ProfilesFile {
        /// The file.
        path: String,
    },
    /// Two profiles that no tag tells apart.
    #[error("profiles {first} and {second} have equal tags: nobody could select between them")]
    EqualTags {
        /// One id.
        first: String,
        /// The other.
        second: String,
    },
    /// Tags that have no id.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
    /// The text could not be made.
    #[error("cannot write the manifest as YAML: {0}")]
    Write(String),
}

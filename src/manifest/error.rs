//! Errors of manifests.

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
    /// A newer schema version.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// An unsupported schema version.
    #[error(
        "{path} has schema version {found}; this nimctl reads schema 2.0 and the 2024 form, which has no version"
    )]
    Version {
        /// The file.
        path: String,
        /// The version in the file.
        found: String,
    },
    /// The input of NVIDIA's manifest generator.
    #[error(
        "{path} is a profiles file (schema version 1.0), not a manifest; convert it with `nimctl manifest import`"
    )]
    ProfilesFile {
        /// The file.
        path: String,
    },
    /// Two profiles with equal tags.
    #[error("profiles {first} and {second} have equal tags: selection can't tell them apart")]
    EqualTags {
        /// One id.
        first: String,
        /// The other.
        second: String,
    },
    /// Tags for which NIM's rule gives no id.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
    /// The manifest can't be serialized.
    #[error("cannot write the manifest as YAML: {0}")]
    Write(String),
}

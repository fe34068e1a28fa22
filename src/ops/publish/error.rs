//! Why a release was not published.

use std::io;
use std::path::PathBuf;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::oci::PlaceError;
use crate::ops::error::PipelineError;
use crate::ops::verify::ReadReleaseError;
use crate::store::StoreError;

/// Why a release was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recipe.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A folder that is no release.
    #[error("cannot read the release {}: {source}", path.display())]
    NoRelease {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ReadReleaseError,
    },
    /// A document of the release that is missing or wrong.
    #[error("the release {}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is not the one of the release.
    #[error("{} is {found}, but the release says {expected}: run `nimctl verify`, or build it again", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// Its digest in the release.
        expected: Sha256,
        /// Its digest.
        found: Sha256,
    },
    /// A file that is not what it was when its chunks were listed.
    #[error("{} was damaged or changed: run `nimctl build` again, which replaces damaged files", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The release to start from is not there.
    #[error("{place} has no release {from} to start from")]
    NoEarlier {
        /// The place.
        place: String,
        /// What was named.
        from: String,
    },
    /// A signature for a place that keeps none.
    #[error("{place} keeps no signatures: only registries do")]
    KeepsNoSignatures {
        /// The place.
        place: String,
    },
    /// A recipe of which the store has no profile.
    #[error("{path} has no built profile: run `nimctl build {path}` first")]
    NothingBuilt {
        /// The recipe.
        path: String,
    },
    /// The manifest, notes or report can't be written.
    #[error("cannot write {what}: {problem}")]
    Document {
        /// Which.
        what: &'static str,
        /// Why not.
        problem: String,
    },
    /// Cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A bug of ours.
    #[error("{0}")]
    Bug(&'static str),
}

impl PublishError {
    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            Self::KeepsNoSignatures { .. } => Some(
                "publish without --signature, and give the file to who pulls: `nimctl pull --signature FILE`"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Place(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Pipeline(error) => error.kind(),
            Self::NoRelease { .. }
            | Self::Damaged { .. }
            | Self::Read { .. }
            | Self::NoEarlier { .. }
            | Self::KeepsNoSignatures { .. }
            | Self::NothingBuilt { .. }
            | Self::Document { .. } => ErrorKind::Input,
            Self::OtherFile { .. } | Self::Changed { .. } => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
            Self::Bug(_) => ErrorKind::Bug,
        }
    }
}

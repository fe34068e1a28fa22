//! Why a release was not published.

use std::io;
use std::path::{Path, PathBuf};

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
    #[error("{} is {found}, but the release says {expected}", path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
        /// The release folder that it is in, if it is not in the store.
        folder: Option<PathBuf>,
        /// Its digest in the release.
        expected: Sha256,
        /// Its digest.
        found: Sha256,
    },
    /// A file that is not what it was when its chunks were listed.
    #[error("{} was damaged or changed", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The release folder that it is in, if it is not in the store.
        folder: Option<PathBuf>,
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
    /// Attestations for a place that keeps none.
    #[error("{place} keeps no attestations: only registries do")]
    KeepsNoAttestations {
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
    /// Says of a damaged file that it is one of a release folder, if one is published.
    pub(super) fn in_release(self, release: Option<&Path>) -> Self {
        let folder = release.map(Path::to_path_buf);
        match self {
            Self::OtherFile { path, folder: _, expected, found } => {
                Self::OtherFile { path, folder, expected, found }
            }
            Self::Changed { path, folder: _ } => Self::Changed { path, folder },
            other => other,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            Self::KeepsNoSignatures { .. } => Some(
                "publish without --signature, and give the file to who pulls: `nimctl pull --signature FILE`"
                    .into(),
            ),
            Self::KeepsNoAttestations { .. } => Some(
                "publish without --attestations, and give the file to who pulls: `nimctl pull --attestations FILE`"
                    .into(),
            ),
            Self::OtherFile { folder, .. } | Self::Changed { folder, .. } => Some(match folder {
                Some(folder) => format!(
                    "`nimctl verify {}` lists every problem; make the release again, or get it again from where it came",
                    folder.display()
                ),
                None => "run `nimctl build` again, which replaces damaged files".into(),
            }),
            _ => None,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Place(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Pipeline(error) => error.kind(),
            Self::NoRelease { source, .. } => source.kind(),
            Self::Damaged { .. }
            | Self::Read { .. }
            | Self::NoEarlier { .. }
            | Self::KeepsNoSignatures { .. }
            | Self::KeepsNoAttestations { .. }
            | Self::NothingBuilt { .. }
            | Self::Document { .. } => ErrorKind::Input,
            Self::OtherFile { .. } | Self::Changed { .. } => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
            Self::Bug(_) => ErrorKind::Bug,
        }
    }
}

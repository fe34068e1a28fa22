//! Why a profile was not pulled.

use std::io;
use std::path::PathBuf;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::oci::{InvalidDocument, PlaceError};
use crate::packs::InvalidIndex;
use crate::store::StoreError;

/// Why a profile was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest or index that can't be read.
    #[error(transparent)]
    Document(#[from] InvalidDocument),
    /// A pack index that can't be used.
    #[error("the pack index: {0}")]
    Index(#[from] InvalidIndex),
    /// Nothing there.
    #[error("{place} has no {which}")]
    NoRelease {
        /// The place.
        place: String,
        /// The tag or digest.
        which: String,
    },
    /// Something else than a release.
    #[error("{name} is {found}, not a release that `nimctl publish` made")]
    NotARelease {
        /// The place and tag.
        name: String,
        /// What it is.
        found: String,
    },
    /// A release that can't be used.
    #[error("{name}: {problem}")]
    BadRelease {
        /// The place and tag.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The release has no such profile.
    #[error("{place} has no profile {id}")]
    NoProfile {
        /// The place.
        place: String,
        /// The id.
        id: String,
    },
    /// A profile that is not what it says.
    #[error("profile {id}: {problem}")]
    BadProfile {
        /// Its id.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Bytes that are not those of a chunk.
    #[error(
        "{place}: pack {pack} has other bytes at {offset} than the index says; publish the release again"
    )]
    BadChunk {
        /// The place.
        place: String,
        /// The pack.
        pack: Sha256,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// A file that is not what the profile says, although its parts are.
    #[error("file `{path}` is {found} in place of {expected}; nothing of it is kept")]
    BadFile {
        /// Its path in the profile.
        path: String,
        /// Its digest in the profile.
        expected: Sha256,
        /// What was put together.
        found: Sha256,
    },
    /// Reading or writing files here.
    #[error("{doing}")]
    Io {
        /// What was done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A folder that is not of this release.
    #[error("{} is neither empty nor a folder that an earlier pull of this release made: name another one", path.display())]
    OtherFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Too little space.
    #[error(
        "{free_bytes} bytes are free for the store, and {needed_bytes} are needed: make room, or set NIMCTL_STORE"
    )]
    NoSpace {
        /// Bytes that are free.
        free_bytes: u64,
        /// Bytes that are needed.
        needed_bytes: u64,
    },
    /// Cancelled.
    #[error("cancelled: what was fetched is kept, and the next pull goes on from there")]
    Cancelled,
}

impl PullError {
    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            _ => None,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Place(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::NoRelease { .. }
            | Self::NotARelease { .. }
            | Self::NoProfile { .. }
            | Self::Io { .. }
            | Self::OtherFolder { .. }
            | Self::NoSpace { .. } => ErrorKind::Input,
            Self::Document(_)
            | Self::Index(_)
            | Self::BadRelease { .. }
            | Self::BadProfile { .. }
            | Self::BadChunk { .. }
            | Self::BadFile { .. } => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

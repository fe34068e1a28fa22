//! Why a profile was not pulled.

use std::io;
use std::path::PathBuf;

use super::NotSigned;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::oci::{InvalidDocument, PlaceError};
use crate::ops::read_manifest::ReadManifestError;
use crate::packs::InvalidIndex;
use crate::portable_path::NotPortable;
use crate::registry::RegistryError;
use crate::store::{StoreError, is_full};
use crate::trust::RolledBack;
use crate::uri::UriError;

/// What is wrong with a file of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Its uri.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A server.
    #[error(transparent)]
    Server(#[from] RegistryError),
    /// A registry.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A file here.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its path.
    #[error("its path {0}")]
    Path(#[from] NotPortable),
    /// Its path and another one.
    #[error("its path and `{}` can't both be in one folder on every file system", other.escape_debug())]
    Collides {
        /// The other path.
        other: String,
    },
    /// No uri.
    #[error("the manifest does not say where it is: it has no uri")]
    NoUri,
    /// A checksum that can't be read.
    #[error("its checksum `{}` is none that nimctl computes: expected blake3:HEX, sha256:HEX or sha512:HEX", .0.escape_debug())]
    UnknownChecksum(String),
    /// Other bytes.
    #[error(
        "{uri} has other bytes than the manifest says: expected {expected}, got {found}; nothing of it is kept"
    )]
    Checksum {
        /// Where they come from.
        uri: String,
        /// The checksum in the manifest.
        expected: String,
        /// That of what came.
        found: String,
    },
    /// Only on the machine that built it.
    #[error(
        "{uri} is in the store of the machine that built it, and not in this one: publish the release, and pull that"
    )]
    OnlyInAStore {
        /// The uri.
        uri: String,
    },
    /// An artifact without it.
    #[error("{artifact} has no layer with this path as title")]
    NoLayer {
        /// The artifact.
        artifact: String,
    },
    /// Something about the file that only the profile as a whole can say.
    #[error("{0}")]
    Other(String),
}

impl FileError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Uri(error) => error.kind(),
            Self::Server(error) => error.kind(),
            Self::Place(error) => error.kind(),
            Self::Io(_) | Self::NoUri | Self::UnknownChecksum(_) | Self::OnlyInAStore { .. } => {
                ErrorKind::Input
            }
            Self::Path(_)
            | Self::Collides { .. }
            | Self::Checksum { .. }
            | Self::NoLayer { .. }
            | Self::Other(_) => ErrorKind::Refused,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Uri(error) => error.hint(),
            Self::Server(error @ RegistryError::NotFound { .. }) => error
                .hint()
                .map(|_| "check the uri; some servers say this too if you may not see the file".into()),
            Self::Server(error) => error.hint(),
            Self::Place(error) => error.hint(),
            _ => None,
        }
    }
}

/// Why a profile was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its signature.
    #[error(transparent)]
    Signature(#[from] NotSigned),
    /// An older release than the one here.
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
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
    /// A manifest that can't be read.
    #[error(transparent)]
    Manifest(#[from] ReadManifestError),
    /// A file of a manifest's profile that could not be fetched, or is not what the manifest says.
    #[error("profile {id}, file `{}`", path.escape_debug())]
    File {
        /// The profile.
        id: String,
        /// Its path in the profile.
        path: String,
        /// What is wrong with it.
        source: FileError,
    },
    /// A profile of others, which the store does not keep.
    #[error("profile {id} was not made by nimctl: its files go to a folder, not to the store")]
    NeedsFolder {
        /// Its id.
        id: String,
    },
    /// Something in the folder that is not of a pull.
    #[error("{} is a link, or something else that a pull does not write to: remove it, or name another folder", path.display())]
    InTheWay {
        /// What it is.
        path: PathBuf,
    },
    /// A folder that was to be filled.
    #[error("{} is not empty: name another folder for the model store", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Too little space.
    #[error(
        "the disk of the store is full: {needed_bytes} bytes are needed and {free_bytes} are free; make room (`nimctl store gc \
         --dry-run` shows what could go) or set NIMCTL_STORE; what was fetched is kept, and the next pull goes on from there"
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
    /// Returns whether it means that nothing more fits on the disk.
    pub(super) fn is_disk_full(&self) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(is_full) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            Self::File { source, .. } => source.hint(),
            Self::Signature(error) => Some(error.hint()),
            Self::RolledBack(error) => Some(error.hint()),
            Self::NeedsFolder { .. } => Some("name a folder with -o FOLDER".into()),
            _ => None,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Place(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Manifest(error) => error.kind(),
            Self::File { source, .. } => source.kind(),
            Self::NoRelease { .. }
            | Self::NotARelease { .. }
            | Self::NoProfile { .. }
            | Self::Io { .. }
            | Self::OtherFolder { .. }
            | Self::NeedsFolder { .. }
            | Self::InTheWay { .. }
            | Self::NotEmpty { .. }
            | Self::NoSpace { .. } => ErrorKind::Input,
            Self::Document(_)
            | Self::Signature(_)
            | Self::RolledBack(_)
            | Self::Index(_)
            | Self::BadRelease { .. }
            | Self::BadProfile { .. }
            | Self::BadChunk { .. }
            | Self::BadFile { .. } => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

//! What keeps blobs and manifests, and how it fails.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::document::{Descriptor, InvalidDocument};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::registry::{ReadSeek, RegistryError};

/// A manifest, an index or a config is at most this long.
pub const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// Which manifest is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this tag.
    Tag(String),
    /// The one with this digest.
    Digest(Sha256),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A blob, as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// Takes bytes as they arrive.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Writes into a sink.
pub(crate) struct SinkWriter<'s, 'a>(pub(crate) &'s mut Sink<'a>);

impl io::Write for SinkWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A place that keeps artifacts. Used by several threads at once.
pub trait Place: Sync {
    /// Returns its name, as the user knows it.
    fn name(&self) -> String;

    /// Returns a manifest's bytes and media type, the digest verified; `None` if it is not there.
    ///
    /// # Errors
    /// The place can't be read, or gives other bytes.
    fn manifest(&self, which: &Which) -> Result<Option<(Vec<u8>, String)>, PlaceError>;

    /// Keeps a manifest, whose blobs and manifests are there; with a tag, also under that.
    ///
    /// # Errors
    /// The place can't be written.
    fn put_manifest(&self, tag: Option<&str>, media_type: &str, bytes: &[u8]) -> Result<Sha256, PlaceError>;

    /// Returns whether a blob is there.
    ///
    /// # Errors
    /// The place can't be read.
    fn has_blob(&self, digest: &Sha256) -> Result<bool, PlaceError>;

    /// Gives some bytes of a blob to `sink`: all of them, in their order, once. They are not verified.
    ///
    /// # Errors
    /// There is no such blob, or fewer bytes; the place can't be read; the sink's.
    fn read_blob(&self, blob: &Blob, range: Range<u64>, sink: &mut Sink<'_>) -> Result<(), PlaceError>;

    /// Keeps a blob, whose digest is known to be this one.
    ///
    /// # Errors
    /// The place can't be written.
    fn put_blob(&self, digest: &Sha256, bytes: &[u8]) -> Result<(), PlaceError>;

    /// Keeps what a source gives as a blob, if it is this one. The source may be read again from anywhere.
    ///
    /// # Errors
    /// The source can't be read or gives other bytes; the place can't be written.
    fn put_large_blob(&self, blob: &Blob, source: &mut dyn ReadSeek) -> Result<(), PlaceError>;

    /// Whether manifests about other manifests are found here by what they are about.
    fn keeps_referrers(&self) -> bool {
        false
    }

    /// Returns the manifests that are about another one (`subject`), of one artifact type; none where they are not kept.
    ///
    /// # Errors
    /// The place can't be read.
    fn referrers(&self, _subject: &Sha256, _artifact_type: &str) -> Result<Vec<Sha256>, PlaceError> {
        Ok(Vec::new())
    }

    /// Whether parts of blobs are fetched without the rest.
    fn reads_ranges(&self) -> bool {
        true
    }
}

/// What a place could not do.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Reading or writing files.
    #[error("{place}: {doing}")]
    Io {
        /// The place.
        place: String,
        /// What was done.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Something that others refer to is not there.
    #[error("{place} has no {what}")]
    Missing {
        /// The place.
        place: String,
        /// What is missing.
        what: String,
    },
    /// The bytes are not those that the digest names.
    #[error("{place} gave other bytes for {expected}: {found}")]
    OtherBytes {
        /// The place.
        place: String,
        /// The digest that was asked for.
        expected: Sha256,
        /// What came.
        found: String,
    },
    /// A document that can't be read.
    #[error("{place}: {source}")]
    Document {
        /// The place.
        place: String,
        /// What is wrong.
        source: InvalidDocument,
    },
    /// A place that can only be read.
    #[error("{place} can't be written: {reason}")]
    ReadOnly {
        /// The place.
        place: String,
        /// What to do.
        reason: &'static str,
    },
    /// A place that isn't one.
    #[error("{}: {reason}", path.display())]
    NotAPlace {
        /// The path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A client of the network.
    #[error("{source}")]
    Network {
        /// What it says.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What that means.
        kind: ErrorKind,
        /// What to do about it, where that is known.
        hint: Option<String>,
    },
}

impl From<RegistryError> for PlaceError {
    fn from(error: RegistryError) -> Self {
        let (kind, hint) = (error.kind(), error.hint());
        Self::Network { source: Box::new(error), kind, hint }
    }
}

impl PlaceError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Missing { .. } | Self::ReadOnly { .. } | Self::NotAPlace { .. } => {
                ErrorKind::Input
            }
            Self::OtherBytes { .. } | Self::Document { .. } => ErrorKind::Refused,
            Self::Network { source: _, kind, hint: _ } => *kind,
        }
    }
}

impl PlaceError {
    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Network { source: _, kind: _, hint } => hint.clone(),
            Self::Io { .. }
            | Self::Missing { .. }
            | Self::OtherBytes { .. }
            | Self::Document { .. }
            | Self::ReadOnly { .. }
            | Self::NotAPlace { .. } => None,
        }
    }
}

/// Returns a blob that fits into memory, verified.
///
/// # Errors
/// It is not there, has other bytes, or is longer than `limit_bytes`.
pub fn fetch_small(place: &dyn Place, blob: &Descriptor, limit_bytes: u64) -> Result<Vec<u8>, PlaceError> {
    let other = |found: String| PlaceError::OtherBytes { place: place.name(), expected: blob.digest, found };
    if blob.size > limit_bytes {
        return Err(other(format!("{} bytes are more than the {limit_bytes} that it may have", blob.size)));
    }
    let mut bytes = Vec::new();
    let whole = Blob { digest: blob.digest, size_bytes: blob.size };
    place.read_blob(&whole, 0..blob.size, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    let found = Sha256::of(&bytes);
    if found == blob.digest { Ok(bytes) } else { Err(other(format!("they are {found}"))) }
}

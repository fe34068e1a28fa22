//! What can go wrong with a store.

use std::io;
use std::path::PathBuf;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::stored_format::{Newer, Unreadable};

/// A store that doesn't do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be written.
    #[error("cannot write the store at {}: choose another with --store or NIMCTL_STORE, or fix its permissions", root.display())]
    Unwritable {
        /// The store's folder.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its disk is full.
    #[error(
        "the disk of the store at {} is full: {free_bytes} bytes are free; make room (`nimctl store gc --dry-run` shows what could go) or \
         choose another with --store or NIMCTL_STORE",
        root.display()
    )]
    Full {
        /// The store's folder.
        root: PathBuf,
        /// Bytes that are free.
        free_bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// There is none.
    #[error("there is no store at {}: choose another with --store or NIMCTL_STORE", root.display())]
    NoStore {
        /// The folder.
        root: PathBuf,
    },
    /// It can't be told what is needed.
    #[error("{0}; nothing is removed while it can't be told what is needed: run `nimctl store fsck` first")]
    Unsure(Unreadable),
    /// It can't be told which release of a model is the newest that was accepted.
    #[error(
        "{0}; it says which release of its model is the newest that was accepted here, and without it none is: take one on purpose \
         with `nimctl pull PLACE --allow-rollback`"
    )]
    NewestReleaseUnknown(Unreadable),
    /// A read or a move failed.
    #[error("{doing}")]
    Io {
        /// What was being done to which file.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Bytes that don't match their digest.
    #[error("{} is damaged: its digest should be {expected}, but is {found}; delete it and run `nimctl build` again", path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
        /// Its name.
        expected: Sha256,
        /// What its bytes give.
        found: Sha256,
    },
    /// A file of the store that a newer nimctl wrote.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// Cancelled by the user or a signal.
    #[error("interrupted while waiting for the store")]
    Cancelled,
}

impl StoreError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unwritable { .. }
            | Self::Full { .. }
            | Self::NoStore { .. }
            | Self::Io { .. }
            | Self::Newer(_) => ErrorKind::Input,
            Self::Damaged { .. } | Self::Unsure(_) | Self::NewestReleaseUnknown(_) => ErrorKind::Refused,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

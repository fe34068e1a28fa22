//! What can go wrong, and what is not trusted.

use std::io;
use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::files::destination::BadDestination;
use crate::ops::attest::AttestationsError;
use crate::ops::verify_signature::VerifySignatureError;
use crate::signing::KeyError;
use crate::trust::{Refused, TrustError};

/// A policy that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file can't be read.
    #[error("cannot read the trust policy {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
    /// It is no whole policy.
    #[error(transparent)]
    Policy(#[from] TrustError),
    /// The key of a first policy.
    #[error("cannot use the key {}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The file of the key of a first policy.
    #[error("cannot read the public key")]
    ReadKey {
        /// Why; names the path.
        source: io::Error,
    },
    /// There is a policy.
    #[error("{} exists: it is not overwritten without --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A path that YAML can't hold.
    #[error("cannot write the path {} into a policy: it is not UTF-8", path.display())]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// The place of the policy.
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// Writing it.
    #[error("cannot write the trust policy {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
}

impl PolicyError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Input
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } | Self::Policy(_) => Some(
                "fix the policy and check it with `nimctl trust check`: without it, nothing is accepted"
                    .into(),
            ),
            Self::Key { source, .. } => source.hint(),
            Self::Exists { .. } => Some("name another file with -o, or add a rule to this one".into()),
            Self::ReadKey { .. } | Self::NotUtf8 { .. } | Self::Destination(_) | Self::Write { .. } => None,
        }
    }
}

/// Why a release is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum NotTrusted {
    /// Its signature, or reading it.
    #[error(transparent)]
    Signature(#[from] VerifySignatureError),
    /// Something else than the folder of a release.
    #[error("{} is not a release folder, and a trust policy judges releases", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A file of the release that nobody signed.
    #[error("the signature does not cover {name}, which a release has")]
    NotSigned {
        /// The file, in the release.
        name: String,
    },
    /// A file of the release can't be read.
    #[error("cannot read the release")]
    Io(#[source] io::Error),
    /// A file changed since it was compared.
    #[error("{name} has other bytes than those that were signed")]
    Changed {
        /// The file, in the release.
        name: String,
    },
    /// A signed file that says nothing.
    #[error("the signed {name} can't be used: {problem}")]
    Document {
        /// The file, in the release.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Signed files that name different models or releases.
    #[error("the signed {name} is of {found}, and {MANIFEST} is of {expected}", MANIFEST = crate::manifest::MANIFEST_FILE)]
    Contradiction {
        /// The file, in the release.
        name: String,
        /// What it says.
        found: String,
        /// What the manifest says.
        expected: String,
    },
    /// The attestations beside it.
    #[error(transparent)]
    Attestations(#[from] AttestationsError),
    /// The policy.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl NotTrusted {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Signature(error) => error.kind(),
            Self::Attestations(error) => error.kind(),
            Self::NotAFolder { .. } | Self::Io(_) => ErrorKind::Input,
            Self::NotSigned { .. }
            | Self::Changed { .. }
            | Self::Document { .. }
            | Self::Contradiction { .. }
            | Self::Refused(_) => ErrorKind::Refused,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Signature(error) => error.hint(),
            Self::NotAFolder { .. } => {
                Some("unpack an archive first; --key verifies the signature of any file or folder".into())
            }
            Self::NotSigned { .. } => Some("ask for a release of which every file is signed".into()),
            Self::Document { .. } | Self::Contradiction { .. } => {
                Some("ask who signed it for a release that `nimctl verify` accepts".into())
            }
            Self::Changed { .. } => Some("find out what writes to it, and verify again".into()),
            Self::Refused(refused) => Some(refused.hint()),
            Self::Attestations(error) => error.hint(),
            Self::Io(_) => None,
        }
    }
}

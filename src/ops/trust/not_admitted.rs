//! Why a profile may not be used.

use std::path::PathBuf;

use super::NotTrusted;
use crate::error_kind::ErrorKind;
use crate::ops::error::PipelineError;
use crate::store::StoreError;
use crate::trust::{Refused, RolledBack};

/// A profile that the policy in place does not let pass.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// It has no signature.
    #[error("{policy} refuses {}: {why}", profile.escape_debug())]
    Unsigned {
        /// The policy.
        policy: String,
        /// The profile.
        profile: String,
        /// How it came here.
        why: Unsigned,
    },
    /// What was kept of its signature is not accepted.
    #[error("{policy} refuses {}: the signature that it was pulled with is not accepted: {problem}", profile.escape_debug())]
    Kept {
        /// The policy.
        policy: String,
        /// The profile.
        profile: String,
        /// Why.
        problem: String,
    },
    /// A release folder that is not as it was signed.
    #[error("{} is not as it was signed: {problem}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The first thing that is wrong.
        problem: String,
    },
    /// A release folder that is not accepted.
    #[error(transparent)]
    Release(#[from] NotTrusted),
    /// A rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// An older release than the one here.
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Putting together what was built.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

/// How a profile without a signature came here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// It was built here.
    #[error("it was built here, and nobody signed it")]
    BuiltHere,
    /// It is about to be.
    #[error("nobody has signed what is built here")]
    ToBeBuilt,
    /// It was pulled.
    #[error("it was pulled without a signature")]
    Pulled {
        /// From where.
        place: String,
    },
    /// It did not.
    #[error("the store has no signature of it")]
    NotHere,
    /// It has no id of ours.
    #[error("its id does not stand for its files, so no signature is of them")]
    OfOthers,
}

impl NotAdmitted {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsigned { .. }
            | Self::Kept { .. }
            | Self::Folder { .. }
            | Self::Refused(_)
            | Self::RolledBack(_) => ErrorKind::Refused,
            Self::Release(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Pipeline(error) => error.kind(),
        }
    }

    /// Returns whether the policy said no, and nothing failed.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::Pipeline(_))
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unsigned { policy, why: Unsigned::BuiltHere | Unsigned::ToBeBuilt, .. } => format!(
                "write `built_here: accept` in {policy} to use what is built on this host, or sign and publish the release, and pull it"
            ),
            Self::Unsigned { why: Unsigned::Pulled { place }, .. } => {
                format!("pull it again under the policy: `nimctl pull {place}`")
            }
            Self::Unsigned { why: Unsigned::NotHere, .. } => {
                "pull it under the policy: `nimctl pull PLACE`".into()
            }
            Self::Unsigned { why: Unsigned::OfOthers, .. } => {
                "build the model with nimctl, sign and publish the release, and pull it".into()
            }
            Self::Kept { .. } => {
                "pull a release under the policy that somebody signed whom it trusts: `nimctl pull PLACE`"
                    .into()
            }
            Self::Folder { .. } => "`nimctl verify FOLDER` lists everything that is wrong".into(),
            Self::Release(error) => return error.hint(),
            Self::Refused(refused) => refused.hint(),
            Self::RolledBack(error) => error.hint(),
            Self::Store(_) => return None,
            Self::Pipeline(error) => return error.hint(),
        };
        Some(hint)
    }
}

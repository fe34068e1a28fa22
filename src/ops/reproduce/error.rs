//! Why a release can't be reproduced as a whole. What concerns one profile is in its result.

use std::io;
use std::path::PathBuf;

use crate::canonical::NotCanonical;
use crate::error_kind::ErrorKind;
use crate::manifest::ManifestError;
use crate::onnx::OnnxError;
use crate::ops::error::PipelineError;
use crate::ops::pull::PullError;
use crate::ops::validate::ValidateError;
use crate::ops::verify::Finding;
use crate::store::StoreError;
use crate::stored_format::Unreadable;

/// This many problems of a damaged release are in its message.
const SHOWN: usize = 5;

/// What makes it impossible as a whole.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum ReproduceError {
    /// The folder is none of a release.
    #[error("{} is not a release folder: it has no {manifest}", path.display())]
    NotARelease { path: PathBuf, manifest: &'static str },
    /// Nothing is in the release.
    #[error("the release has no profiles: there is nothing to reproduce")]
    NoProfiles,
    /// The release is not what it says itself.
    #[error("{} is damaged, and was not reproduced:\n{}", path.display(), shown(findings))]
    Damaged { path: PathBuf, findings: Vec<Finding> },
    /// `--only` selects nothing.
    #[error("no profile of the release matches `{selector}`; its profiles are {}", profiles.join(", "))]
    NothingSelected { selector: String, profiles: Vec<String> },
    /// Something named with `--graphs` is not there.
    #[error("cannot read the graphs in {}", path.display())]
    Graphs { path: PathBuf, source: io::Error },
    /// A file that can't be read or written.
    #[error("{doing}")]
    Io { doing: String, source: io::Error },
    /// The manifest of the folder.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A passport or contents.json.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The release can't be pulled.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The recipe, or building.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Running plans that differ.
    #[error(transparent)]
    Run(#[from] ValidateError),
    /// The temporary store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A graph that is compared.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A number that no document can have.
    #[error(transparent)]
    NotCanonical(#[from] NotCanonical),
    /// The user or a signal said stop.
    #[error("interrupted; nothing of the rebuild was kept")]
    Cancelled,
}

fn shown(findings: &[Finding]) -> String {
    let mut lines: Vec<String> =
        findings.iter().take(SHOWN).map(|Finding { path, problem }| format!("  {path}: {problem}")).collect();
    if findings.len() > SHOWN {
        lines.push(format!("  … ({} problems in all)", findings.len()));
    }
    lines.join("\n")
}

impl ReproduceError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotARelease { .. }
            | Self::NothingSelected { .. }
            | Self::NoProfiles
            | Self::Graphs { .. }
            | Self::Io { .. }
            | Self::Manifest(_) => ErrorKind::Input,
            Self::Damaged { .. } | Self::Unreadable(_) | Self::NotCanonical(_) => ErrorKind::Refused,
            Self::Pull(source) => source.kind(),
            Self::Pipeline(source) => source.kind(),
            Self::Run(source) => source.kind(),
            Self::Store(source) => source.kind(),
            Self::Onnx(source) => source.kind(),
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }

    /// Returns what the user can do, where the message doesn't say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotARelease { .. } => Some(
                "name the folder that `nimctl release` or `nimctl pull -o` wrote, or a place as for `nimctl pull`".into(),
            ),
            Self::Damaged { .. } => {
                Some("`nimctl verify` lists every problem; get the release again from where it came".into())
            }
            Self::Pull(source) => source.hint(),
            Self::Pipeline(source) => source.hint(),
            Self::Run(source) => source.hint(),
            _ => None,
        }
    }
}

/// Says what was done to files when that failed.
pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ReproduceError {
    let doing = doing.into();
    move |source| ReproduceError::Io { doing, source }
}

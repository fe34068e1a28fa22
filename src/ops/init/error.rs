//! What can go wrong while a recipe is proposed.

use std::io;
use std::path::PathBuf;

use crate::error_kind::ErrorKind;
use crate::files::destination::BadDestination;
use crate::gpu::UnknownGpu;
use crate::onnx::OnnxError;

/// Why no recipe can be proposed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum InitError {
    /// A file that is no ONNX model.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// A GPU that is not known.
    #[error(transparent)]
    Gpu(#[from] UnknownGpu),
    /// A name that a recipe can't have.
    #[error(
        "{what} `{name}` may contain only letters, digits, `.`, `_` and `-`, and must start and end with a letter or digit"
    )]
    Name { what: &'static str, name: String },
    /// The recipe already exists.
    #[error("{} already exists", path.display())]
    Exists { path: PathBuf },
    /// The recipe would replace what it may not.
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// One file, named twice.
    #[error("{} is named twice: name each ONNX file once", path.display())]
    Twice { path: PathBuf },
    /// A path that YAML can't hold.
    #[error("the path {} is not UTF-8, so a recipe cannot name it: rename the file", path.display())]
    NotUtf8 { path: PathBuf },
    /// A folder that can't be resolved.
    #[error("cannot find {}", path.display())]
    Resolve { path: PathBuf, source: io::Error },
    /// The recipe can't be written.
    #[error("cannot write the recipe")]
    Write { source: io::Error },
    /// What was proposed is no valid recipe.
    #[error("the proposed recipe is not valid: {0}")]
    Proposal(String),
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
}

impl InitError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Onnx(error) => error.kind(),
            Self::Gpu(_)
            | Self::Name { .. }
            | Self::Exists { .. }
            | Self::Destination(_)
            | Self::Twice { .. }
            | Self::NotUtf8 { .. }
            | Self::Resolve { .. }
            | Self::Write { .. } => ErrorKind::Input,
            Self::Proposal(_) => ErrorKind::Bug,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }

    /// Returns what the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => {
                Some("replace it with --force, name another file with -o, or print with `-o -`".into())
            }
            _ => None,
        }
    }
}

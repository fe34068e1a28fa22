//! What can go wrong while a source is fetched.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::toolchain::ToolchainError;

/// A failure to make a source a local file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
#[non_exhaustive]
pub enum SourceError {
    #[error(transparent)]
    Wheel(ToolchainError),
    #[error("`{file}` cannot be a file in a wheel: expected a relative path without `..`")]
    BadPath { file: String },
    #[error("`{url}` is not a valid URL: {reason}")]
    BadUrl { url: String, reason: String },
    #[error("`{url}` is not an https URL")]
    NotHttps { url: String },
    #[error("{url} redirects to `{target}`, which is not https")]
    RedirectNotHttps { url: String, target: String },
    #[error("{url} redirected more than {limit} times")]
    TooManyRedirects { url: String, limit: usize },
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
    #[error("cannot reach {url}")]
    Unreachable { url: String, source: reqwest::Error },
    #[error("the connection to {url} closed after {got_bytes} bytes")]
    BrokeOff { url: String, got_bytes: u64, source: io::Error },
    #[error("{url} sent no data for {} s, after {got_bytes} bytes", limit.as_secs_f64())]
    Stalled { url: String, got_bytes: u64, limit: Duration },
    #[error("the file at {url} is not the one that the recipe names: expected {expected}, got {got}")]
    WrongDigest { url: String, expected: Sha256, got: Sha256 },
    #[error("cancelled while fetching {url}")]
    Cancelled { url: String },
    #[error("no space left in {} for {url}", folder.display())]
    DiskFull { url: String, folder: PathBuf },
    #[error("cannot store {url} in {}", folder.display())]
    Keep { url: String, folder: PathBuf, source: io::Error },
    #[error("cannot set up https")]
    SetUp { source: reqwest::Error },
}

impl From<ToolchainError> for SourceError {
    fn from(error: ToolchainError) -> Self {
        Self::Wheel(error)
    }
}

impl SourceError {
    pub(super) fn keeping(url: &str, folder: &Path, source: io::Error) -> Self {
        let (url, folder) = (url.into(), folder.into());
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { url, folder },
            _ => Self::Keep { url, folder, source },
        }
    }

    /// Returns what the failure means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Wheel(error) => error.kind(),
            Self::BadPath { .. }
            | Self::BadUrl { .. }
            | Self::NotHttps { .. }
            | Self::DiskFull { .. }
            | Self::Keep { .. } => ErrorKind::Input,
            Self::WrongDigest { .. } | Self::RedirectNotHttps { .. } => ErrorKind::Refused,
            Self::TooManyRedirects { .. }
            | Self::Status { .. }
            | Self::Unreachable { .. }
            | Self::BrokeOff { .. }
            | Self::Stalled { .. }
            | Self::SetUp { .. } => ErrorKind::Unavailable,
            Self::Cancelled { .. } => ErrorKind::Interrupted,
        }
    }

    /// Returns what to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Wheel(error) => return error.hint(),
            Self::NotHttps { .. } => "use an https URL; http is allowed only on this machine (127.0.0.1)",
            Self::RedirectNotHttps { .. } => "use the final URL if it is available over https",
            Self::Status { status: 401 | 403, .. } => {
                "nimctl sends no credentials: download the file and name it with `path`"
            }
            Self::Status { status: 404 | 410, .. } => "check the URL in the recipe",
            Self::Status { .. } | Self::BrokeOff { .. } | Self::Stalled { .. } => "try again later",
            Self::Unreachable { .. } => "check the URL, the network and the proxy (HTTPS_PROXY)",
            Self::WrongDigest { .. } => {
                "nothing was stored; the file at that URL changed, or the digest in the recipe is wrong"
            }
            Self::DiskFull { .. } => "free some space, or choose another data folder",
            Self::Keep { .. } => "choose a writable data folder",
            Self::BadPath { .. }
            | Self::BadUrl { .. }
            | Self::TooManyRedirects { .. }
            | Self::Cancelled { .. }
            | Self::SetUp { .. } => return None,
        };
        Some(hint.into())
    }
}

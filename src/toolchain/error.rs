//! What can go wrong while a tool is fetched, installed or looked for.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Tool;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::stored_format::Newer;

/// A failure around toolchains and wheels.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its fields are")]
#[non_exhaustive]
pub enum ToolchainError {
    #[error("cannot read the toolchain lock {}", path.display())]
    ReadLock { path: PathBuf, source: io::Error },
    #[error("{name} is not a toolchain lock: {reason}")]
    InvalidLock { name: String, reason: String },
    #[error(transparent)]
    Newer(#[from] Newer),
    #[error("nimctl cannot install {tool}: no wheel contains it; install it yourself")]
    NoWheel { tool: Tool },
    #[error("no wheel of {tool} is pinned for {host}, only for {supported}")]
    UnsupportedHost { tool: Tool, host: String, supported: String },
    #[error("no Python was found (tried {tried}); nimctl needs its pip to fetch {what}")]
    NoPython { tried: String, what: String },
    #[error("the Python `{python}` has no pip, which nimctl needs to fetch {what}")]
    NoPip { python: String, what: String },
    #[error("cannot start `{python}`")]
    StartPython { python: String, source: io::Error },
    #[error("pip could not fetch {what} ({status}); its output:\n{said}")]
    PipFailed { what: String, status: String, said: String },
    #[error("pip reported success for {what} but left {found} wheels instead of one")]
    PipLeftNoWheel { what: String, found: usize },
    #[error("fetching {what} took longer than {} s", limit.as_secs())]
    TimedOut { what: String, limit: Duration },
    #[error("cancelled while {doing}")]
    Cancelled { doing: String },
    #[error("the wheel of {what} is not the pinned one: expected {expected}, got {}", Got(got))]
    WrongWheel { what: String, expected: Sha256, got: Option<Sha256> },
    #[error("`{file}` in the wheel of {what} is not the pinned one: expected {expected}, got {got}")]
    WrongFile { what: String, file: String, expected: String, got: String },
    #[error("the wheel of {what} has no file `{file}`")]
    NotInWheel { what: String, file: String },
    #[error("the wheel of {what} cannot be unpacked: {reason}")]
    BadWheel { what: String, reason: String },
    #[error("`{text}` is not a valid package {field}")]
    BadRequirement { field: &'static str, text: String },
    #[error("cannot {doing}: no space left in {}", folder.display())]
    DiskFull { doing: String, folder: PathBuf },
    #[error("cannot {doing}: {} cannot be written", folder.display())]
    NotWritable { doing: String, folder: PathBuf, source: io::Error },
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    #[error("{tool} is not installed: there is nothing to export")]
    NothingToExport { tool: Tool },
    #[error("{} was not written by `nimctl toolchain export`: {reason}", path.display())]
    NotAnExport { path: PathBuf, reason: String },
    #[error("{} is damaged: {reason}", path.display())]
    DamagedExport { path: PathBuf, reason: String },
    #[error("{} contains {found} of {tool}, but {expected} is pinned", path.display())]
    OtherVersion { path: PathBuf, tool: Tool, found: String, expected: String },
    #[error("{} contains libraries for {found}, but this machine is {host}", path.display())]
    ExportForAnotherHost { path: PathBuf, found: String, host: String },
    #[error("{tool} is not installed")]
    NotInstalled { tool: Tool },
    #[error("the {tool} installation in {} is damaged: {reason}", folder.display())]
    Damaged { tool: Tool, folder: PathBuf, reason: String },
    #[error("{tool} was not found: no path was given, and {searched}")]
    NotFound { tool: Tool, searched: String },
    #[error("{library} was not found in {}, the folder given for {tool}", folder.display())]
    NotInFolder { tool: Tool, library: String, folder: PathBuf },
    #[error("{}, which was given for {tool}, does not exist", path.display())]
    OverrideMissing { tool: Tool, path: PathBuf },
    #[error("{} contains more than one {library} of {tool}: {found}", folder.display())]
    Ambiguous { tool: Tool, library: String, folder: PathBuf, found: String },
}

/// The digest that was found, where something told us.
struct Got<'a>(&'a Option<Sha256>);

impl std::fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(digest) => digest.fmt(f),
            None => f.write_str("another"),
        }
    }
}

impl ToolchainError {
    /// Sorts an I/O error met while writing below `folder`.
    pub(crate) fn writing(doing: impl Into<String>, folder: &Path, source: io::Error) -> Self {
        let doing = doing.into();
        // Nobody knows our temporary folders by name, and they are gone when the message is read.
        let is_ours = |folder: &&Path| {
            folder.components().any(|part| part.as_os_str().to_string_lossy().starts_with(".tmp-"))
        };
        let folder = folder.ancestors().find(|folder| !is_ours(folder)).unwrap_or(folder);
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { doing, folder: folder.into() }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { doing, folder: folder.into(), source }
            }
            _ => Self::Io { doing, source },
        }
    }

    /// Returns what the failure means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadLock { .. }
            | Self::InvalidLock { .. }
            | Self::Newer(_)
            | Self::NotInWheel { .. }
            | Self::BadRequirement { .. }
            | Self::DiskFull { .. }
            | Self::NotWritable { .. }
            | Self::Io { .. }
            | Self::NotAnExport { .. }
            | Self::ExportForAnotherHost { .. }
            | Self::NotInFolder { .. }
            | Self::OverrideMissing { .. }
            | Self::Ambiguous { .. } => ErrorKind::Input,
            Self::WrongWheel { .. }
            | Self::WrongFile { .. }
            | Self::BadWheel { .. }
            | Self::DamagedExport { .. }
            | Self::OtherVersion { .. } => ErrorKind::Refused,
            Self::NoWheel { .. }
            | Self::UnsupportedHost { .. }
            | Self::NoPython { .. }
            | Self::NoPip { .. }
            | Self::StartPython { .. }
            | Self::PipFailed { .. }
            | Self::PipLeftNoWheel { .. }
            | Self::TimedOut { .. }
            | Self::NotInstalled { .. }
            | Self::NothingToExport { .. }
            | Self::Damaged { .. }
            | Self::NotFound { .. } => ErrorKind::Unavailable,
            Self::Cancelled { .. } => ErrorKind::Interrupted,
        }
    }

    /// Returns what to do about it, where we know.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Newer(_) => "or use the files that came with this version of nimctl".into(),
            Self::NoWheel { tool } | Self::NotFound { tool, .. } => format!(
                "name the library or its folder with --{tool}-lib or {}, or put it on the loader path",
                tool.override_variable()
            ),
            Self::UnsupportedHost { tool, .. } => {
                format!("set {} to the path of your own library", tool.override_variable())
            }
            Self::NoPython { .. } => "install python3 with pip, or name an interpreter".into(),
            Self::NoPip { python, .. } => {
                format!("install pip for it (`{python} -m ensurepip`, or your system's python3-pip)")
            }
            Self::PipFailed { said, .. } => pip_hint(said),
            Self::TimedOut { .. } => {
                "check the network, or fetch the wheel elsewhere and name its folder in PIP_FIND_LINKS".into()
            }
            Self::WrongWheel { .. } | Self::WrongFile { .. } | Self::BadWheel { .. } => {
                "nothing was installed; find out where your index got this wheel from before you trust it"
                    .into()
            }
            Self::NotAnExport { .. } => {
                "name a tar that `nimctl toolchain export` wrote, where the libraries are installed".into()
            }
            Self::DamagedExport { .. } => {
                "nothing was installed; compare the tar's sha256 with the one that `nimctl toolchain export` \
                 printed, and copy or export it again"
                    .into()
            }
            Self::OtherVersion { .. } => {
                "nothing was installed; export it with this version of nimctl, or name the lock of the export \
                 with --toolchain-lock"
                    .into()
            }
            Self::ExportForAnotherHost { .. } => {
                "export the libraries on a machine of the same kind as this one".into()
            }
            Self::DiskFull { .. } => "free some space, or choose another data folder".into(),
            Self::NotWritable { .. } => "choose a folder that you may write to".into(),
            Self::NothingToExport { tool } => {
                format!("run `nimctl toolchain install {tool}`; a library of your own can be copied as it is")
            }
            Self::NotInstalled { tool } | Self::Damaged { tool, .. } => format!(
                "run `nimctl toolchain install {tool}`, or name your own with {}",
                tool.override_variable()
            ),
            Self::Ambiguous { .. } => {
                "name the library file itself, or a folder that holds one version".into()
            }
            Self::NotInFolder { .. } | Self::OverrideMissing { .. } => {
                "name the library file or the folder that holds it".into()
            }
            Self::ReadLock { .. }
            | Self::InvalidLock { .. }
            | Self::StartPython { .. }
            | Self::PipLeftNoWheel { .. }
            | Self::Cancelled { .. }
            | Self::NotInWheel { .. }
            | Self::BadRequirement { .. }
            | Self::Io { .. } => return None,
        };
        Some(hint)
    }
}

fn pip_hint(said: &str) -> String {
    let has = |needles: &[&str]| needles.iter().any(|needle| said.contains(needle));
    if has(&["CERTIFICATE_VERIFY_FAILED", "SSLError"]) {
        "your index's certificate isn't trusted: name your certificates in PIP_CERT".into()
    } else if has(&["ProxyError", "Connection", "Temporary failure in name resolution", "Max retries"]) {
        "pip could not reach its index: set a proxy (HTTPS_PROXY), a mirror (PIP_INDEX_URL), or name a folder that \
         holds the wheel in PIP_FIND_LINKS"
            .into()
    } else if has(&["from versions: none"]) {
        "pip found no version at all: its index is out of reach (HTTPS_PROXY, PIP_INDEX_URL) or lacks the package; a \
         folder that holds the wheel can be named in PIP_FIND_LINKS"
            .into()
    } else if has(&["No matching distribution"]) {
        "pip's index has no such wheel, or pip is too old to see it: update pip, check the mirror (PIP_INDEX_URL), or \
         name a folder that holds the wheel in PIP_FIND_LINKS"
            .into()
    } else {
        "nimctl uses your own pip and its configuration: mirrors (PIP_INDEX_URL), proxies (HTTPS_PROXY) and wheel \
         folders (PIP_FIND_LINKS) work"
            .into()
    }
}

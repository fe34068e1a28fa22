//! Reading a manifest from a file, within limits.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error_kind::ErrorKind;
use crate::manifest::{ManifestDocument, ManifestError, ManifestProfile, file_path, store_digest};
use crate::profile::CONTENTS_FILE;
use crate::store::Store;
use crate::yaml::Limits;

/// A manifest that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadManifestError {
    /// The file can't be read.
    #[error("cannot read the manifest")]
    Read {
        /// Why; names the path.
        source: io::Error,
    },
    /// No manifest in any of the default folders.
    #[error("no manifest found; tried {}", .tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound {
        /// The paths that were tried.
        tried: Vec<PathBuf>,
    },
    /// The file is not a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl ReadManifestError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::NotFound { .. } | Self::Manifest(_) => ErrorKind::Input,
        }
    }
}

/// Reads a manifest of any form.
///
/// # Errors
/// A file that can't be read, or is not a manifest.
pub fn read_manifest(path: &Path) -> Result<ManifestDocument, ReadManifestError> {
    let text = read_limited(path).map_err(|source| ReadManifestError::Read { source })?;
    Ok(ManifestDocument::parse(&text, &path.display().to_string())?)
}

/// Returns where a profile's `contents.json` is: in the store, or in the manifest's folder, as in a release. `None` if neither its uri
/// nor the store says.
pub(super) fn contents_path(
    manifest: &Path,
    profile: &ManifestProfile,
    store: Option<&Store>,
) -> Option<PathBuf> {
    let uri = profile.workspace.files.get(CONTENTS_FILE)?.uri.as_deref()?;
    let in_store = || Some(store?.blob_path(&store_digest(uri)?));
    let beside = || Some(manifest.parent()?.join(file_path(uri)?));
    in_store().or_else(beside)
}

/// Fails if a manifest that is about to be overwritten was written by a newer nimctl. Anything else may be overwritten.
///
/// # Errors
/// A later schema version.
pub fn refuse_newer_manifest(path: &Path) -> Result<(), ReadManifestError> {
    match read_manifest(path) {
        Err(ReadManifestError::Manifest(error @ ManifestError::Newer(_))) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns the model that a manifest names; `None` if there is no manifest, or it names none.
pub(super) fn model_of(path: &Path) -> Option<String> {
    read_manifest(path).ok()?.into_manifest().model
}

/// Reads a file, up to one byte more than a manifest may have: the parser then reports that it is too large.
pub(super) fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let limit = Limits::default().text_bytes as u64 + 1;
    let file = fs_err::File::open(path)?;
    let size_bytes = file.metadata()?.len().min(limit);
    let mut text = Vec::with_capacity(usize::try_from(size_bytes).unwrap_or_default() + 1);
    file.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

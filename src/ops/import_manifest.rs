//! `manifest import`: a profiles file and its profiles' files → a manifest.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use walkdir::WalkDir;

use super::read_manifest::{ReadManifestError, read_limited};
use crate::digest::Blake3;
use crate::manifest::{self, ManifestDocument};

/// Makes a manifest from a profiles file. The files of a model version are those in the folder with its name in `files`,
/// without hidden ones.
///
/// # Errors
/// Files that can't be read; text that is not a profiles file.
pub fn import_manifest(profiles: &Path, files: Option<&Path>) -> Result<ManifestDocument, ReadManifestError> {
    let read = |source| ReadManifestError::Read { source };
    let text = read_limited(profiles).map_err(read)?;
    let versions = files.map_or_else(|| Ok(BTreeMap::new()), digests_by_version).map_err(read)?;
    Ok(manifest::import(&text, &profiles.display().to_string(), &versions)?)
}

fn digests_by_version(folder: &Path) -> io::Result<BTreeMap<String, BTreeMap<String, Blake3>>> {
    let mut versions: BTreeMap<String, BTreeMap<String, Blake3>> = BTreeMap::new();
    let shown = |entry: &walkdir::DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.')
    };
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry = entry?;
        if !entry.file_type().is_file() || entry.depth() < 2 {
            continue;
        }
        let inside = entry.path().strip_prefix(folder).map_err(io::Error::other)?;
        let mut parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let Some(version) = parts.next() else { continue };
        let path = parts.collect::<Vec<_>>().join("/");
        versions.entry(version).or_default().insert(path, Blake3::of_file(entry.path())?);
    }
    Ok(versions)
}

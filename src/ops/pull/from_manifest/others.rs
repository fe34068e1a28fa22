//! Profiles of others: verified by the checksums that the manifest has, and laid out in a folder.
//!
//! What is fetched lies in `.partial-pull` in the folder until a profile is whole, each file under a name made of its uri and checksum:
//! whole files as they are, others with `.part`. A pull that is interrupted or killed leaves it, and the next one goes on from there.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::super::folder::{PARTIAL_FOLDER, io as doing, refuse_links, replace};
use super::super::partial::{Progress, in_parallel};
use super::checksum::Checksum;
use super::reader::Reader;
use super::{Fetched, FileError, FromManifest, PullError, PullOptions, Pulled, error};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::files::atomic_file;
use crate::files::file_lock::FileLock;
use crate::manifest::ManifestProfile;
use crate::release::PROFILES_FOLDER;
use crate::uri::shown;

/// What was fetched for a folder, by this process alone.
pub(super) struct PartialFolder {
    path: PathBuf,
    lock: PathBuf,
    _held: FileLock,
}

/// A file to fetch.
struct Task<'m> {
    path: &'m str,
    uri: &'m str,
    checksum: Option<Checksum>,
    /// Where it is when it is whole.
    whole: PathBuf,
    /// Where it is if an earlier pull laid it out.
    laid_out: PathBuf,
}

impl PartialFolder {
    /// Opens it; waits while another process has it.
    pub(super) fn open(folder: &Path, options: &PullOptions<'_>) -> Result<Self, PullError> {
        let path = folder.join(PARTIAL_FOLDER);
        let lock = folder.join(format!("{PARTIAL_FOLDER}.lock"));
        fs_err::create_dir_all(folder).map_err(doing("making the folder"))?;
        refuse_links([&path, &lock])?;
        let held = FileLock::take(&lock, || !(options.cancelled)()).map_err(doing("locking the folder"))?;
        let held = held.ok_or(PullError::Cancelled)?;
        fs_err::create_dir_all(&path).map_err(doing("making the folder"))?;
        Ok(Self { path, lock, _held: held })
    }

    /// Moves the files of a profile to their places; the profile is there as a whole or not at all.
    pub(super) fn lay_out(
        &self,
        id: &str,
        files: &[(String, PathBuf)],
        folder: &Path,
    ) -> Result<(), PullError> {
        let staging = self.path.join("profile");
        if staging.exists() {
            fs_err::remove_dir_all(&staging).map_err(doing("removing a folder"))?;
        }
        for (path, whole) in files {
            let place = staging.join(path);
            if let Some(parent) = place.parent() {
                fs_err::create_dir_all(parent).map_err(doing("making a folder"))?;
            }
            // Two profiles may have one file.
            if fs_err::hard_link(whole, &place).is_err() {
                fs_err::copy(whole, &place).map_err(doing("copying a file"))?;
            }
        }
        fs_err::create_dir_all(&staging).map_err(doing("making a folder"))?;
        replace(&staging, &folder.join(PROFILES_FOLDER).join(id))
    }

    /// Forgets what was fetched.
    pub(super) fn remove(self) {
        let _ = fs_err::remove_dir_all(&self.path);
        let _ = fs_err::remove_file(&self.lock);
    }
}

impl FromManifest<'_> {
    /// Fetches the files of a profile.
    pub(super) fn pull_other(
        &self,
        profile: &ManifestProfile,
        partial: &PartialFolder,
        options: &PullOptions<'_>,
        unverified: &mut Vec<String>,
    ) -> Result<(Pulled, Fetched), PullError> {
        let laid_out = partial.path.with_file_name(PROFILES_FOLDER).join(&profile.id);
        let mut tasks = Vec::new();
        for (path, file) in &profile.workspace.files {
            let of_file = |source| error(profile, path, source);
            let uri = file.uri.as_deref().ok_or_else(|| of_file(FileError::NoUri))?;
            let checksum = file.checksum.as_deref().map(Checksum::parse).transpose().map_err(of_file)?;
            if checksum.is_none() {
                unverified.push(format!("{}/{path}", profile.id));
            }
            // Without a checksum, what another manifest fetched from the same place is another file.
            let key = match &checksum {
                Some(checksum) => format!("{checksum} {uri}"),
                None => format!("{} {uri}", self.digest),
            };
            let whole = partial.path.join(Sha256::of(key.as_bytes()).to_hex());
            tasks.push(Task { path, uri, checksum, whole, laid_out: laid_out.join(path) });
        }
        let progress = Progress::new(0, options);
        let (fetched, here) = (AtomicU64::new(0), AtomicU64::new(0));
        // One file may have several paths.
        let mut unique: Vec<&Task<'_>> = Vec::new();
        for task in &tasks {
            if unique.iter().all(|other| other.whole != task.whole) {
                unique.push(task);
            }
        }
        in_parallel(&unique, &progress, |task| {
            let (got, was_here) = self.fetch(task, &progress).map_err(|problem| match problem {
                Problem::Cancelled => PullError::Cancelled,
                Problem::File(source) => error(profile, task.path, source),
            })?;
            fetched.fetch_add(got, Ordering::Relaxed);
            here.fetch_add(was_here, Ordering::Relaxed);
            Ok(())
        })?;
        let (fetched_bytes, here_bytes) = (fetched.into_inner(), here.into_inner());
        let mut files = Vec::new();
        let mut files_bytes = 0;
        for task in tasks {
            files_bytes += fs_err::metadata(&task.whole).map_err(doing("reading what was fetched"))?.len();
            files.push((task.path.to_owned(), task.whole));
        }
        let pulled = Pulled { files_bytes, fetched_bytes, here_bytes, ..Pulled::default() };
        Ok((pulled, Fetched::Here(files)))
    }

    /// Fetches a file. Returns the bytes that came, and those that were here.
    fn fetch(&self, task: &Task<'_>, progress: &Progress<'_>) -> Result<(u64, u64), Problem> {
        let Task { path: _, uri, checksum, whole, laid_out } = task;
        if let Some(size_bytes) = here(whole, laid_out, checksum.as_ref())? {
            progress.expect(size_bytes);
            progress.add(size_bytes);
            return Ok((0, size_bytes));
        }
        let mut reader = Reader::open(self, uri)?;
        if checksum.is_some() {
            reader = reader.verified(None);
        }
        let part = whole.with_extension("part");
        let file = open(&part)?;
        let mut fetched = 0;
        // Without a checksum nothing would tell that the beginning is of another version.
        let mut start = if checksum.is_some() || reader.is_stable() { file.metadata()?.len() } else { 0 };
        loop {
            file.set_len(start)?;
            let mut end = start;
            progress.add(start);
            let mut size_bytes = None;
            let known = Cell::new(None);
            let mut on_size = |size: u64| {
                progress.expect(size);
                known.set(Some(size));
            };
            let read = reader.read(self, start, &mut on_size, &mut |piece| {
                if progress.is_cancelled() {
                    return Err(io::Error::other("cancelled"));
                }
                if size_bytes.is_none() {
                    size_bytes = known.get();
                    check_space(&part, size_bytes.unwrap_or_default().saturating_sub(start))?;
                }
                file.write_all_at(piece, end)?;
                end += piece.len() as u64;
                progress.add(piece.len() as u64);
                Ok(())
            });
            fetched += end - start;
            if progress.is_cancelled() {
                return Err(Problem::Cancelled);
            }
            let problem = match (read, checksum) {
                (Err(problem), _) => problem,
                (Ok(()), None) => break,
                (Ok(()), Some(expected)) => match expected.of_file(&part)? {
                    found if found == *expected => break,
                    found => {
                        let (expected, found) = (expected.to_string(), found.to_string());
                        FileError::Checksum { uri: shown(uri), expected, found }
                    }
                },
            };
            if problem.kind() != ErrorKind::Refused {
                return Err(problem.into());
            }
            // What was there was perhaps not its beginning; what came is not it either.
            file.set_len(0)?;
            if start == 0 {
                let _ = fs_err::remove_file(&part);
                return Err(problem.into());
            }
            start = 0;
        }
        file.sync_all()?;
        fs_err::rename(&part, whole)?;
        if let Some(folder) = whole.parent() {
            atomic_file::sync_folder(folder)?;
        }
        Ok((fetched, 0))
    }
}

/// Why a file was not fetched.
enum Problem {
    Cancelled,
    File(FileError),
}

impl<E: Into<FileError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self::File(error.into())
    }
}

/// Returns the size of a file that is here already, and verified if it can be.
fn here(whole: &Path, laid_out: &Path, checksum: Option<&Checksum>) -> io::Result<Option<u64>> {
    let part = whole.with_extension("part");
    for found in [whole, laid_out, &part] {
        let Ok(metadata) = fs_err::symlink_metadata(found) else { continue };
        let is_it = match checksum {
            Some(checksum) => metadata.is_file() && checksum.of_file(found)? == *checksum,
            // What lies at the destination may be of an earlier release.
            None => metadata.is_file() && found == whole,
        };
        if is_it {
            if found == part.as_path() {
                fs_err::rename(found, whole)?;
            } else if found != whole && fs_err::hard_link(found, whole).is_err() {
                fs_err::copy(found, whole)?;
            }
            return Ok(Some(metadata.len()));
        }
        if found == whole {
            fs_err::remove_file(found)?;
        }
    }
    Ok(None)
}

/// Fails unless so many bytes are free where a file is.
fn check_space(path: &Path, needed_bytes: u64) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // A file system that can't say how much is free says so when it is full.
    let Ok(state) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free_bytes = state.f_bavail.saturating_mul(state.f_frsize);
    if needed_bytes <= free_bytes {
        return Ok(());
    }
    let message =
        format!("{free_bytes} bytes are free in {}, and {needed_bytes} are needed", folder.display());
    Err(io::Error::new(io::ErrorKind::StorageFull, message))
}

/// Opens a file to go on with, never by a link.
fn open(path: &Path) -> io::Result<File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.custom_flags(libc::O_NOFOLLOW);
    Ok(options.open(path)?.into_parts().0)
}

//! The files of a model, a folder or one file, with the digest of each: read by a few threads, never through a link unasked.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use fs_err::os::unix::fs::OpenOptionsExt as _;

use crate::digest::Sha256;
use crate::signing::{Found, MODEL_ITSELF};

/// Which files of a model count, and how they are read.
pub struct Reading<'a> {
    /// Whether symbolic links to files are followed.
    pub follow_links: bool,
    /// Whether a file or folder, by its path in the model, is passed over.
    pub is_ignored: &'a (dyn Fn(&str) -> bool + Sync),
    /// Whether a file's digest is of interest; one whose digest is not is left out.
    pub is_read: &'a (dyn Fn(&str) -> bool + Sync),
    /// How many threads read at most.
    pub threads: usize,
    /// Whether to give up.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What a model consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFiles {
    /// What is at each path in the model; [`MODEL_ITSELF`] if the model is a file.
    pub found: BTreeMap<String, Found>,
    /// The bytes of all files that were read.
    pub size_bytes: u64,
}

/// A model that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ModelFilesError {
    /// I/O.
    #[error("cannot read the model {}", path.display())]
    Io {
        /// The model.
        path: PathBuf,
        /// Why; names the file.
        source: io::Error,
    },
    /// The model itself is a symbolic link.
    #[error("the model {} is a symbolic link", path.display())]
    Link {
        /// The model.
        path: PathBuf,
    },
    /// Neither a file nor a folder.
    #[error("the model {} is neither a file nor a folder", path.display())]
    NoModel {
        /// The model.
        path: PathBuf,
    },
    /// A name that no signature can have.
    #[error("{path:?} in the model is not UTF-8: rename it, or ignore it")]
    NotUtf8 {
        /// The path in the model.
        path: String,
    },
    /// The caller gave up.
    #[error("interrupted")]
    Cancelled,
}

/// Lists a model, and computes the digests of its files.
///
/// # Errors
/// I/O errors; a model that is a link and may not be one; names that are not UTF-8.
pub fn read(model: &Path, reading: &Reading<'_>) -> Result<ModelFiles, ModelFilesError> {
    let Reading { follow_links, is_ignored: _, is_read, threads, is_cancelled } = reading;
    let failed = |source| ModelFilesError::Io { path: model.into(), source };
    if !follow_links && fs_err::symlink_metadata(model).map_err(failed)?.is_symlink() {
        return Err(ModelFilesError::Link { path: model.into() });
    }
    let metadata = fs_err::metadata(model).map_err(failed)?;
    let (mut found, files) = if metadata.is_dir() {
        list(model, reading)?
    } else if metadata.is_file() {
        (BTreeMap::new(), vec![(MODEL_ITSELF.to_owned(), model.to_owned())])
    } else {
        return Err(ModelFilesError::NoModel { path: model.into() });
    };
    let files: Vec<_> = files.into_iter().filter(|(name, _)| is_read(name)).collect();

    let next = AtomicUsize::new(0);
    let digests: Mutex<Vec<(usize, ReadResult)>> = Mutex::default();
    let work = || {
        while let Some((index, (_, path))) = take(&next, &files).filter(|_| !is_cancelled()) {
            let digest = open(path, *follow_links).and_then(|mut file| Sha256::of_reader(&mut file));
            let has_failed = digest.is_err();
            digests.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((index, digest));
            if has_failed {
                next.store(files.len(), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..(*threads).min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    if is_cancelled() {
        return Err(ModelFilesError::Cancelled);
    }
    let mut size_bytes = 0;
    for (index, digest) in digests.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        let (digest, bytes) = digest.map_err(failed)?;
        size_bytes += bytes;
        found.insert(files[index].0.clone(), Found::File(digest));
    }
    Ok(ModelFiles { found, size_bytes })
}

fn take<'a, T>(next: &AtomicUsize, all: &'a [T]) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, all.get(index)?))
}

/// A file's digest and its bytes.
type ReadResult = io::Result<(Sha256, u64)>;

type Listed = (BTreeMap<String, Found>, Vec<(String, PathBuf)>);

/// Returns what is no file, and the files with their places.
fn list(model: &Path, reading: &Reading<'_>) -> Result<Listed, ModelFilesError> {
    let Reading { follow_links, is_ignored, is_read, threads: _, is_cancelled } = reading;
    let (mut others, mut files) = (BTreeMap::new(), Vec::new());
    // The model itself may be a link that is followed; nothing below it is.
    let mut entries = walkdir::WalkDir::new(model).min_depth(1).follow_root_links(true).into_iter();
    while let Some(entry) = entries.next() {
        if is_cancelled() {
            return Err(ModelFilesError::Cancelled);
        }
        let entry =
            entry.map_err(|error| ModelFilesError::Io { path: model.into(), source: error.into() })?;
        let relative = entry.path().strip_prefix(model).unwrap_or(entry.path());
        let is_folder = entry.file_type().is_dir();
        let name = relative.to_string_lossy();
        if is_ignored(&name) {
            if is_folder {
                entries.skip_current_dir();
            }
            continue;
        }
        if is_folder {
            continue;
        }
        let Some(name) = relative.to_str().map(str::to_owned) else {
            if !is_read(&name) {
                continue;
            }
            return Err(ModelFilesError::NotUtf8 { path: name.into_owned() });
        };
        if entry.file_type().is_file() {
            files.push((name, entry.into_path()));
        } else if entry.file_type().is_symlink() {
            let target = fs_err::metadata(entry.path());
            let other = match target {
                Ok(target) if target.is_dir() => Found::LinkToFolder,
                Ok(target) if *follow_links && target.is_file() => {
                    files.push((name, entry.into_path()));
                    continue;
                }
                Ok(_) | Err(_) if *follow_links => Found::Special,
                Ok(_) | Err(_) => Found::Link,
            };
            others.insert(name, other);
        } else {
            others.insert(name, Found::Special);
        }
    }
    Ok((others, files))
}

/// Opens a file; one that has become a link since it was listed is not opened.
fn open(path: &Path, follow_links: bool) -> io::Result<fs_err::File> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true);
    if !follow_links {
        options.custom_flags(libc::O_NOFOLLOW);
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(model: &Path, follow_links: bool) -> Result<ModelFiles, ModelFilesError> {
        let reading = Reading {
            follow_links,
            is_ignored: &|name| name == "ignored" || name == "caf\u{fffd}",
            is_read: &|name| name != "unread",
            threads: 3,
            is_cancelled: &|| false,
        };
        read(model, &reading)
    }

    #[test]
    fn every_file_has_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::create_dir_all(place("ignored/below")).unwrap();
        fs_err::create_dir_all(place("empty")).unwrap();
        fs_err::create_dir_all(place("a/b")).unwrap();
        for name in ["1", "2", ".hidden", "a/b/3", "unread", "ignored/below/4"] {
            fs_err::write(place(name), name).unwrap();
        }
        let ModelFiles { found, size_bytes } = files(folder.path(), false).unwrap();
        let expected = ["1", "2", ".hidden", "a/b/3"]
            .map(|name| (name.to_owned(), Found::File(Sha256::of(name.as_bytes()))));
        assert_eq!((found, size_bytes), (expected.into(), 14));
        let one = files(&place("a/b/3"), false).unwrap();
        assert_eq!(one.found, [(".".to_owned(), Found::File(Sha256::of(b"a/b/3")))].into());
    }

    #[test]
    fn links_are_followed_to_files_and_only_when_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::create_dir(place("m")).unwrap();
        fs_err::write(place("file"), "x").unwrap();
        for (link, target) in [("m/file", "../file"), ("m/folder", ".."), ("m/nowhere", "absent"), ("l", "m")]
        {
            fs_err::os::unix::fs::symlink(target, place(link)).unwrap();
        }
        let kinds = |follow_links| files(&place("m"), follow_links).unwrap().found;
        let named = |name: &str, found| (name.to_owned(), found);
        let x = Found::File(Sha256::of(b"x"));
        assert_eq!(
            kinds(false),
            [named("file", Found::Link), named("folder", Found::LinkToFolder), named("nowhere", Found::Link)]
                .into()
        );
        assert_eq!(
            kinds(true),
            [named("file", x), named("folder", Found::LinkToFolder), named("nowhere", Found::Special)].into()
        );
        assert!(matches!(files(&place("l"), false), Err(ModelFilesError::Link { .. })));
        assert_eq!(files(&place("l"), true).unwrap().found, kinds(true));
        assert!(open(&place("m/file"), false).is_err());
    }

    #[test]
    fn whoever_waits_can_give_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, "x").unwrap();
        let reading = Reading {
            follow_links: false,
            is_ignored: &|_| false,
            is_read: &|_| true,
            threads: 2,
            is_cancelled: &|| true,
        };
        for model in [folder.path(), &path] {
            assert!(matches!(read(model, &reading), Err(ModelFilesError::Cancelled)));
        }
    }

    #[test]
    fn names_that_are_not_utf_8() {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &[u8]| {
            fs_err::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "x").unwrap();
        };
        // This one is ignored.
        write(b"caf\xe9");
        files(folder.path(), false).unwrap();
        write(b"the\xe9");
        assert!(matches!(files(folder.path(), false), Err(ModelFilesError::NotUtf8 { .. })));
    }
}

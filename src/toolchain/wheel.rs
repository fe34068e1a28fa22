//! Unpacks named files of a wheel, hashed on the way.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sha2::Digest as _;

use super::{Stage, ToolchainError, Watch};
use crate::atomic_file;
use crate::digest::Sha256;

const CHUNK_BYTES: usize = 256 * 1024;

/// A wheel on disk, whose digest was checked.
pub(crate) struct Wheel {
    what: String,
    archive: zip::ZipArchive<io::BufReader<fs_err::File>>,
}

/// What an unpacked file must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) sha256: Sha256,
    pub(crate) size_bytes: u64,
}

/// How far the unpacking of several files is.
pub(crate) struct Unpacked {
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
}

impl Wheel {
    /// Opens a wheel; `what` is what messages call it.
    pub(crate) fn open(path: &Path, what: &str) -> Result<Self, ToolchainError> {
        let file = fs_err::File::open(path)
            .map_err(|source| ToolchainError::Io { doing: format!("open the wheel of {what}"), source })?;
        let archive = zip::ZipArchive::new(io::BufReader::new(file))
            .map_err(|error| ToolchainError::BadWheel { what: what.into(), reason: error.to_string() })?;
        Ok(Self { what: what.into(), archive })
    }

    /// Unpacks one file to a path of our choice, synced, and returns what it is.
    pub(crate) fn unpack(
        &mut self,
        from: &str,
        to: &Path,
        expected: Option<Expected>,
        unpacked: &mut Unpacked,
        watch: &mut Watch<'_>,
    ) -> Result<Expected, ToolchainError> {
        let what = self.what.clone();
        let bad = |reason: String| ToolchainError::BadWheel { what: what.clone(), reason };
        let wrong = |expected: String, got: String| ToolchainError::WrongFile {
            what: what.clone(),
            file: from.into(),
            expected,
            got,
        };
        let mut entry = match self.archive.by_name(from) {
            Ok(entry) => entry,
            Err(zip::result::ZipError::FileNotFound) => {
                return Err(ToolchainError::NotInWheel { what, file: from.into() });
            }
            Err(error) => return Err(bad(error.to_string())),
        };
        let folder = to.parent().unwrap_or(Path::new("."));
        let writing =
            |error: io::Error| ToolchainError::writing(format!("unpack `{from}` of {what}"), folder, error);
        let unpacked_total = unpacked.total_bytes.or(Some(entry.size()));
        let mut file = atomic_file::temporary_in(folder).map_err(writing)?;
        let mut hasher = sha2::Sha256::new();
        let mut size_bytes = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if watch.is_cancelled() {
                return Err(ToolchainError::Cancelled { doing: format!("unpacking {what}") });
            }
            let count = entry.read(&mut chunk).map_err(|error| bad(format!("`{from}`: {error}")))?;
            if count == 0 {
                break;
            }
            size_bytes += count as u64;
            if let Some(expected) = expected.filter(|expected| size_bytes > expected.size_bytes) {
                return Err(wrong(format!("{} bytes", expected.size_bytes), "more".into()));
            }
            hasher.update(&chunk[..count]);
            file.write_all(&chunk[..count]).map_err(writing)?;
            unpacked.done_bytes += count as u64;
            watch.tell(Stage::Unpacking, unpacked.done_bytes, unpacked_total);
        }
        let got = Expected { sha256: Sha256::from_bytes(hasher.finalize().into()), size_bytes };
        if let Some(expected) = expected.filter(|expected| expected.sha256 != got.sha256) {
            return Err(wrong(expected.sha256.to_string(), got.sha256.to_string()));
        }
        atomic_file::persist(file, to).map_err(writing)?;
        Ok(got)
    }
}

/// Makes a temporary folder in `parent`, with the permissions that the user's umask gives; gone when dropped.
pub(crate) fn unpack_folder(parent: &Path) -> io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::create_dir_all(parent)?;
    tempfile::Builder::new()
        .prefix(super::install::TEMPORARY_PREFIX)
        .permissions(std::fs::Permissions::from_mode(0o777))
        .tempdir_in(parent)
}

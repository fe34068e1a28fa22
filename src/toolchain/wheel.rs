//! Unpacks named files of a wheel, hashed on the way.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sha2::Digest as _;

use super::{Stage, ToolchainError, Watch};
use crate::digest::Sha256;
use crate::files::atomic_file;

const CHUNK_BYTES: usize = 256 * 1024;
/// Progress is reported every this many bytes: inflating returns much smaller pieces than requested.
const REPORT_BYTES: u64 = 4 * 1024 * 1024;

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
pub(crate) struct UnpackCount {
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

    /// Unpacks one file to a path of our choice, syncs it, and returns its digest and size.
    pub(crate) fn unpack(
        &mut self,
        from: &str,
        to: &Path,
        expected: Option<Expected>,
        count: &mut UnpackCount,
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
        let total_bytes = count.total_bytes.or(Some(entry.size()));
        let mut file = atomic_file::temporary_in(folder).map_err(writing)?;
        let mut hasher = sha2::Sha256::new();
        let mut size_bytes = 0;
        let mut next_report_bytes = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            if watch.is_cancelled() {
                return Err(ToolchainError::Cancelled { doing: format!("unpacking {what}") });
            }
            let read = entry.read(&mut chunk).map_err(|error| bad(format!("`{from}`: {error}")))?;
            if read == 0 {
                break;
            }
            size_bytes += read as u64;
            if let Some(expected) = expected.filter(|expected| size_bytes > expected.size_bytes) {
                return Err(wrong(format!("{} bytes", expected.size_bytes), "more".into()));
            }
            hasher.update(&chunk[..read]);
            file.write_all(&chunk[..read]).map_err(writing)?;
            count.done_bytes += read as u64;
            if count.done_bytes >= next_report_bytes {
                watch.tell(Stage::Unpacking, count.done_bytes, total_bytes);
                next_report_bytes = count.done_bytes + REPORT_BYTES;
            }
        }
        watch.tell(Stage::Unpacking, count.done_bytes, total_bytes);
        let got = Expected { sha256: Sha256::from_bytes(hasher.finalize().into()), size_bytes };
        if let Some(expected) = expected.filter(|expected| expected.sha256 != got.sha256) {
            return Err(wrong(expected.sha256.to_string(), got.sha256.to_string()));
        }
        atomic_file::persist(file, to).map_err(writing)?;
        Ok(got)
    }
}

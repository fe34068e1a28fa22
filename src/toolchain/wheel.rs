//! Unpacks named files of a wheel, hashed on the way.

use std::io;
use std::path::Path;

use super::hashed_copy::{CopyCount, CopyError, Expected, hashed_copy};
use super::{ToolchainError, Watch};
use crate::files::atomic_file;

/// A wheel on disk, whose digest was checked.
pub(crate) struct Wheel {
    what: String,
    archive: zip::ZipArchive<io::BufReader<fs_err::File>>,
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
        count: &mut CopyCount,
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
        count.total_bytes = count.total_bytes.or(Some(entry.size()));
        let mut file = atomic_file::temporary_in(folder).map_err(writing)?;
        let max_bytes = expected.map(|expected| expected.size_bytes);
        let copied = hashed_copy(&mut entry, &mut file, max_bytes, count, watch);
        let got = copied.map_err(|error| match error {
            CopyError::Read(error) => bad(format!("`{from}`: {error}")),
            CopyError::Write(error) => writing(error),
            CopyError::TooLong => wrong(format!("{} bytes", max_bytes.unwrap_or_default()), "more".into()),
            CopyError::Cancelled => ToolchainError::Cancelled { doing: format!("unpacking {what}") },
        })?;
        if let Some(expected) = expected.filter(|expected| expected.sha256 != got.sha256) {
            return Err(wrong(expected.sha256.to_string(), got.sha256.to_string()));
        }
        atomic_file::persist(file, to).map_err(writing)?;
        Ok(got)
    }
}

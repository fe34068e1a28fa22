//! Copies a stream in pieces: hashed, counted, and ended early where it is too long or nobody wants it any more.

use std::io::{self, Read, Write};

use sha2::Digest as _;

use super::{Stage, Watch};
use crate::digest::Sha256;

const CHUNK_BYTES: usize = 256 * 1024;
/// Progress is reported every this many bytes: inflating returns much smaller pieces than requested.
const REPORT_BYTES: u64 = 4 * 1024 * 1024;

/// The digest and the size of a file: what it has, or must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) sha256: Sha256,
    pub(crate) size_bytes: u64,
}

/// How far the copying of several files is.
pub(crate) struct CopyCount {
    pub(crate) stage: Stage,
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
}

/// Why a copy ended early.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The source can't be read.
    Read(io::Error),
    /// The destination can't be written.
    Write(io::Error),
    /// The source has more bytes than are expected.
    TooLong,
    /// The watch said so.
    Cancelled,
}

/// Copies a stream to its end, and returns what it was. More than `max_bytes` are not read.
pub(super) fn hashed_copy(
    from: &mut impl Read,
    to: &mut impl Write,
    max_bytes: Option<u64>,
    count: &mut CopyCount,
    watch: &mut Watch<'_>,
) -> Result<Expected, CopyError> {
    let mut hasher = sha2::Sha256::new();
    let mut size_bytes = 0;
    let mut next_report_bytes = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        if watch.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        let read = from.read(&mut chunk).map_err(CopyError::Read)?;
        if read == 0 {
            break;
        }
        size_bytes += read as u64;
        if max_bytes.is_some_and(|max_bytes| size_bytes > max_bytes) {
            return Err(CopyError::TooLong);
        }
        hasher.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(CopyError::Write)?;
        count.done_bytes += read as u64;
        if count.done_bytes >= next_report_bytes {
            watch.tell(count.stage, count.done_bytes, count.total_bytes);
            next_report_bytes = count.done_bytes + REPORT_BYTES;
        }
    }
    watch.tell(count.stage, count.done_bytes, count.total_bytes);
    Ok(Expected { sha256: Sha256::from_bytes(hasher.finalize().into()), size_bytes })
}

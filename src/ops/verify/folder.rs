//! The files of a release folder.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use super::{Finding, Found, MAX_TEXT_BYTES, NOT_UTF_8, TEXTS};
use crate::digest::{Blake3, Sha256, both_of_chunks};

const CHUNK_BYTES: usize = 1024 * 1024;

/// Reads every file, by its path in the release.
pub(super) fn files(root: &Path, findings: &mut Vec<Finding>) -> io::Result<BTreeMap<String, Found>> {
    let mut files = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.map_err(io::Error::other)?;
        if entry.file_type().is_dir() {
            continue;
        }
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Some(path) = relative.to_str().map(str::to_owned) else {
            let path = relative.to_string_lossy().into_owned();
            findings.push(Finding { path, problem: NOT_UTF_8.into() });
            continue;
        };
        if !entry.file_type().is_file() {
            findings.push(Finding { path, problem: "neither a file nor a folder: it was not read".into() });
            continue;
        }
        let file = fs_err::File::open(entry.path())?;
        let size_bytes = file.metadata()?.len();
        files.insert(path.clone(), read(&path, file, size_bytes)?);
    }
    Ok(files)
}

/// Reads one file: its digests, and its bytes if they are looked at.
pub(super) fn read(path: &str, mut reader: impl Read, size_bytes: u64) -> io::Result<Found> {
    let name = path.rsplit('/').next().unwrap_or_default();
    if TEXTS.contains(&name) && size_bytes <= MAX_TEXT_BYTES {
        let mut text = Vec::new();
        reader.read_to_end(&mut text)?;
        let (sha256, blake3) = (Sha256::of(&text), Blake3::of(&text));
        return Ok(Found { sha256, blake3, size_bytes: text.len() as u64, text: Some(text) });
    }
    let mut next = || {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut filled = 0;
        while filled < chunk.len() {
            match reader.read(&mut chunk[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        chunk.truncate(filled);
        io::Result::Ok((filled > 0).then(|| bytes::Bytes::from(chunk)))
    };
    let (sha256, blake3, size_bytes) = both_of_chunks(&mut next)?;
    Ok(Found { sha256, blake3, size_bytes, text: None })
}

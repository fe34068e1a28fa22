//! Files that are loaded only if they are what they must be.
//!
//! A check before a file is opened says nothing about what is read afterwards: the path may lead elsewhere by then, or the file may be
//! overwritten. So a file is opened once and read once, into memory that nobody else can write, and what was read is hashed and handed
//! on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc;

use crate::protocol::{Digests, ErrorCode, Problem};

/// One thread reads the next piece while another one hashes this one.
const PIECE_BYTES: usize = 4 << 20;
/// How digests are written.
const PREFIX: &str = "blake3:";

/// Reads a file, and returns its bytes and their BLAKE3 digest as `blake3:<hex>`.
///
/// # Errors
/// A file that can't be read, or became shorter meanwhile.
pub fn read_and_hash(path: &Path) -> io::Result<(Vec<u8>, String)> {
    let file = fs_err::File::open(path)?.into_parts().0;
    let size_bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; size_bytes];
    let digest = fill(&file, &mut bytes).map_err(|error| {
        io::Error::new(error.kind(), format!("failed to read {}: {error}", path.display()))
    })?;
    Ok((bytes, format!("{PREFIX}{}", digest.to_hex())))
}

fn fill(file: &File, bytes: &mut [u8]) -> io::Result<blake3::Hash> {
    let (sender, hashed) = mpsc::channel::<&[u8]>();
    let pieces = bytes.chunks_mut(PIECE_BYTES);
    std::thread::scope(|scope| {
        let hashing = scope.spawn(move || {
            let mut hasher = blake3::Hasher::new();
            hashed.iter().for_each(|piece| _ = hasher.update(piece));
            hasher.finalize()
        });
        // Dropped at the end of this closure, whatever happens, which ends the thread.
        let sender = sender;
        let mut offset = 0;
        for piece in pieces {
            file.read_exact_at(piece, offset)?;
            offset += piece.len() as u64;
            sender.send(piece).map_err(|_| ended_early())?;
        }
        drop(sender);
        hashing.join().map_err(|_| ended_early())
    })
}

fn ended_early() -> io::Error {
    io::Error::other("the thread that hashes ended early")
}

/// Reads a file that is to be loaded, if `digests` has one for it: `name` is its path relative to the model's folder. `None` if it has
/// none.
///
/// # Errors
/// A file that can't be read, or has another digest.
pub fn read(path: &Path, name: &Path, digests: &Digests) -> Result<Option<Vec<u8>>, Problem> {
    let Some(expected) = digests.get(name) else { return Ok(None) };
    let (bytes, found) =
        read_and_hash(path).map_err(|error| Problem::new(ErrorCode::Io, error.to_string()))?;
    if found == *expected {
        return Ok(Some(bytes));
    }
    let message = format!(
        "{} is not what it must be, and was not loaded: its digest is {found}, not {expected}",
        path.display()
    );
    Err(Problem::new(ErrorCode::DamagedFile, message))
}

/// Reads the model that is to be loaded, as [`read`] does.
///
/// # Errors
/// As [`read`]; digests without one for the model.
pub fn read_model(path: &Path, digests: &Digests) -> Result<Option<Vec<u8>>, Problem> {
    let name = Path::new(path.file_name().unwrap_or_default());
    let bytes = read(path, name, digests)?;
    if bytes.is_none() && !digests.is_empty() {
        let message = format!("`digests` has none for the model {}", path.display());
        return Err(Problem::new(ErrorCode::InvalidRequest, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_size_are_read_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 3] {
            let bytes: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            fs_err::write(&path, &bytes).unwrap();
            let (found, digest) = read_and_hash(&path).unwrap();
            assert!(found == bytes, "{size} bytes");
            assert_eq!(digest, format!("blake3:{}", blake3::hash(&bytes).to_hex()));
        }
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.plan");
        fs_err::write(&path, b"plan").unwrap();
        let digests = Digests::from([("model.plan".into(), read_and_hash(&path).unwrap().1)]);
        assert_eq!(read_model(&path, &digests).unwrap().as_deref(), Some(&b"plan"[..]));
        assert_eq!(read_model(&path, &Digests::new()).unwrap(), None);

        // Replaced, and overwritten in place.
        fs_err::write(folder.path().join("other"), b"PLAN").unwrap();
        fs_err::rename(folder.path().join("other"), &path).unwrap();
        let problem = read_model(&path, &digests).unwrap_err();
        assert_eq!(problem.code, ErrorCode::DamagedFile);
        assert!(problem.message.contains("model.plan is not what it must be"), "{}", problem.message);
        fs_err::write(&path, b"plam").unwrap();
        assert_eq!(read_model(&path, &digests).unwrap_err().code, ErrorCode::DamagedFile);

        let other = Digests::from([("weights".into(), String::new())]);
        assert_eq!(read_model(&path, &other).unwrap_err().code, ErrorCode::InvalidRequest);
        let absent = folder.path().join("absent");
        let digests = Digests::from([("absent".into(), String::new())]);
        assert_eq!(read_model(&absent, &digests).unwrap_err().code, ErrorCode::Io);
    }
}

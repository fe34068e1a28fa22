//! Files that are open for reading, and whether they are still what they were.

use std::io;

pub(crate) use nimctl_backend_kit::read_file::{ReadFile, Status};

use crate::digest::Sha256;

/// Returns the digest of a file's bytes as they are now, if nothing changed while they were read.
///
/// # Errors
/// I/O errors; a file that changed since it was opened.
pub(super) fn digest(file: &ReadFile) -> io::Result<Sha256> {
    let (sha256, _) = Sha256::of_reader(&mut file.reader())?;
    if !file.has_another_status()? {
        return Ok(sha256);
    }
    Err(io::Error::other(format!(
        "{} changed while it was read: run the command again when it is complete",
        file.path().display()
    )))
}

/// Returns whether a file's path still leads to it, and its bytes still have this digest. They are read only if its status can't
/// tell.
///
/// # Errors
/// I/O errors.
pub(crate) fn still_has(file: &ReadFile, sha256: &Sha256) -> io::Result<bool> {
    if !file.is_at_its_path() {
        return Ok(false);
    }
    if file.is_settled() && !file.has_another_status()? {
        return Ok(true);
    }
    Ok(Sha256::of_reader(&mut file.reader())?.0 == *sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_a_new_name_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs_err::write(place("a"), b"one").unwrap();
        let file = ReadFile::open(&place("a")).unwrap();
        let one = Sha256::of(b"one");
        assert!(digest(&file).unwrap() == one && still_has(&file, &one).unwrap());
        fs_err::hard_link(place("a"), place("b")).unwrap();
        assert!(still_has(&file, &one).unwrap(), "another name changes the status, and no byte");
        fs_err::write(place("b"), b"two").unwrap();
        assert!(!still_has(&file, &one).unwrap());
        fs_err::write(place("b"), b"one").unwrap();
        assert!(still_has(&file, &one).unwrap() && !file.is_shorter());
        fs_err::rename(place("b"), place("c")).unwrap();
        fs_err::write(place("d"), b"one").unwrap();
        fs_err::rename(place("d"), place("a")).unwrap();
        assert!(!still_has(&file, &one).unwrap(), "another file");
        fs_err::write(place("c"), b"o").unwrap();
        assert!(file.is_shorter());
    }
}

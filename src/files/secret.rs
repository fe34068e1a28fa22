//! Keys and passwords in files: read whole, once, into memory that is overwritten when it goes.

use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

/// The maximum size of a secret. Keys have a few hundred bytes.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Reads a secret from a file, a pipe or a device.
///
/// # Errors
/// I/O errors, with the path; more than 64 KiB, or bytes that are not UTF-8. None has a part of the secret.
pub fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let file = fs_err::File::open(path)?;
    // With all the room it may need, so that it does not move and leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 64));
    file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    let wrong =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(wrong("larger than 64 KiB, which no key is"));
    }
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        wrong("not text, as a key in PEM is")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_key_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let check = |bytes: &[u8], expected: Result<&str, &str>| {
            fs_err::write(&path, bytes).unwrap();
            match (read(&path), expected) {
                (Ok(text), expected) => assert_eq!(Ok(text.as_str()), expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (Err(error), Ok(_)) => panic!("{error}"),
            }
        };
        check(b"text", Ok("text"));
        check(b"\xff", Err("not text"));
        check(&vec![b'x'; MAX_SECRET_BYTES + 1], Err("larger than 64 KiB"));
        assert!(read(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}

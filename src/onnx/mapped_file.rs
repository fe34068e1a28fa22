//! Files mapped into memory: read on demand by the kernel, shared, never copied.

use std::io;
use std::path::Path;

use bytes::Bytes;

/// Maps a file for reading. An empty file gives empty bytes.
///
/// # Errors
/// I/O errors, with the path; `InvalidInput` if it is not a regular file.
pub(super) fn map(path: &Path) -> io::Result<Bytes> {
    // Asked before opening: opening a named pipe waits for its writer.
    if !fs_err::metadata(path)?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} is not a regular file", path.display()),
        ));
    }
    let file = fs_err::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    #[expect(unsafe_code, reason = "memory mapping has no safe form, and models are too large to copy")]
    // SAFETY: the mapping is private and read-only. What is left to the caller of any mapping is that nobody
    // truncates or rewrites the file meanwhile; our own writers never do: they rename whole files into place.
    let mapping = unsafe { memmap2::Mmap::map(file.file()) }?;
    Ok(Bytes::from_owner(mapping))
}

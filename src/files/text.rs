//! Reads text files as people save them.

use std::io;
use std::path::Path;

use crate::text_encoding;

/// Reads a text file, without its byte order mark.
///
/// # Errors
/// A file that can't be read, or is in another encoding than UTF-8; the path is named.
pub fn read(path: &Path) -> io::Result<String> {
    text_encoding::decoded(&fs_err::read(path)?).map(str::to_owned).map_err(|problem| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{} {problem}", path.display()))
    })
}

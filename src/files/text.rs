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

/// Words what is wrong with a tar. The library quotes the header that it can't read, which is the beginning of whatever file was named: a private
/// key, perhaps.
pub(crate) fn tar_problem(error: &io::Error) -> String {
    let text = error.to_string();
    if text.contains(" when getting ") { "there is no header of a tar".to_owned() } else { text }
}

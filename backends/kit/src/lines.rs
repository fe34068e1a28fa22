//! Lines of bounded length.

use std::io::{self, BufRead};

/// How much of a bad line is quoted.
const EXCERPT_CHARS: usize = 200;

/// What came next on a stream of lines.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line, without its line feed.
    Whole(Vec<u8>),
    /// The stream ended inside a line; this much of it came.
    Partial(Vec<u8>),
    /// The line is longer than allowed; this is its beginning.
    TooLong(Vec<u8>),
    /// The stream ended at the end of a line.
    End,
}

/// Reads one line of at most `max_bytes` with its line feed. After [`Line::TooLong`] the stream is inside that line.
pub fn read_line(reader: &mut impl BufRead, max_bytes: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(if line.is_empty() { Line::End } else { Line::Partial(line) });
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let wanted = end.map_or(available.len(), |end| end + 1);
        if line.len() + wanted > max_bytes {
            return Ok(Line::TooLong(line));
        }
        line.extend_from_slice(&available[..end.unwrap_or(wanted)]);
        reader.consume(wanted);
        if end.is_some() {
            return Ok(Line::Whole(line));
        }
    }
}

/// Returns the beginning of a line, fit for an error message.
pub fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(4 * EXCERPT_CHARS)]);
    let mut excerpt: String = text.chars().take(EXCERPT_CHARS).flat_map(char::escape_debug).collect();
    if line.len() > EXCERPT_CHARS {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line() {
        let mut reader = io::BufReader::with_capacity(2, &b"abc\n\nabcd\nab"[..]);
        assert_eq!(read_line(&mut reader, 5).unwrap(), Line::Whole(b"abc".to_vec()));
        assert_eq!(read_line(&mut reader, 5).unwrap(), Line::Whole(b"".to_vec()));
        assert_eq!(read_line(&mut reader, 5).unwrap(), Line::Whole(b"abcd".to_vec()));
        assert_eq!(read_line(&mut reader, 5).unwrap(), Line::Partial(b"ab".to_vec()));
        assert_eq!(read_line(&mut reader, 5).unwrap(), Line::End);
        let mut reader = io::BufReader::with_capacity(2, &b"abcde\n"[..]);
        assert!(matches!(read_line(&mut reader, 5).unwrap(), Line::TooLong(_)));
    }
}

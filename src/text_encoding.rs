//! Text as people save it: UTF-8, with or without a byte order mark.

const UTF_8_MARK: &[u8] = "\u{feff}".as_bytes();
const UTF_16_MARKS: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// Returns text without its byte order mark.
///
/// # Errors
/// In words, to follow a name: bytes in another encoding than UTF-8.
pub fn decoded(bytes: &[u8]) -> Result<&str, String> {
    // Text in UTF-16 without a mark has a zero byte beside each letter.
    if UTF_16_MARKS.iter().any(|mark| bytes.starts_with(mark)) || bytes.iter().take(2).any(|byte| *byte == 0)
    {
        return Err("is in UTF-16: save it as UTF-8".into());
    }
    std::str::from_utf8(without_mark(bytes)).map_err(|error| {
        let before = &without_mark(bytes)[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("is not UTF-8 in line {line}: save it as UTF-8")
    })
}

/// Returns the bytes of a text file that is read as bytes, without its byte order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(UTF_8_MARK).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_no_text_and_other_encodings_are_named() {
        assert_eq!(decoded("\u{feff}a\u{feff}b".as_bytes()), Ok("a\u{feff}b"));
        assert_eq!(decoded(b""), Ok(""));
        let utf_16 = "is in UTF-16: save it as UTF-8";
        for bytes in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"a\0b\0", b"\0a\0b"] {
            assert_eq!(decoded(bytes).unwrap_err(), utf_16);
        }
        assert_eq!(decoded(b"a\nb\xe4\n").unwrap_err(), "is not UTF-8 in line 2: save it as UTF-8");
    }
}

//! Says what a file is that doesn't decode as an ONNX model.

use std::path::Path;

use super::error::OnnxError;

/// Returns the error for bytes that `prost` refused.
pub(super) fn explain(path: &Path, bytes: &[u8], error: &prost::DecodeError) -> OnnxError {
    let head = &bytes[..bytes.len().min(512)];
    let text = String::from_utf8_lossy(head).trim_start().to_lowercase();
    let reason = if text.starts_with("version https://git-lfs") {
        "it is a Git LFS pointer; run `git lfs pull` to get the file itself".into()
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "it is an HTML page, perhaps a login page; download it again".into()
    } else if head.starts_with(b"PK\x03\x04") {
        "it is a ZIP archive; unpack it first".into()
    } else if std::str::from_utf8(head).is_ok() && !head.iter().any(|byte| *byte < b'\t') {
        "it is a text file".into()
    } else if let Some(needed_bytes) = end_of_contents(bytes) {
        return OnnxError::Truncated { path: path.into(), needed_bytes, found_bytes: bytes.len() as u64 };
    } else {
        in_words(&error.to_string())
    };
    OnnxError::NotOnnx { path: path.into(), reason }
}

/// Words what `prost` says; where the file nests deeply, that names every message around the broken one.
fn in_words(error: &str) -> String {
    /// Where it is broken is clear from the innermost messages, which come first.
    const MAX_MESSAGES: usize = 4;
    let error = error.strip_prefix("failed to decode Protobuf message: ").unwrap_or(error);
    let mut rest = error;
    let mut around = Vec::new();
    while let Some((message, inner)) = rest.split_once(": ").filter(|(message, _)| message.contains('.')) {
        around.push(message);
        rest = inner;
    }
    let what = match rest {
        "recursion limit reached" => return "its messages are nested more than 100 deep".into(),
        "buffer underflow" => "a length exceeds the message that contains it",
        other => other,
    };
    let dots = if around.len() > MAX_MESSAGES { " in …" } else { "" };
    match around.get(..around.len().min(MAX_MESSAGES)) {
        None | Some([]) => what.into(),
        Some(messages) => format!("{what}, at {}{dots}", messages.join(" in ")),
    }
}

/// Walks the fields of the outermost message; returns where a field ends that runs past the end of the file.
fn end_of_contents(bytes: &[u8]) -> Option<u64> {
    let mut position = 0;
    while position < bytes.len() {
        let tag = varint(bytes, &mut position)?;
        let is_model_field = matches!(tag >> 3, 1..=8 | 14 | 20 | 25 | 26);
        match tag & 7 {
            0 if is_model_field => {
                varint(bytes, &mut position)?;
            }
            2 if is_model_field => {
                let length_bytes = varint(bytes, &mut position)?;
                let end_bytes = (position as u64).checked_add(length_bytes)?;
                if end_bytes > bytes.len() as u64 {
                    return Some(end_bytes);
                }
                position = usize::try_from(end_bytes).ok()?;
            }
            _ => return None,
        }
    }
    None
}

fn varint(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

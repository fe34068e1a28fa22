//! Canonical JSON (RFC 8785): one text for one value, so that it can be hashed.
//!
//! Numbers are integers of at most 53 bits: every document we hash is made of them, and a float has no business in
//! an identity (section 3.2.2.3 of the RFC is therefore not needed here).

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::digest::Sha256;

/// The largest integer that every JSON reader keeps exactly.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A value that has no canonical form here.
#[derive(Debug, thiserror::Error)]
pub enum NotCanonical {
    /// A number that is not an integer within ±(2^53 - 1).
    #[error("{0} has no canonical form: only integers of at most 53 bits have")]
    Number(serde_json::Number),
    /// The value can't be expressed as JSON at all.
    #[error("the value cannot be expressed as JSON")]
    Json(#[source] serde_json::Error),
}

/// Returns the canonical text of a value.
///
/// # Errors
/// A number that is not a 53-bit integer, or a value that isn't JSON.
pub fn to_string(value: &impl Serialize) -> Result<String, NotCanonical> {
    let value = serde_json::to_value(value).map_err(NotCanonical::Json)?;
    let mut text = String::new();
    write_value(&mut text, &value)?;
    Ok(text)
}

/// Returns the SHA-256 of a value's canonical text.
///
/// # Errors
/// As [`to_string`].
pub fn digest(value: &impl Serialize) -> Result<Sha256, NotCanonical> {
    Ok(Sha256::of(to_string(value)?.as_bytes()))
}

fn write_value(out: &mut String, value: &Value) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => match number.as_i64() {
            Some(integer) if integer.abs() <= MAX_SAFE_INTEGER => {
                let _ = write!(out, "{integer}");
            }
            _ => return Err(NotCanonical::Number(number.clone())),
        },
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item)?;
            }
            out.push(']');
        }
        Value::Object(members) => {
            // RFC 8785 section 3.2.3: names are ordered by their UTF-16 code units.
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_value(out, &members[name])?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{08}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{0c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: Value, expected: &str) {
        assert_eq!(to_string(&value).unwrap(), expected);
    }

    #[test]
    fn rfc_8785_forms() {
        check(json!({ "b": [1, -2, true, null], "a": {} }), r#"{"a":{},"b":[1,-2,true,null]}"#);
        // The sorting example of the RFC, less its number forms.
        check(
            json!({ "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "\u{f6}": 7 }),
            "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"\u{f6}\":7,\"\u{20ac}\":1,\"\u{1f600}\":5,\"\u{fb33}\":3}",
        );
        check(json!("\u{0f}\n\"\\/\u{7f}"), "\"\\u000f\\n\\\"\\\\/\u{7f}\"");
    }

    #[test]
    fn numbers_that_could_be_read_differently_are_refused() {
        assert!(to_string(&json!(1.5)).is_err());
        assert!(to_string(&json!(9_007_199_254_740_992_i64)).is_err());
        check(json!(9_007_199_254_740_991_i64), "9007199254740991");
    }
}

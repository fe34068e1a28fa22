//! Canonical JSON (RFC 8785): one text for one value, so that it can be hashed.
//!
//! Numbers are integers of at most 53 bits: every document we hash is made of them, and a float has no business in
//! an identity (section 3.2.2.3 of the RFC is therefore not needed here). A float that decides something, in a key, is an
//! [`ExactFloat`]: the one text form that floats have in keys.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::digest::Sha256;

/// The largest integer that every JSON reader keeps exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// A value that has no canonical form here.
#[derive(Debug, thiserror::Error)]
pub enum NotCanonical {
    /// A number that is not an integer within ±(2^53 - 1).
    #[error("{0} has no canonical form: only integers of at most 53 bits do")]
    Number(serde_json::Number),
    /// The value can't be expressed as JSON at all.
    #[error("the value cannot be expressed as JSON")]
    Json(#[source] serde_json::Error),
}

/// A float in a key: a string with the 16 hex digits of its IEEE 754 double, so that no formatter has a say in it.
///
/// Equal strings mean equal bits. 0 and -0 differ, which costs at most a result that is computed once more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExactFloat(pub f64);

impl Serialize for ExactFloat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value) = self;
        serializer.collect_str(&format_args!("{:016x}", value.to_bits()))
    }
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
            Some(integer) if integer.unsigned_abs() <= MAX_SAFE_INTEGER => {
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
    use proptest::prelude::*;
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
        check(json!(-9_007_199_254_740_991_i64), "-9007199254740991");
        for beyond in [i64::MIN, i64::MIN + 1, i64::MAX, -9_007_199_254_740_992] {
            assert!(to_string(&json!(beyond)).is_err(), "{beyond}");
        }
        assert!(to_string(&json!(u64::MAX)).is_err());
    }

    #[test]
    fn floats_in_keys_are_their_bits() {
        for (value, expected) in [
            (0.999, "\"3feff7ced916872b\""),
            (1.0, "\"3ff0000000000000\""),
            (-0.0, "\"8000000000000000\""),
            (f64::INFINITY, "\"7ff0000000000000\""),
        ] {
            assert_eq!(to_string(&ExactFloat(value)).unwrap(), expected, "{value}");
        }
    }

    /// Any JSON, with every kind of number.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..8)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn is_exact(value: &Value) -> bool {
        match value {
            Value::Number(number) => number
                .as_i64()
                .is_some_and(|integer| (-9_007_199_254_740_991..=9_007_199_254_740_991).contains(&integer)),
            Value::Array(items) => items.iter().all(is_exact),
            Value::Object(members) => members.values().all(is_exact),
            Value::Null | Value::Bool(_) | Value::String(_) => true,
        }
    }

    proptest! {
        /// A value has a canonical text exactly if all its numbers are safe integers; the text means the value, and is its
        /// own canonical text.
        #[test]
        fn one_text_for_one_value(value in any_json()) {
            match to_string(&value) {
                Ok(text) => {
                    prop_assert!(is_exact(&value));
                    let again: Value = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&again, &value);
                    prop_assert_eq!(to_string(&again).unwrap(), text);
                }
                Err(_) => prop_assert!(!is_exact(&value)),
            }
        }

        #[test]
        fn exact_floats_come_back(bits: u64) {
            let text = to_string(&ExactFloat(f64::from_bits(bits))).unwrap();
            prop_assert_eq!(u64::from_str_radix(text.trim_matches('"'), 16).unwrap(), bits);
        }
    }
}

//! The one rule by which every stored format is read. A file that is there is
//!
//! * **whole**: it has the schema that this nimctl reads, and is what the schema says;
//! * **damaged**: anything else. What can be made again counts as absent then; what a person wrote is an error;
//! * **newer**: its schema has the same name and a later version. It is refused, and never overwritten: a newer nimctl knows
//!   something about it that this one would lose.
//!
//! A schema is `nimctl.<what>/<version>`. The table in the crate's documentation lists every schema.

use std::fmt::Display;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::yaml::{self, Limits, words};

/// A schema of a newer nimctl.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("written by a newer nimctl (schema {found}, this nimctl reads {known}): upgrade nimctl")]
pub struct NewerSchema {
    /// The file's schema.
    pub found: String,
    /// The latest schema that this nimctl reads.
    pub known: String,
}

/// A file that a newer nimctl wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {schema}")]
pub struct Newer {
    /// The file.
    pub path: String,
    /// Its schema.
    pub schema: NewerSchema,
}

impl Newer {
    /// Says which file it is.
    pub fn new(path: impl Display, found: &str, known: &str) -> Self {
        let schema = NewerSchema { found: found.into(), known: known.into() };
        Self { path: path.to_string(), schema }
    }
}

/// A stored file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A newer nimctl wrote it.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// It isn't what it should be.
    #[error("{path}: {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The part of a file that every version has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: Option<String>,
}

/// Compares a file's schema with the one that this nimctl reads; `path` is only named in errors.
///
/// # Errors
/// Another schema.
pub fn check(found: &str, known: &str, path: impl Display) -> Result<(), Unreadable> {
    if found == known {
        return Ok(());
    }
    if is_newer(found, known) {
        return Err(Newer::new(path, found, known).into());
    }
    let problem = format!("its schema is `{found}`, but this nimctl reads `{known}`");
    Err(Unreadable::Damaged { path: path.to_string(), problem })
}

/// Returns whether a schema is a later version of the one that this nimctl reads: `nimctl.passport/2` is, of
/// `nimctl.passport/1`.
pub fn is_newer(found: &str, known: &str) -> bool {
    let (Some((name, version)), Some((known_name, known_version))) =
        (found.rsplit_once('/'), known.rsplit_once('/'))
    else {
        return false;
    };
    name == known_name && is_later(version, known_version)
}

/// Returns whether a version is later than another one: `10` is later than `9`, and `2.1` than `2.0`.
pub fn is_later(version: &str, known: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<(usize, String)>> {
        let number = |part: &str| {
            let digits = part.trim_start_matches('0');
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            // By length first: a number may have any number of digits.
            is_number.then(|| (digits.len(), digits.to_owned()))
        };
        let mut numbers = text.split('.').map(number).collect::<Option<Vec<_>>>()?;
        // 2.0.0 is 2.0.
        while numbers.last().is_some_and(|(length, _)| *length == 0) {
            numbers.pop();
        }
        Some(numbers)
    };
    match (numbers(version), numbers(known)) {
        (Some(version), Some(known)) => version > known,
        _ => false,
    }
}

/// Reads a JSON file with this schema; `path` is only named in errors.
///
/// # Errors
/// A file of a newer nimctl, or a damaged one.
pub fn from_json<T: DeserializeOwned>(
    bytes: &[u8],
    schema: &str,
    path: impl Display,
) -> Result<T, Unreadable> {
    let damaged = |problem: String| Unreadable::Damaged { path: path.to_string(), problem };
    let bytes = crate::text_encoding::without_mark(bytes);
    // The schema first: of a newer file, nothing else has to be what it is now.
    match head_of_json(bytes).map_err(damaged)? {
        Some(found) => check(&found, schema, &path)?,
        None => return Err(damaged(format!("it has no schema; expected `{schema}`"))),
    }
    serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))
}

/// Reads the schema of a JSON file, if it has one.
///
/// # Errors
/// In words: bytes that are not a JSON object, or a schema that is not a string.
pub fn head_of_json(bytes: &[u8]) -> Result<Option<String>, String> {
    let Head { schema } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(schema)
}

/// Reads the schema of a YAML file, if it is YAML and has one: what is wrong with the rest is for its own reader to say.
pub fn head_of_yaml(text: &str) -> Option<String> {
    let Head { schema } = serde_saphyr::from_str(text).ok()?;
    schema
}

/// Fails if a YAML file is one of a newer nimctl; `path` is only named in errors.
///
/// # Errors
/// A later version of the schema.
pub fn refuse_newer_yaml(text: &str, known: &str, path: impl Display) -> Result<(), Newer> {
    match head_of_yaml(text) {
        Some(found) if is_newer(&found, known) => Err(Newer::new(path, &found, known)),
        _ => Ok(()),
    }
}

/// A YAML file that a person wrote for nimctl, and that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlFileError {
    /// It is not what it should be, or names something that doesn't exist.
    #[error("{path}{}: {problem}", position.map_or_else(String::new, |(line, column)| format!(":{line}:{column}")))]
    Syntax {
        /// The file.
        path: String,
        /// Line and column, counted from 1, where known.
        position: Option<(u64, u64)>,
        /// What is wrong.
        problem: String,
    },
    /// A newer nimctl's.
    #[error(transparent)]
    Newer(#[from] Newer),
    /// Another schema.
    #[error("{path}: its schema is `{found}`, but this nimctl reads `{known}`")]
    Schema {
        /// The file.
        path: String,
        /// The schema in the file.
        found: String,
        /// The schema that was expected.
        known: &'static str,
    },
}

/// Reads such a file; `schema_of` returns the schema that is in it, and `path` is only named in errors.
///
/// # Errors
/// Text that is not the type's, or of another schema.
pub fn from_yaml<T: DeserializeOwned>(
    text: &str,
    known: &'static str,
    path: &str,
    schema_of: impl FnOnce(&T) -> &str,
) -> Result<T, YamlFileError> {
    refuse_newer_yaml(text, known, path)?;
    let value: T = serde_saphyr::from_str(text).map_err(|error| {
        let (location, problem) = words::explain(&error, text);
        let position = (location.line() > 0).then(|| (location.line(), location.column()));
        YamlFileError::Syntax { path: path.into(), position, problem }
    })?;
    match schema_of(&value) {
        found if found == known => Ok(value),
        found => Err(YamlFileError::Schema { path: path.into(), found: found.into(), known }),
    }
}

/// Returns where an item, or a key, is in such a file.
pub fn position_in_yaml(text: &str, keys: &[&str], item: &str) -> Option<(u64, u64)> {
    let document = yaml::parse(text.as_bytes(), &Limits::default()).ok()?;
    let position = document.find(keys, item)?;
    Some((position.line.into(), position.column.into()))
}

/// Fails if the JSON that is about to be overwritten is of a newer nimctl; `path` is only named in errors.
///
/// # Errors
/// A later version of the schema.
pub fn refuse_newer_json(bytes: &[u8], known: &str, path: impl Display) -> Result<(), Newer> {
    match head_of_json(bytes) {
        Ok(Some(found)) if is_newer(&found, known) => Err(Newer::new(path, &found, known)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: &str = "nimctl.passport/1";

    #[track_caller]
    fn check_version(found: &str, expected: &str) {
        let said = check(found, KNOWN, "p.json").map_or_else(|error| error.to_string(), |()| "read".into());
        assert_eq!(said, expected);
    }

    #[test]
    fn a_schema_is_known_newer_or_another() {
        check_version("nimctl.passport/1", "read");
        for newer in ["2", "10", "1.1", "99999999999999999999999999"] {
            let found = format!("nimctl.passport/{newer}");
            check_version(
                &found,
                &format!(
                    "p.json: written by a newer nimctl (schema {found}, this nimctl reads {KNOWN}): upgrade nimctl"
                ),
            );
        }
        for other in ["nimctl.passport/0", "nimctl.passport/x", "nimctl.passport/", "nimctl.bench/2", "", "2"]
        {
            check_version(
                other,
                &format!("p.json: its schema is `{other}`, but this nimctl reads `{KNOWN}`"),
            );
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, known, expected) in [
            ("2.1", "2.0", true),
            ("3", "2.0", true),
            ("10.0", "9.0", true),
            ("2.0.0", "2.0", false),
            ("2.0.1", "2.0", true),
            ("002", "1", true),
            ("1.0", "2.0", false),
            ("2.x", "2.0", false),
            ("", "2.0", false),
        ] {
            assert_eq!(is_later(version, known), expected, "{version} after {known}");
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        schema: String,
        size: u32,
    }

    #[track_caller]
    fn check_json(text: &str, expected: &str) {
        let read: Result<File, _> = from_json(text.as_bytes(), "nimctl.file/1", "f");
        let said = read.map_or_else(|error| error.to_string(), |file| format!("{} bytes", file.size));
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn the_schema_is_looked_at_before_the_rest() {
        check_json(r#"{"schema": "nimctl.file/1", "size": 4}"#, "4 bytes");
        check_json(
            r#"{"schema": "nimctl.file/2", "size": {"bytes": 4}, "x": 1}"#,
            "written by a newer nimctl",
        );
        check_json(r#"{"schema": "nimctl.file/1", "size": -4}"#, "f: invalid value");
        check_json(r#"{"size": 4}"#, "f: it has no schema; expected `nimctl.file/1`");
        check_json(r#"{"schema": 1, "size": 4}"#, "f: invalid type");
        check_json("", "f: EOF");
        check_json("[]", "f: ");
    }

    proptest! {
        /// Whatever the bytes are, the answer is one of three.
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>) {
            if let Err(Unreadable::Newer(newer)) = from_json::<File>(&bytes, "nimctl.file/1", "f") {
                prop_assert!(is_newer(&newer.schema.found, "nimctl.file/1"));
            }
        }

        #[test]
        fn later_versions_are_newer(version in 2_u64..) {
            let found = format!("nimctl.file/{version}");
            prop_assert!(is_newer(&found, "nimctl.file/1") && !is_newer("nimctl.file/1", &found));
        }
    }
}

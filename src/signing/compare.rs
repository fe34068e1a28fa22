//! Where the files of a model differ from what was signed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Resource;
use crate::digest::Sha256;

/// What was found at a path of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file with this digest.
    File(Sha256),
    /// A symbolic link, and links are not followed.
    Link,
    /// A symbolic link to a folder: what is in there is never part of a signature.
    LinkToFolder,
    /// Neither: a device, a socket, a link that leads nowhere.
    Special,
}

/// One difference between a model and what was signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The file has other bytes.
    Changed(String),
    /// The file is not there.
    Missing(String),
    /// The file was not signed.
    Added(String),
    /// The file is there under another name.
    Renamed {
        /// The signed name.
        from: String,
        /// The name that it has.
        to: String,
    },
    /// Each of two files has the bytes of the other.
    Swapped(String, String),
    /// A symbolic link where links are not followed; `true` if a file was signed there.
    Link(String, bool),
    /// A symbolic link to a folder.
    LinkToFolder(String),
    /// Neither file nor folder.
    Special(String),
    /// The file was signed, and the caller leaves it out.
    LeftOut(String),
}

impl Difference {
    /// Returns the path that it is about; of two, the signed one.
    pub fn path(&self) -> &str {
        match self {
            Self::Changed(path)
            | Self::Missing(path)
            | Self::Added(path)
            | Self::Renamed { from: path, to: _ }
            | Self::Swapped(path, _)
            | Self::Link(path, _)
            | Self::LinkToFolder(path)
            | Self::Special(path)
            | Self::LeftOut(path) => path,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(_) => f.write_str("its bytes are not those that were signed"),
            Self::Missing(_) => f.write_str("was signed, and is missing"),
            Self::Added(_) => f.write_str("was not signed"),
            Self::Renamed { to, .. } => write!(f, "was renamed to {}", shown(to)),
            Self::Swapped(_, other) => {
                write!(f, "was swapped with {}: each has the other's bytes", shown(other))
            }
            Self::Link(_, true) => f.write_str("a symbolic link is in the place of the signed file"),
            Self::Link(_, false) => f.write_str("is a symbolic link, and was not signed"),
            Self::LinkToFolder(_) => {
                f.write_str("is a symbolic link to a folder; what is in there is not covered by a signature")
            }
            Self::Special(_) => f.write_str("is neither a file nor a folder"),
            Self::LeftOut(_) => f.write_str("was signed, and can't be ignored"),
        }
    }
}

/// Returns a path as it is shown to people: one that could pass for several lines is quoted.
pub fn shown(path: &str) -> Cow<'_, str> {
    if path.contains(char::is_control) { Cow::Owned(format!("{path:?}")) } else { Cow::Borrowed(path) }
}

/// Returns every difference, by path. `is_ignored` says what the caller leaves out.
pub fn compare(
    signed: &[Resource],
    found: &BTreeMap<String, Found>,
    is_ignored: impl Fn(&str) -> bool,
) -> Vec<Difference> {
    let mut differences = BTreeSet::new();
    let mut missing: BTreeMap<&str, Sha256> = BTreeMap::new();
    let mut changed: BTreeMap<&str, (Sha256, Sha256)> = BTreeMap::new();
    for Resource { name, digest } in signed {
        match found.get(name) {
            _ if is_ignored(name) => {
                differences.insert(Difference::LeftOut(name.clone()));
            }
            None => {
                missing.insert(name, *digest);
            }
            Some(Found::File(now)) if now == digest => {}
            Some(Found::File(now)) => {
                changed.insert(name, (*digest, *now));
            }
            Some(other) => {
                differences.insert(not_a_file(name, *other, true));
            }
        }
    }
    let names: BTreeSet<&str> = signed.iter().map(|resource| resource.name.as_str()).collect();
    for (name, found) in found.iter().filter(|(name, _)| !names.contains(name.as_str()) && !is_ignored(name))
    {
        let Found::File(digest) = *found else {
            differences.insert(not_a_file(name, *found, false));
            continue;
        };
        // The same bytes under another name: the first that is missing.
        let from = missing.iter().find(|(_, signed)| **signed == digest).map(|(from, _)| *from);
        differences.insert(match from {
            Some(from) => {
                missing.remove(from);
                Difference::Renamed { from: from.to_owned(), to: name.clone() }
            }
            None => Difference::Added(name.clone()),
        });
    }
    differences.extend(missing.into_keys().map(|name| Difference::Missing(name.to_owned())));
    while let Some((name, (signed, now))) = changed.pop_first() {
        let other =
            changed.iter().find(|(_, (its, has))| *its == now && *has == signed).map(|(other, _)| *other);
        differences.insert(match other {
            Some(other) => {
                changed.remove(other);
                Difference::Swapped(name.to_owned(), other.to_owned())
            }
            None => Difference::Changed(name.to_owned()),
        });
    }
    let mut differences: Vec<_> = differences.into_iter().collect();
    differences.sort_by(|a, b| a.path().cmp(b.path()));
    differences
}

fn not_a_file(name: &str, found: Found, was_signed: bool) -> Difference {
    let name = name.to_owned();
    match found {
        Found::Link => Difference::Link(name, was_signed),
        Found::LinkToFolder => Difference::LinkToFolder(name),
        Found::File(_) | Found::Special => Difference::Special(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files by name, each with a text for its bytes; `@` is a link.
    #[track_caller]
    fn check(signed: &[(&str, &str)], found: &[(&str, &str)], expected: &[&str]) {
        let digest = |text: &str| Sha256::of(text.as_bytes());
        let signed: Vec<_> = signed
            .iter()
            .map(|(name, text)| Resource { name: (*name).into(), digest: digest(text) })
            .collect();
        let found = found
            .iter()
            .map(|(name, text)| {
                ((*name).to_owned(), if *text == "@" { Found::Link } else { Found::File(digest(text)) })
            })
            .collect();
        let differences = compare(&signed, &found, is_ignored);
        let differences: Vec<String> =
            differences.iter().map(|difference| format!("{}: {difference}", difference.path())).collect();
        assert_eq!(differences, expected);
    }

    fn is_ignored(name: &str) -> bool {
        name.starts_with("ignored")
    }

    #[test]
    fn each_difference_has_its_name() {
        let signed = [("a", "1"), ("b", "2"), ("c", "3")];
        check(&signed, &[("a", "1"), ("b", "2"), ("c", "3"), ("ignored", "x")], &[]);
        check(
            &signed,
            &[("a", "1"), ("b", "x"), ("c", "3")],
            &["b: its bytes are not those that were signed"],
        );
        check(&signed, &[("a", "1"), ("b", "2")], &["c: was signed, and is missing"]);
        check(&signed, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], &["d: was not signed"]);
        check(&signed, &[("a", "1"), ("b", "2"), ("d", "3")], &["c: was renamed to d"]);
        check(
            &signed,
            &[("a", "2"), ("b", "1"), ("c", "3")],
            &["a: was swapped with b: each has the other's bytes"],
        );
        check(
            &signed,
            &[("a", "@"), ("b", "2"), ("c", "3"), ("d", "@")],
            &[
                "a: a symbolic link is in the place of the signed file",
                "d: is a symbolic link, and was not signed",
            ],
        );
    }

    #[test]
    fn several_at_once() {
        // A copy is no renaming, and three that go round are no swap.
        check(&[("a", "1")], &[("a", "1"), ("b", "1")], &["b: was not signed"]);
        let changed = "its bytes are not those that were signed";
        check(
            &[("a", "1"), ("b", "2"), ("c", "3")],
            &[("a", "2"), ("b", "3"), ("c", "1")],
            &[&format!("a: {changed}"), &format!("b: {changed}"), &format!("c: {changed}")],
        );
        check(
            &[("a", "1"), ("b", "1")],
            &[("c", "1"), ("d", "1"), ("e", "1")],
            &["a: was renamed to c", "b: was renamed to d", "e: was not signed"],
        );
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(shown("a/ä b"), "a/ä b");
        assert_eq!(shown("a\n4 files: all as signed"), "\"a\\n4 files: all as signed\"");
        check(&[("a", "1")], &[("b\nc", "1")], &["a: was renamed to \"b\\nc\""]);
    }

    #[test]
    fn what_was_signed_cannot_be_ignored() {
        check(&[("ignored", "1")], &[("ignored", "1")], &["ignored: was signed, and can't be ignored"]);
    }
}

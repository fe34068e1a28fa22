//! `SHA256SUMS`, in the form that `sha256sum` writes and checks.

use std::collections::BTreeMap;

use crate::digest::Sha256;

/// The file's name.
pub const SUMS_FILE: &str = "SHA256SUMS";

/// Digests of files by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub BTreeMap<String, Sha256>);

impl Sums {
    /// Returns the file's text: a line for each path, sorted.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|(path, digest)| format!("{}  {path}\n", digest.to_hex())).collect()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The number of the first line that differs from what [`Sums::to_text`] writes, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut sums = BTreeMap::new();
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            let wrong = |what: &str| Err(format!("line {number}: {what}"));
            let Some((digest, path)) = line.strip_suffix('\n').and_then(|line| line.split_once("  ")) else {
                return wrong("expected a SHA-256, two spaces, a path and a line feed");
            };
            let Ok(parsed) = format!("sha256:{digest}").parse::<Sha256>() else {
                return wrong("not a SHA-256");
            };
            if parsed.to_hex() != digest {
                return wrong("the SHA-256 is not in lower case");
            }
            if sums.last_key_value().is_some_and(|(last, _): (&String, _)| last.as_str() >= path) {
                return wrong("paths are not in order");
            }
            sums.insert(path.to_owned(), parsed);
        }
        Ok(Self(sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let sums = Sums([("a/b".to_owned(), Sha256::of(b"x")), ("c".to_owned(), Sha256::of(b"y"))].into());
        let text = sums.to_text();
        assert_eq!(Sums::parse(&text).unwrap(), sums);
        for index in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[index] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                assert_ne!(Sums::parse(&changed), Ok(sums.clone()), "{changed}");
            }
        }
    }
}

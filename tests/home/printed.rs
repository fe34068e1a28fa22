//! What a command printed: exit code, standard output and standard error in one text.

use std::fmt;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::Value;

pub(crate) struct Printed {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Printed {
    pub(super) fn new(code: Option<i32>, stdout: String, stderr: String) -> Self {
        Self { code, stdout, stderr }
    }

    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails unless standard output or standard error has each of these pieces: for output that is different each time,
    /// so that no snapshot can hold it.
    #[track_caller]
    pub(crate) fn has(&self, pieces: &[&str]) -> &Self {
        for piece in pieces {
            let found = self.stdout.contains(piece) || self.stderr.contains(piece);
            assert!(found, "expected {piece:?} in\n{self}");
        }
        self
    }

    /// Parses standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stdout, stderr } = self;
        match code {
            Some(code) => writeln!(f, "exit {code}")?,
            None => writeln!(f, "killed")?,
        }
        write!(f, "--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

/// Replaces what was measured. Limits are whole seconds, and stay.
pub(super) fn without_times(text: &str) -> String {
    static MEASURED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b([0-9]+ ms|[0-9]+\.[0-9]+ s)\b").unwrap());
    MEASURED.replace_all(text, "<time>").into_owned()
}

/// Replaces digests: equal ones get equal numbers.
pub(super) fn number_digests(text: &str) -> String {
    static DIGEST: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[0-9a-f]{64}\b").unwrap());
    let mut digests: Vec<String> = Vec::new();
    let numbered = |found: &Captures<'_>| {
        let number = digests.iter().position(|digest| *digest == found[0]).unwrap_or_else(|| {
            digests.push(found[0].into());
            digests.len() - 1
        });
        format!("<digest {}>", number + 1)
    };
    DIGEST.replace_all(text, numbered).into_owned()
}

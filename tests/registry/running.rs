//! Runs nimctl in a folder.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a command came to.
pub(crate) struct Ran {
    code: Option<i32>,
    stdout: String,
    pub(crate) stderr: String,
}

/// Runs nimctl in a folder, with its data there and these variables alone.
pub(crate) fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
    command.args(arguments).args(["--output", "json"]).current_dir(folder).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("NIMCTL_DATA_DIR", folder.join("data"));
    let output = command.envs(variables.iter().copied()).output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// Checks that it succeeded, and returns its result.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Checks that it failed with a code and these words.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
        self
    }
}

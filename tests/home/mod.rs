//! A home for a test: an empty folder for recipes, data and store, in which nimctl runs, and a transcript of what it
//! printed.
//!
//! Every binary of tests shares this module (`#[path = "../home/mod.rs"] mod home;`). What a test shows of the command
//! line is one snapshot of its transcript: each command with its exit code, standard output and standard error, whole.
//! To reword a message, change it and accept the new snapshots:
//!
//! ```text
//! INSTA_UPDATE=always cargo nextest run -E 'binary(cli)'
//! git diff tests/
//! ```
//!
//! Exit codes stand in the tests too (`.exits(1)`), so that accepting a snapshot can't change one.

mod printed;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub(crate) use printed::Printed;

/// A folder with nothing in it, and how nimctl is run there.
pub(crate) struct Home {
    folder: TempDir,
    /// Holds nimctl alone: it looks for backends beside itself first, and a test chooses its own.
    program: TempDir,
    /// Everything in the environment of a command.
    environment: BTreeMap<OsString, OsString>,
    transcript: RefCell<String>,
}

impl Home {
    /// Makes a home whose backends are the scripted ones of `tests/workers`, with nothing else in its environment.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Beside the built program, so that a hard link is enough.
        let program = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs_err::hard_link(env!("CARGO_BIN_EXE_nimctl"), program.path().join("nimctl")).unwrap();
        let data = folder.path().join("data");
        let home = Self { folder, program, environment: BTreeMap::new(), transcript: RefCell::default() };
        home.with("PATH", "/usr/bin:/bin")
            .with("COLUMNS", "100")
            .with("NIMCTL_DATA_DIR", data)
            .with("NIMCTL_BACKENDS", scripted_backends())
    }

    /// Sets a variable for every command.
    pub(crate) fn with(mut self, variable: &str, value: impl Into<OsString>) -> Self {
        self.set(variable, value);
        self
    }

    /// Sets a variable for every command from now on.
    pub(crate) fn set(&mut self, variable: &str, value: impl Into<OsString>) {
        self.environment.insert(variable.into(), value.into());
    }

    /// Adds what this process has in its environment, for what finds libraries there.
    pub(crate) fn with_environment_of_this_process(mut self) -> Self {
        for (name, value) in std::env::vars_os() {
            if name == "PATH" || !self.environment.contains_key(&name) {
                self.environment.insert(name, value);
            }
        }
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, contents).unwrap();
    }

    /// Writes a file that can be executed.
    pub(crate) fn write_executable(&self, name: &str, contents: &str) {
        self.write(name, contents);
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(self.path(name), permissions).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).unwrap()
    }

    /// Returns what is in the home itself, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.folder()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Returns a command in this home, with nothing in its environment but what the home has.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program.path().join("nimctl"));
        command.args(arguments).current_dir(self.folder()).env_clear().envs(&self.environment);
        command
    }

    /// Runs nimctl, and adds it to the transcript.
    pub(crate) fn run(&self, arguments: &[&str]) -> Printed {
        self.run_with(&[], arguments)
    }

    /// Runs nimctl with these variables too, and adds it to the transcript.
    pub(crate) fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Printed {
        self.output(self.command(arguments).envs(variables.iter().copied()))
    }

    /// Runs nimctl, and leaves it out of the transcript.
    pub(crate) fn set_up(&self, arguments: &[&str]) -> Printed {
        self.printed(&self.command(arguments).output().unwrap())
    }

    /// Runs a command, and adds it to the transcript.
    pub(crate) fn output(&self, command: &mut Command) -> Printed {
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let printed = self.printed(&output);
        let line = self.line(command);
        let _ = writeln!(self.transcript.borrow_mut(), "{}\n{printed}", self.clean(&line));
        printed
    }

    /// Returns what a command printed, without what differs from one machine or run to the next.
    pub(crate) fn printed(&self, output: &Output) -> Printed {
        let text = |bytes: &[u8]| self.clean(&String::from_utf8_lossy(bytes));
        Printed::new(output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Returns the commands since the last time, each with all that it printed. Digests are numbered: those of a build
    /// depend on the scripted backend, among others.
    pub(crate) fn transcript(&self) -> String {
        printed::number_digests(&self.transcript_with_digests())
    }

    /// Returns the commands since the last time, each with all that it printed, digests too: for those that stand in a
    /// committed file or in a specification.
    pub(crate) fn transcript_with_digests(&self) -> String {
        printed::without_times(&self.transcript.take())
    }

    /// Returns a command as a person would type it, with the variables that it doesn't share with all others.
    fn line(&self, command: &Command) -> String {
        let mut line = "$".to_owned();
        for (name, value) in command.get_envs() {
            let Some(value) =
                value.filter(|&value| self.environment.get(name).is_none_or(|own| own != value))
            else {
                continue;
            };
            let _ = write!(line, " {}={}", name.display(), value.display());
        }
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        for word in std::iter::once(program).chain(command.get_args()) {
            let _ = write!(line, " {}", quoted(word));
        }
        line
    }

    fn clean(&self, text: &str) -> String {
        let mut text = text.replace(&self.folder().display().to_string(), "~");
        text = text.replace(&self.program.path().display().to_string(), "<program>");
        text = text.replace(&scripted_backends().display().to_string(), "<fake>");
        if let Some(backends) = std::env::var_os("NIMCTL_TEST_BACKENDS") {
            text = text.replace(&*backends.to_string_lossy(), "<backends>");
        }
        text.replace(env!("CARGO_MANIFEST_DIR"), "<repo>")
    }
}

/// Returns the folder of the scripted backends.
pub(crate) fn scripted_backends() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |character: char| character.is_alphanumeric() || "-_./=:,~@+%<>".contains(character);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{word}'") }
}

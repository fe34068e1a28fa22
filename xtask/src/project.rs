//! Where the repository and its build folder are, and how commands are run in it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use xshell::{Cmd, Shell};

/// The repository, seen from its root.
pub(crate) struct Project {
    /// Runs commands in the root.
    pub(crate) shell: Shell,
    /// Where cargo puts the executables of the profile in use.
    pub(crate) executables: PathBuf,
    /// What selects that profile: `--release`, or nothing for the dev profile.
    pub(crate) profile: &'static [&'static str],
}

impl Project {
    /// Finds the repository that this task belongs to. To be called once, at the start: cargo may replace this
    /// executable later.
    pub(crate) fn find() -> Result<Self> {
        let shell = Shell::new().context("the current folder can't be entered")?;
        // Cargo resolves a relative folder against the current one, which is about to change.
        if let Some(target) = shell.var_os("CARGO_TARGET_DIR").filter(|target| !target.is_empty()) {
            shell.set_var("CARGO_TARGET_DIR", shell.current_dir().join(target));
        }
        let package = shell.var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root =
            Path::new(&package).parent().context("CARGO_MANIFEST_DIR names no package of a workspace")?;
        shell.change_dir(root);
        let this = std::env::current_exe().context("this task's own executable has no path")?;
        let profiles =
            this.parent().and_then(Path::parent).context("this executable is in no build folder")?;
        Ok(Self { executables: profiles.join("debug"), profile: &[], shell })
    }

    /// Returns the same repository, built in the release profile.
    pub(crate) fn in_release(&self) -> Self {
        Self {
            shell: self.shell.clone(),
            executables: self.executables.with_file_name("release"),
            profile: &["--release"],
        }
    }

    /// Returns the repository's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.shell.current_dir()
    }

    /// Returns a command that runs the built `nimctl`.
    pub(crate) fn nimctl(&self) -> Cmd<'_> {
        self.shell.cmd(self.executables.join("nimctl"))
    }

    /// Returns whether the environment has a value for a variable.
    pub(crate) fn is_set(&self, variable: &str) -> bool {
        self.shell.var_os(variable).is_some_and(|value| !value.is_empty())
    }
}

/// Says on stderr what is going on.
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Where a command's stdout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// To this task's stdout.
    Passed,
    /// To stderr: it is no result of the task.
    Talk,
}

/// Takes from a command's environment what `cargo run` told this program about its own package: build scripts (ring's)
/// see it too, and would build everything anew whenever `cargo` and `cargo xtask` take turns.
fn as_from_a_shell(command: Cmd<'_>) -> Command {
    let mut command = Command::from(command);
    #[expect(
        clippy::disallowed_methods,
        reason = "what a task starts must not inherit cargo's own variables"
    )]
    for (name, _) in std::env::vars_os() {
        let is_ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.to_str().is_some_and(|name| name.starts_with(prefix)));
        if is_ours {
            command.env_remove(name);
        }
    }
    command
}

/// Says what is run, runs it, and returns how it ended.
pub(crate) fn status(command: Cmd<'_>, stdout: Stdout) -> Result<ExitStatus> {
    eprintln!("$ {command}");
    let text = command.to_string();
    let mut command = as_from_a_shell(command);
    command.stdin(Stdio::null());
    if stdout == Stdout::Talk {
        command.stdout(io::stderr());
    }
    command.status().with_context(|| format!("`{text}` can't be started"))
}

/// Says what is run, and starts it; its stdout is talk.
pub(crate) fn start(command: Cmd<'_>) -> Result<Child> {
    eprintln!("$ {command}");
    let text = command.to_string();
    let mut command = as_from_a_shell(command);
    command.stdin(Stdio::null()).stdout(io::stderr());
    command.spawn().with_context(|| format!("`{text}` can't be started"))
}

/// Says what is run, runs it, and fails if it fails.
pub(crate) fn run(command: Cmd<'_>) -> Result<()> {
    let text = command.to_string();
    let status = status(command, Stdout::Talk)?;
    ensure!(status.success(), "`{text}` failed ({status})");
    Ok(())
}

/// Runs a command and returns all that it printed, whether it succeeded or not; prints nothing.
pub(crate) fn output(command: Cmd<'_>) -> Result<Output> {
    let text = command.to_string();
    let mut command = as_from_a_shell(command);
    command.stdin(Stdio::null()).output().with_context(|| format!("`{text}` can't be started"))
}

/// Runs a command and returns its stdout; prints nothing.
pub(crate) fn read(command: Cmd<'_>) -> Result<String> {
    let text = command.to_string();
    let Output { status, stdout, stderr } = output(command)?;
    ensure!(status.success(), "`{text}` failed ({status}):\n{}", String::from_utf8_lossy(&stderr).trim_end());
    String::from_utf8(stdout).with_context(|| format!("`{text}` printed something that is no UTF-8"))
}

/// Runs a program that says on stderr how far it is, and returns its stdout. It is called by its name, since its text may be long.
pub(crate) fn read_from(name: &str, command: Cmd<'_>) -> Result<String> {
    let output = as_from_a_shell(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{name} can't be started"))?;
    ensure!(output.status.success(), "{name} failed ({}): what it said is above", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed something that is no UTF-8"))
}

/// Variables to set for a command.
pub(crate) type Variables = Vec<(String, OsString)>;

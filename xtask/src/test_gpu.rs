//! `test-gpu`: the tests that need a GPU. Without one they fail; [`check`] sees to that.

use anyhow::{Result, bail, ensure};
use xshell::cmd;

use crate::project::{Project, output, run as execute, say};
use crate::set_up::{SetUp, set_up};

/// How the tests say that there is no GPU.
const NO_GPU: &str = "the tests on a GPU were asked for, and there is no GPU";

/// Sets everything up, then runs the tests, one at a time: two would disturb each other.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    let set_up = set_up(project)?;
    with_workers(project, &set_up, || {
        execute(cmd!(project.shell, "cargo test --test gpu -- --test-threads 1 {arguments...}"))
    })
}

/// Runs them where there is a GPU; where there is none, checks that they fail for that reason, every one of them.
pub(crate) fn check(project: &Project, set_up: &SetUp) -> Result<()> {
    let has_gpu = output(cmd!(project.shell, "nvidia-smi --list-gpus"))
        .is_ok_and(|output| output.status.success() && !output.stdout.is_empty());
    if has_gpu {
        return with_workers(project, set_up, || {
            execute(cmd!(project.shell, "cargo test --test gpu -- --test-threads 1"))
        });
    }
    let said = with_workers(project, set_up, || {
        output(cmd!(project.shell, "cargo test --test gpu -- --test-threads 1").env("RUST_BACKTRACE", "0"))
    })?;
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    let summary = text.lines().find(|line| line.starts_with("test result:"));
    let Some(summary) = summary else { bail!("the tests on a GPU did not run:\n{text}") };
    ensure!(
        !said.status.success() && summary.contains(" 0 passed") && summary.contains(" 0 ignored"),
        "there is no GPU, and not all tests that need one failed: {summary}"
    );
    let failures = text.matches(NO_GPU).count();
    ensure!(failures > 0, "the tests on a GPU failed for another reason than that there is none:\n{text}");
    say(&format!(
        "SKIPPED here: what only a GPU can show, since there is none; asked for it, all {failures} tests fail"
    ));
    Ok(())
}

fn with_workers<T>(project: &Project, set_up: &SetUp, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let shell = &project.shell;
    let _backends = shell.push_env("NIMCTL_TEST_BACKENDS", &project.executables);
    let _libraries: Vec<_> =
        set_up.libraries.iter().map(|(variable, folder)| shell.push_env(variable, folder)).collect();
    work()
}

//! `ci`: exactly what CI runs, in its order.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use crate::project::{Project, output, run as execute, say};
use crate::set_up::{SetUp, TENSORRT_FLAVOURS, build, build_flavour, set_up};
use crate::{codegen, dist, test, test_gpu, tidy};

/// Runs every step, up to the first that fails.
pub(crate) fn run(project: &Project) -> Result<()> {
    let times = RefCell::new(Vec::new());
    let result = steps(project, &times);
    eprintln!("\n{:<24}  {:>8}", "STEP", "TIME");
    for (name, time) in times.borrow().iter() {
        eprintln!("{name:<24}  {:>6.1} s", time.as_secs_f64());
    }
    let total: Duration = times.borrow().iter().map(|(_, time)| *time).sum();
    eprintln!("{:<24}  {:>6.1} s", "total", total.as_secs_f64());
    result
}

type Times = RefCell<Vec<(&'static str, Duration)>>;

fn steps(project: &Project, times: &Times) -> Result<()> {
    let shell = &project.shell;
    step(times, "fmt", || execute(cmd!(shell, "cargo fmt --all --check")))?;
    let set_up = step(times, "set-up", || set_up(project))?;
    step(times, "clippy", || execute(cmd!(shell, "cargo clippy --workspace --all-targets -- -D warnings")))?;
    for (name, flavour) in
        [("clippy tensorrt-rtx", TENSORRT_FLAVOURS[0]), ("clippy tensorrt", TENSORRT_FLAVOURS[1])]
    {
        step(times, name, || clippy(project, &set_up, flavour))?;
    }
    step(times, "test", || test::test(project, &set_up, &[]))?;
    step(times, "second build", || second_build(project, &set_up))?;
    step(times, "dist --try", || dist::check(project))?;
    step(times, "test-gpu", || test_gpu::check(project, &set_up))?;
    step(times, "fuzz targets compile", || {
        // A package of its own; only fuzzing itself needs a nightly compiler.
        execute(cmd!(shell, "cargo check --manifest-path fuzz/Cargo.toml --all-targets"))
    })?;
    step(times, "codegen --check", || codegen::run(project, &["--check".into()]))?;
    step(times, "tidy", || tidy::run(project))?;
    step(times, "deny", || deny(project))
}

fn step<T>(times: &Times, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("\n=== {name}");
    #[expect(clippy::disallowed_methods, reason = "steps are timed")]
    let start = Instant::now();
    let result = work();
    times.borrow_mut().push((name, start.elapsed()));
    result.with_context(|| format!("step `{name}`"))
}

fn clippy(project: &Project, set_up: &SetUp, flavour: &str) -> Result<()> {
    execute(
        cmd!(
            project.shell,
            "cargo clippy --workspace --all-targets --features nimctl-backend-tensorrt/{flavour} -- -D warnings"
        )
        .envs(set_up.libclang.iter().map(|(name, value)| (name, value))),
    )
}

/// Checks that a build of what is built compiles nothing, whichever worker is built with it.
fn second_build(project: &Project, set_up: &SetUp) -> Result<()> {
    let flavours = TENSORRT_FLAVOURS.map(|flavour| build_flavour(project, flavour, &set_up.libclang));
    for command in [build(project)].into_iter().chain(flavours) {
        let text = command.to_string();
        let built = output(command)?;
        let messages = String::from_utf8_lossy(&built.stderr);
        ensure!(built.status.success(), "`{text}` failed:\n{messages}");
        let again: Vec<&str> = messages.lines().filter(|line| line.contains("Compiling")).collect();
        ensure!(
            again.is_empty(),
            "`{text}` compiles what is built already; a dependency has other features there (see \
             backends/tensorrt/Cargo.toml):\n{}",
            again.join("\n")
        );
    }
    Ok(())
}

/// Checks licences, bans and sources; advisories too, where their database can be fetched.
fn deny(project: &Project) -> Result<()> {
    let shell = &project.shell;
    if !output(cmd!(shell, "cargo deny --version")).is_ok_and(|output| output.status.success()) {
        say("deny: skipped, because cargo-deny is not installed; .ci/run installs it");
        return Ok(());
    }
    execute(cmd!(shell, "cargo deny --log-level error check bans licenses sources"))?;
    let advisories = output(cmd!(shell, "cargo deny --log-level error check advisories"))?;
    let said = String::from_utf8_lossy(&advisories.stderr);
    if !advisories.status.success() && said.contains("failed to fetch advisory database") {
        let reason = said.lines().find(|line| line.starts_with("fatal:")).unwrap_or("it can't be fetched");
        say(&format!("advisories: SKIPPED, because of their database: {reason}"));
        return Ok(());
    }
    eprint!("{said}");
    ensure!(advisories.status.success(), "cargo-deny knows of advisories against our dependencies");
    Ok(())
}

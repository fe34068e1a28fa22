//! `bench verified-read`: what it costs to read a plan verified, as a worker does before it loads it, beside `cat` and
//! `openssl dgst -sha256` of the same file.

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use super::timed::timed;
use super::{Options, Side, print_side, size_bytes};
use crate::project::{Project, run as execute, say};

/// As large as the plan of ViT-L/14's image tower.
const BYTES: &str = "614204228";

/// Times all three on a file that is in memory.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    ensure!(options.size.is_none(), "bench verified-read takes no --size");
    let shell = &project.shell;
    let release = project.in_release();
    execute(cmd!(shell, "cargo build --workspace --release --example verified_read"))?;
    let ours = release.executables.join("examples/verified_read");
    let temporary = shell.create_temp_dir().context("no temporary folder can be made")?;
    let file = temporary.path().join("plan");
    let script = "head -c \"$1\" /dev/urandom >\"$0\"";
    execute(cmd!(shell, "sh -c {script} {file} {BYTES}"))?;
    let (mut verified, mut cat, mut openssl) = (Side::default(), Side::default(), Side::default());
    // It comes from memory from now on.
    timed(shell, cmd!(shell, "{ours} {file}"))?;
    let to_nowhere = "exec cat \"$0\" >/dev/null";
    for round in 1..=options.repeat {
        say(&format!("round {round} of {}", options.repeat));
        verified.0.push(timed(shell, cmd!(shell, "{ours} {file}"))?);
        cat.0.push(timed(shell, cmd!(shell, "sh -c {to_nowhere} {file}"))?);
        openssl.0.push(timed(shell, cmd!(shell, "openssl dgst -sha256 {file}"))?);
    }
    println!(
        "\n{:.0} MB, in the page cache; median (min) of {} runs of the whole process",
        size_bytes(shell, &file)? as f64 / 1e6,
        options.repeat
    );
    print_side("verified read", "nimctl's worker", &verified);
    print_side("read", "cat", &cat);
    print_side("SHA-256", "openssl dgst", &openssl);
    let theirs = cat.wall() + openssl.wall();
    println!("{:.2} of what cat and openssl take together (at most 1)", verified.wall() / theirs);
    ensure!(verified.wall() <= theirs, "not met: time");
    Ok(())
}

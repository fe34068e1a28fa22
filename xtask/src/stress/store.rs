//! `stress store`: processes that are killed, eight at once in one store, and a full disk, many times: the tests of `tests/cli/store_kills.rs`.

use anyhow::{Context as _, Result, bail};
use xshell::cmd;

use crate::project::{Project, run as execute, say};

const DEFAULT_KILLS: u64 = 200;
const DEFAULT_ROUNDS: u64 = 20;
const DEFAULT_SEED: u64 = 20;

/// Runs it: `[--kills N] [--rounds N] [--seed N]`.
pub(super) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    let (mut kills, mut rounds, mut seed) = (DEFAULT_KILLS, DEFAULT_ROUNDS, DEFAULT_SEED);
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--kills" => kills = value.parse().context("--kills")?,
            [name, value] if name == "--rounds" => rounds = value.parse().context("--rounds")?,
            [name, value] if name == "--seed" => seed = value.parse().context("--seed")?,
            other => bail!("expected --kills N, --rounds N or --seed N, not {}", other.join(" ")),
        }
    }
    let shell = &project.shell;
    let _settings = [
        shell.push_env("NIMCTL_TEST_KILLS", kills.to_string()),
        shell.push_env("NIMCTL_TEST_ROUNDS", rounds.to_string()),
        shell.push_env("NIMCTL_TEST_SEED", seed.to_string()),
    ];
    say(&format!("{kills} kills, {rounds} rounds of eight processes, a full disk; seed {seed}"));
    execute(cmd!(shell, "cargo test --workspace --test cli -- store_kills --test-threads=1 --nocapture"))?;
    say("nothing was lost, wrong or done again");
    Ok(())
}

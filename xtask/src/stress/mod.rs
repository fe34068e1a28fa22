//! `stress`: four processes in one store, at random, some of them killed or asked to end. Every result must be right or
//! interrupted, nothing may have failed that didn't, and after one more command of each kind nothing may be left behind.

#![expect(
    clippy::disallowed_methods,
    reason = "processes are started to be killed, and nothing written is kept"
)]

mod commands;
mod leftovers;
mod random;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::{Project, Variables, say};
use crate::set_up::libraries;
use commands::{Place, Tally};
use random::Random;

const DEFAULT_MINUTES: u64 = 10;
const DEFAULT_SEED: u64 = 20;
const PROCESSES: u64 = 4;

/// Runs it: `[--minutes N] [--seed N]`, or `store` with its own.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    if let Some((first, rest)) = arguments.split_first()
        && first == "store"
    {
        return store::run(project, rest);
    }
    let (mut minutes, mut seed) = (DEFAULT_MINUTES, DEFAULT_SEED);
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--minutes" => minutes = value.parse().context("--minutes")?,
            [name, value] if name == "--seed" => seed = value.parse().context("--seed")?,
            other => bail!("expected --minutes N or --seed N, not {}", other.join(" ")),
        }
    }
    let variables = libraries(project)?;
    let folder = std::env::temp_dir().join(format!("nimctl-stress-{}", std::process::id()));
    say(&format!("{minutes} minutes in {}, seed {seed}", folder.display()));
    let done = stress(project, variables, &folder, Duration::from_secs(60 * minutes), seed);
    if done.is_ok() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    done.with_context(|| format!("everything is still in {}", folder.display()))
}

fn stress(project: &Project, variables: Variables, folder: &Path, time: Duration, seed: u64) -> Result<()> {
    let place = Place::make(project.executables.join("nimctl"), variables, folder)?;
    let end = Instant::now() + time;
    let tally = Mutex::new(Tally::default());
    let failures: Vec<anyhow::Error> = std::thread::scope(|scope| {
        let runs = (0..PROCESSES).map(|number| {
            let (place, tally) = (&place, &tally);
            scope.spawn(move || {
                let mut random = Random::new(seed * PROCESSES + number);
                while Instant::now() < end {
                    place.step(number, &mut random, tally)?;
                }
                anyhow::Ok(())
            })
        });
        let runs: Vec<_> = runs.collect();
        let ended = runs.into_iter().map(|run| run.join().unwrap_or_else(|_| bail!("a thread panicked")));
        ended.filter_map(Result::err).collect()
    });
    say(&tally.lock().map(|tally| tally.to_string()).unwrap_or_default());
    for failure in &failures {
        say(&format!("FAILED: {failure:#}"));
    }
    ensure!(failures.is_empty(), "{} of {PROCESSES} runs failed", failures.len());
    // One command of each kind more, which finds what the killed ones left.
    place.last_round()?;
    leftovers::check(folder, &place.out())?;
    say("every result was right or interrupted, and nothing was left behind");
    Ok(())
}

/// Returns the paths in a folder; none for a folder that isn't there.
fn paths_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

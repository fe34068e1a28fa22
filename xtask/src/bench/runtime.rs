//! `bench runtime`: our `onnxruntime` worker beside Python's onnxruntime of the same version, on the same graph. The library
//! alone is timed too; it shows what either of them adds, and no bound depends on it.
//!
//! Rounds are added in pairs until the interval of both bounds is clear, or the limit is reached. `docs/benchmark.md` says
//! how rounds are measured.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use super::estimate::{Estimate, Verdict};
use super::{Options, build_folder, median, model, python_packages, release_nimctl};
use crate::project::{Project, read, read_from, run as execute, say};

/// The graph that the bounds are for.
const SIZE: &str = "b32";
/// Batches, each with the seconds of a turn, three to six runs, and the turns of each side in a round. Turns are short, because
/// the load of the machine changes within seconds, and few, because processes differ more than turns do.
const BATCHES: [(u32, &str, &str); 2] = [(1, "0.4", "8"), (8, "1.6", "4")];
/// The maximum of our latency over Python's. Faster is no failure.
const MAX_LATENCY: f64 = 1.01;
/// The maximum of our time from the start of the process to its first result, over Python's.
const MAX_FIRST_RESULT: f64 = 0.75;
/// Every order of starts was used once before anything is decided.
const MIN_PAIRS: usize = 3;
/// The maximum number of pairs of rounds for each `--repeat`.
const PAIRS: usize = 4;

const PEER: &str = include_str!("runtime_peer.py");
const NUMPY: &str = "numpy==2.4.6";

/// Times all sides at every batch, and fails if a bound is missed or undecided.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    let shell = &project.shell;
    let nimctl = release_nimctl(project)?;
    let worker = build_folder(project)?.join("release/nimctl-backend-onnxruntime");
    execute(cmd!(shell, "{nimctl} toolchain install onnxruntime"))?;
    let library = read(cmd!(shell, "{nimctl} toolchain path onnxruntime"))?;
    let library = library.trim();
    // The folder is named after the toolchain's pin: `1.32.0-5a34…`.
    let folder = library.rsplit('/').next().unwrap_or_default();
    let version = folder.split('-').next().context("the toolchain has no version")?;
    let peers = format!("onnxruntime=={version}");
    let packages = python_packages(
        project,
        &format!("onnxruntime-{version}-with-numpy"),
        &[peers, NUMPY.into(), "flatbuffers".into(), "protobuf".into(), "packaging".into()],
    )?;
    let size = options.size.as_deref().unwrap_or(SIZE);
    let file = Path::new(library).join(format!("libonnxruntime.so.{version}"));
    let graph = model(project, &nimctl, size)?.join("vision.onnx");
    let work = shell.create_temp_dir().context("no temporary folder can be made")?;
    let work = work.path();
    let max_pairs = options.repeat * PAIRS;
    let mut failures = Vec::new();
    for (batch, turn_s, turns) in BATCHES {
        let batch_text = batch.to_string();
        let rounds = until_clear(max_pairs, |pair| {
            let pair_text = pair.to_string();
            let found = read_from(
                "xtask/src/bench/runtime_peer.py",
                cmd!(
                    shell,
                    "python3 -c {PEER} {worker} {file} {graph} {work} {batch_text} {pair_text} {turns} {turn_s}"
                )
                .env("PYTHONPATH", &packages)
                .env("NIMCTL_ONNXRUNTIME_LIB", library),
            )?;
            say(&format!("{size}, batch {batch}: pair {} of at most {max_pairs} is measured", pair + 1));
            serde_json::from_str(&found).context("runtime_peer.py printed no JSON")
        })?;
        println!(
            "\n{size} image tower, batch {batch}, 2 threads, ONNX Runtime {version}; medians of {} rounds",
            rounds.0.len()
        );
        failures.extend(report(&rounds, batch)?);
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Adds pairs of rounds until both bounds are clear, or there are `max_pairs`.
fn until_clear(max_pairs: usize, mut measure: impl FnMut(usize) -> Result<Vec<Value>>) -> Result<Rounds> {
    let mut rounds = Rounds(Vec::new());
    for pair in 0..max_pairs {
        rounds.0.extend(measure(pair)?);
        let clear = rounds.bounds()?.iter().all(|bound| bound.verdict() != Verdict::Undecided);
        if pair + 1 >= MIN_PAIRS && clear {
            break;
        }
    }
    Ok(rounds)
}

/// Prints the figures of a batch, and returns what failed.
fn report(rounds: &Rounds, batch: u32) -> Result<Vec<String>> {
    println!("{:<28}{:>12}{:>18}", "", "median ms", "first result ms");
    for (side, name) in [("ours", "our worker"), ("python", "Python"), ("alone", "the library alone")] {
        let (time, first) =
            (median(rounds.values("median_s", side)?), median(rounds.values("first_s", side)?));
        println!("{name:<28}{:>12.2}{:>18.0}", time * 1e3, first * 1e3);
    }
    let first = median(rounds.values("first_s", "optimized")?);
    println!("{:<28}{:>12}{:>18.0}", "ours, optimized ahead", "", first * 1e3);
    let Estimate { ratio, low, high } = Estimate::from_rounds(&rounds.values("ratio", "alone")?);
    println!("latency: {ratio:.4} of the library alone, 95 % interval {low:.4} to {high:.4}");
    let mut failures = Vec::new();
    for bound in rounds.bounds()? {
        let Bound { what, estimate: Estimate { ratio, low, high }, max } = bound;
        let verdict = match bound.verdict() {
            Verdict::Met => "met",
            Verdict::Missed => "missed",
            Verdict::Undecided => "undecided, more rounds may help: raise --repeat",
        };
        println!(
            "{what}: {ratio:.4} of Python's, 95 % interval {low:.4} to {high:.4} (at most {max}): {verdict}"
        );
        if bound.verdict() != Verdict::Met {
            failures.push(format!("{what} at batch {batch}: {verdict}"));
        }
    }
    Ok(failures)
}

/// What `runtime_peer.py` printed: an object a round.
struct Rounds(Vec<Value>);

/// A ratio to Python's, and its upper bound.
struct Bound {
    what: &'static str,
    estimate: Estimate,
    max: f64,
}

impl Bound {
    fn verdict(&self) -> Verdict {
        self.estimate.verdict(self.max)
    }
}

impl Rounds {
    fn values(&self, what: &str, side: &str) -> Result<Vec<f64>> {
        let value = |round: &Value| {
            round[what][side].as_f64().with_context(|| format!("runtime_peer.py printed no {what} of {side}"))
        };
        self.0.iter().map(value).collect()
    }

    fn bounds(&self) -> Result<[Bound; 2]> {
        let (ours, python) = (self.values("first_s", "ours")?, self.values("first_s", "python")?);
        let first: Vec<f64> = ours.iter().zip(&python).map(|(ours, python)| ours / python).collect();
        let latency = self.values("ratio", "python")?;
        Ok([
            Bound { what: "latency", estimate: Estimate::from_rounds(&latency), max: MAX_LATENCY },
            Bound { what: "first result", estimate: Estimate::from_rounds(&first), max: MAX_FIRST_RESULT },
        ])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Rounds, report, until_clear};

    /// A pair of rounds with these ratios to Python's latency and first result.
    fn pair(latency: f64, first: f64) -> Vec<Value> {
        vec![json!({ "ratio": { "python": latency }, "first_s": { "ours": first, "python": 1.0 } }); 2]
    }

    fn rounds(max_pairs: usize, latency: impl Fn(usize) -> f64, first: f64) -> usize {
        until_clear(max_pairs, |number| Ok(pair(latency(number), first))).unwrap().0.len()
    }

    #[test]
    fn rounds_end_as_soon_as_both_bounds_are_clear() {
        assert_eq!(rounds(12, |_| 0.99, 0.5), 6, "met");
        assert_eq!(rounds(12, |_| 1.05, 0.5), 6, "missed");
        // Alternating between 1.00 and 1.01: the interval is below 1.01 from some pair on.
        let found = rounds(12, |number| 1.0 + 0.01 * (number % 2) as f64, 0.5);
        assert!((7..24).contains(&found), "{found}");
    }

    #[test]
    fn rounds_end_at_the_maximum() {
        assert_eq!(rounds(12, |number| 0.96 + 0.1 * (number % 2) as f64, 0.5), 24, "latency");
        assert_eq!(
            until_clear(4, |number| Ok(pair(0.99, 0.6 + 0.2 * (number % 2) as f64))).unwrap().0.len(),
            8
        );
    }

    #[test]
    fn a_missed_bound_fails() {
        let round = json!({
            "ratio": { "python": 1.05, "alone": 1.0 },
            "median_s": { "ours": 1.05, "python": 1.0, "alone": 1.05 },
            "first_s": { "ours": 0.5, "python": 1.0, "alone": 0.9, "optimized": 0.4 },
        });
        assert_eq!(report(&Rounds(vec![round; 6]), 8).unwrap(), ["latency at batch 8: missed"]);
    }

    #[test]
    fn what_the_peer_leaves_out_is_an_error() {
        until_clear(4, |_| Ok(vec![json!({})])).err().unwrap();
    }
}

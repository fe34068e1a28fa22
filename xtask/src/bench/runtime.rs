//! `bench runtime`: our `onnxruntime` worker beside Python's onnxruntime of the same version, and beside the library itself, on
//! the same graph.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use super::{Options, build_folder, median, model, python_packages, release_nimctl};
use crate::project::{Project, read, read_from, run as execute, say};

/// The graph that the bounds are for.
const SIZE: &str = "b32";
/// Batches, each with the seconds of a turn, three to six runs, and the turns of each side in a round. Short turns: what else
/// the machine does changes within seconds. Few of them: what differs most is one process from the next.
const BATCHES: [(u32, &str, &str); 2] = [(1, "0.4", "8"), (8, "1.6", "4")];
/// The medians differ by no more, either way: a side that is faster than that may not time the same thing. It is met or not if
/// the whole interval says so. What is known of where Python's package differs is in docs/benchmark.md.
const MOST_DIFFERENCE: f64 = 0.01;
/// Rounds of one `--repeat`.
const ROUNDS: usize = 8;
/// More takes hours, and isn't proposed.
const MOST_REPEAT: f64 = 24.0;
/// From the start of the process to its first result, at most so many times as long as Python takes.
const MOST_FIRST: f64 = 0.75;

const PEER: &str = include_str!("runtime_peer.py");
const NUMPY: &str = "numpy==2.4.6";

/// Times all sides at every batch.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    let shell = &project.shell;
    let nimctl = release_nimctl(project)?;
    let worker = build_folder(project)?.join("release/nimctl-backend-onnxruntime");
    execute(cmd!(shell, "{nimctl} toolchain install onnxruntime"))?;
    let library = read(cmd!(shell, "{nimctl} toolchain path onnxruntime"))?;
    // The pin of the toolchain is what the folder is called after: `1.32.0-5a34…`.
    let folder = library.trim().rsplit('/').next().unwrap_or_default();
    let version = folder.split('-').next().context("the toolchain has no version")?;
    let peers = format!("onnxruntime=={version}");
    let packages = python_packages(
        project,
        &format!("onnxruntime-{version}-with-numpy"),
        &[peers, NUMPY.into(), "flatbuffers".into(), "protobuf".into(), "packaging".into()],
    )?;
    let size = options.size.as_deref().unwrap_or(SIZE);
    let file = Path::new(library.trim()).join(format!("libonnxruntime.so.{version}"));
    let graph = model(project, &nimctl, size)?.join("vision.onnx");
    let rounds = (options.repeat * ROUNDS).to_string();
    let (mut misses, mut unclear) = (Vec::new(), Vec::new());
    for (batch, turn_s, turns) in BATCHES {
        say(&format!("{size}, batch {batch}, {rounds} rounds"));
        let batch_text = batch.to_string();
        let found = read_from(
            "xtask/src/bench/runtime_peer.py",
            cmd!(shell, "python3 -c {PEER} {worker} {file} {graph} {batch_text} {rounds} {turns} {turn_s}")
                .env("PYTHONPATH", &packages)
                .env("NIMCTL_ONNXRUNTIME_LIB", library.trim()),
        )?;
        let found: Value = serde_json::from_str(&found).context("the peer printed no JSON")?;
        let values = |side: &str, what: &str| -> Result<Vec<f64>> {
            serde_json::from_value(found[side][what].clone()).context("the peer left something out")
        };
        println!(
            "\n{size} image tower, batch {batch}, 2 threads, ONNX Runtime {version}; medians of {rounds} rounds"
        );
        println!("{:<28}{:>12}{:>18}", "", "median ms", "first result ms");
        for (side, name) in [("ours", "our worker"), ("python", "Python"), ("alone", "the library alone")] {
            let (time, first) = (median(values(side, "median_s")?), median(values(side, "first_s")?));
            println!("{name:<28}{:>12.2}{:>18.0}", time * 1e3, first * 1e3);
        }
        let first = median(values("optimized", "first_s")?);
        println!("{:<28}{:>12}{:>18.0}", "ours, optimized ahead", "", first * 1e3);
        for (side, name) in [("alone", "the library alone"), ("python", "Python")] {
            let ratios: Vec<f64> = serde_json::from_value(found["ratios"][side].clone())
                .context("the peer left something out")?;
            ensure!(ratios.len() >= 4, "{} rounds are too few", ratios.len());
            let estimate = over_pairs(&ratios);
            let Estimate { ratio, low, high } = estimate;
            println!(
                "latency: {ratio:.4} of {name} (1 ± {MOST_DIFFERENCE}); 95 % interval {low:.4} to {high:.4}"
            );
            let what = format!("latency at batch {batch} beside {name}");
            match estimate.verdict() {
                Verdict::Met => {}
                Verdict::Missed => misses.push(what),
                Verdict::Unclear { times } => {
                    let repeat = (options.repeat as f64 * times).ceil();
                    let hint = if repeat <= MOST_REPEAT {
                        format!("--repeat {repeat} may")
                    } else {
                        "too near to the bound for this machine".into()
                    };
                    unclear.push(format!("{what} ({hint})"));
                }
            }
        }
        let firsts = values("ours", "first_s")?.into_iter().zip(values("python", "first_s")?);
        let first = median(firsts.map(|(ours, peer)| ours / peer).collect());
        println!("first result: {first:.2} of Python's (at most {MOST_FIRST})");
        if first > MOST_FIRST {
            misses.push(format!("first result at batch {batch}"));
        }
    }
    let mut problems = Vec::new();
    if !misses.is_empty() {
        problems.push(format!("not met: {}", misses.join(", ")));
    }
    if !unclear.is_empty() {
        problems.push(format!("{rounds} rounds don't tell: {}", unclear.join(", ")));
    }
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

/// How much longer we take, and the 95 % interval of that.
#[derive(Clone, Copy)]
struct Estimate {
    ratio: f64,
    low: f64,
    high: f64,
}

/// What an interval says of the bound.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// All of it is within.
    Met,
    /// All of it is outside.
    Missed,
    /// It reaches over the bound; so many times as many rounds would make it short enough not to.
    Unclear { times: f64 },
}

impl Estimate {
    fn verdict(self) -> Verdict {
        let Self { ratio, low, high } = self;
        let bounds = [1.0 - MOST_DIFFERENCE, 1.0 + MOST_DIFFERENCE];
        if bounds[0] <= low && high <= bounds[1] {
            Verdict::Met
        } else if high < bounds[0] || bounds[1] < low {
            Verdict::Missed
        } else {
            let distance =
                bounds.map(|bound| (ratio - bound).abs()).into_iter().fold(f64::INFINITY, f64::min);
            Verdict::Unclear { times: ((high - low) / 2.0 / distance).powi(2) }
        }
    }
}

/// Joins the ratios of rounds. Whoever starts first gets other memory and is slower, so rounds of the two orders differ, and a
/// median of all may fall anywhere between. A round and the next, in which the other side
/// starts first, are one pair, and the pairs' geometric mean is what is told, two standard errors to both sides.
fn over_pairs(ratios: &[f64]) -> Estimate {
    let pairs: Vec<f64> =
        ratios.chunks_exact(2).map(|pair| pair.iter().map(|ratio| ratio.ln()).sum::<f64>() / 2.0).collect();
    let count = pairs.len() as f64;
    let mean = pairs.iter().sum::<f64>() / count;
    let variance = pairs.iter().map(|pair| (pair - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let reach = 2.0 * (variance / count).sqrt();
    Estimate { ratio: mean.exp(), low: (mean - reach).exp(), high: (mean + reach).exp() }
}

#[cfg(test)]
mod tests {
    use super::{Estimate, Verdict, over_pairs};

    fn verdict(ratio: f64, reach: f64) -> Verdict {
        Estimate { ratio, low: ratio - reach, high: ratio + reach }.verdict()
    }

    #[test]
    fn a_bound_is_met_or_missed_by_the_whole_interval() {
        assert_eq!(verdict(0.995, 0.004), Verdict::Met);
        for ratio in [0.986, 1.014] {
            assert_eq!(verdict(ratio, 0.003), Verdict::Missed);
        }
    }

    #[test]
    fn an_interval_over_a_bound_says_how_many_more_rounds_would_tell() {
        for (ratio, reach, expected) in [(0.992, 0.004, 4.0), (1.012, 0.004, 4.0), (1.0, 0.03, 9.0)] {
            let Verdict::Unclear { times } = verdict(ratio, reach) else { panic!("{ratio} ± {reach}") };
            assert!((times - expected).abs() < 1e-6, "{ratio} ± {reach}: {times}");
        }
    }

    /// By 3 % slower for the side that starts first, whichever it is; ours is by 1 % faster.
    #[test]
    fn who_starts_first_cancels() {
        let ratios = [0.99 * 1.03, 0.99 / 1.03, 0.99 * 1.031, 0.99 / 1.029];
        let found = over_pairs(&ratios);
        assert!((found.ratio - 0.99).abs() < 1e-3 && found.low < found.ratio && found.ratio < found.high);
        assert!(found.high - found.low < 0.01);
    }
}

//! What quantization costs: on generated image towers of CLIP, whose sizes are real though their weights are not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xshell::cmd;

use super::super::{build_folder, median, model};
use super::ours::{Report, library, quantize};
use super::{Bench, Side};
use crate::project::{read_from, run as execute, say};

/// The size that time and memory are bounded for, and how many rows it gets: memory must not depend on that.
const SIZE: &str = "b32";
const ROWS: [&str; 2] = ["8", "32"];
/// Seconds for scales and file, once the statistics are known.
const MAX_WRITE_S: f64 = 1.0;
/// Statistics take at most so many times what the plain runs of the same rows take.
const MAX_STATISTICS: f64 = 1.5;
/// Bytes beyond those of the worker in the plain runs.
const MAX_MORE_MIB: f64 = 64.0;

/// NV-CLIP's own size, whose weights are beyond what one file can hold; and the most memory that `nimctl` itself may take.
pub(super) const LARGE_SIZE: &str = "h14";
const MAX_LARGE_BYTES: f64 = 300e6;

/// One method, and a gate that noise passes: a search is no part of the cost.
const ARGUMENTS: [&str; 6] = ["--precision", "int8", "--method", "max", "--min-row-cosine", "0.5"];

const ROWS_SCRIPT: &str = "\
import sys, numpy
rows = numpy.random.default_rng(0).standard_normal((int(sys.argv[2]), 3, 224, 224), numpy.float32)
numpy.save(sys.argv[1], rows)
";

/// Quantizes the tower that bounds are for, and returns those that are not met.
pub(super) fn run(bench: &Bench<'_>, repeat: usize) -> Result<Vec<String>> {
    let source = model(bench.project, &bench.nimctl, SIZE)?.join("vision.onnx");
    let mut misses = Vec::new();
    for count in ROWS {
        let rows = rows(bench, count)?;
        let (mut side, mut reports, mut plain) = (Side::default(), Vec::new(), Vec::new());
        for round in 1..=repeat {
            say(&format!("{SIZE} image tower, {count} rows, run {round} of {repeat}"));
            plain.push(plain_runs(bench, &source, &rows)?);
            let (run, report) =
                quantize(bench, &source, std::slice::from_ref(&rows), &ARGUMENTS, &bench.folder("out")?)?;
            side.0.push(run);
            reports.push(report);
        }
        let middle = |path: &str| -> Result<f64> {
            let values: Result<Vec<f64>> = reports.iter().map(|report| report.number(path)).collect();
            Ok(median(values?))
        };
        let (statistics_s, write_s) = (middle("/statistics_ms")? / 1e3, middle("/write_ms")? / 1e3);
        let plain_s = median(plain.iter().map(|plain| plain.0).collect());
        let plain_mib = plain.iter().map(|plain| plain.1).fold(0.0, f64::max);
        let more_mib = side.peak_kib() as f64 / 1024.0 - plain_mib;
        let ratio = statistics_s / plain_s;
        println!(
            "\n{SIZE} image tower, int8, method max, {count} rows; median time and largest memory of {repeat} runs"
        );
        println!(
            "plain runs: {plain_s:.2} s, worker's peak {plain_mib:.0} MiB; all of quantize: {:.2} s",
            side.wall()
        );
        println!(
            "statistics: {statistics_s:.2} s, {ratio:.2} times the plain runs (at most {MAX_STATISTICS})"
        );
        println!("written in {write_s:.2} s (at most {MAX_WRITE_S})");
        println!("memory: {more_mib:.0} MiB more than in the plain runs (at most {MAX_MORE_MIB})");
        for (what, value, most) in [
            ("statistics", ratio, MAX_STATISTICS),
            ("writing", write_s, MAX_WRITE_S),
            ("memory", more_mib, MAX_MORE_MIB),
        ] {
            if value > most {
                misses.push(format!("{SIZE}, {count} rows: {what} {value:.2}, more than {most}"));
            }
        }
    }
    Ok(misses)
}

/// Quantizes a tower with external data; returns the bounds that are not met.
pub(super) fn large(bench: &Bench<'_>) -> Result<Vec<String>> {
    let source = model(bench.project, &bench.nimctl, LARGE_SIZE)?.join("vision.onnx");
    let rows = rows(bench, "2")?;
    say(&format!("{LARGE_SIZE} image tower"));
    let (run, report): (_, Report) = quantize(bench, &source, &[rows], &ARGUMENTS, &bench.folder("out")?)?;
    let bytes = report.number("/peak_memory_bytes")?;
    println!("\n{LARGE_SIZE} image tower, int8, method max, 2 rows: {:.1} s", run.wall.as_secs_f64());
    println!("memory: nimctl's peak is {:.0} MB (at most {:.0})", bytes / 1e6, MAX_LARGE_BYTES / 1e6);
    let missed = bytes > MAX_LARGE_BYTES;
    Ok(missed.then(|| format!("{LARGE_SIZE}: memory {:.0} MB", bytes / 1e6)).into_iter().collect())
}

/// Runs the rows in our worker; returns seconds, and the worker's peak in MiB.
fn plain_runs(bench: &Bench<'_>, source: &Path, rows: &Path) -> Result<(f64, f64)> {
    let script = bench.script("plain.py", include_str!("plain.py"))?;
    let worker = build_folder(bench.project)?.join("release/nimctl-backend-onnxruntime");
    let folder = bench.folder("plain")?;
    let command = cmd!(bench.shell(), "python3 {script} {worker} {source} {folder} {rows}")
        .env("PYTHONPATH", &bench.packages)
        .env("NIMCTL_ONNXRUNTIME_LIB", library(bench)?);
    let found: Value = serde_json::from_str(&read_from("xtask/src/bench/quantize/plain.py", command)?)
        .context("plain.py printed no JSON")?;
    let number = |name: &str| found[name].as_f64().with_context(|| format!("plain.py printed no `{name}`"));
    Ok((number("seconds")?, number("peak_kib")? / 1024.0))
}

/// Returns a file of rows for a tower.
fn rows(bench: &Bench<'_>, count: &str) -> Result<PathBuf> {
    // The worker's input is named after the file.
    let file = bench.folder(&format!("rows-{count}"))?.join("IMAGE.npy");
    let packages = &bench.packages;
    execute(cmd!(bench.shell(), "python3 -c {ROWS_SCRIPT} {file} {count}").env("PYTHONPATH", packages))?;
    Ok(file)
}

//! `nimctl quantize` in the settings that are judged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xshell::{Cmd, cmd};

use super::super::timed::{Run, timed};
use super::{Bench, Entry, WRITTEN};
use crate::project::{read, run as execute};

/// A setting. All leave what isn't quantized in FP32, as the peers do, so that quantization alone is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Int8,
    /// With a gate that makes nimctl keep some matmuls as they are.
    Int8Strict,
    Int8Weights,
    Fp8,
    Int4,
}

impl Setting {
    const ALL: [Self; 5] = [Self::Int8, Self::Int8Strict, Self::Int8Weights, Self::Fp8, Self::Int4];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int8Strict => "int8, gate 0.9995",
            Self::Int8Weights => "int8-weights",
            Self::Fp8 => "fp8",
            Self::Int4 => "int4 b32",
        }
    }

    /// The arguments beyond the model and its samples; everything else is as it is by default.
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Int8 => &["--precision", "int8"],
            Self::Int8Strict => &["--precision", "int8", "--min-row-cosine", "0.9995"],
            Self::Int8Weights => &["--precision", "int8-weights"],
            Self::Fp8 => &["--precision", "fp8"],
            Self::Int4 => &["--precision", "int4", "--block", "32"],
        }
    }

    /// Whether a setting says anything about a model: what DINOv2-S reaches at most is below the strict gate.
    fn is_for(self, model: &str) -> bool {
        self != Self::Int8Strict || model == "minilm"
    }
}

/// Where nimctl's report goes.
const REPORT: &str = "report.json";

/// What nimctl says of its own run.
#[derive(Clone, Debug, Default)]
pub(super) struct Report(Value);

impl Report {
    /// Returns a number of the report.
    pub(super) fn number(&self, path: &str) -> Result<f64> {
        self.0.pointer(path).and_then(Value::as_f64).with_context(|| format!("nimctl reports no `{path}`"))
    }
}

/// What nimctl reached on one model.
pub(super) struct Ours {
    pub(super) entries: Vec<Entry>,
}

/// Installs what runs the samples.
pub(super) fn set_up(bench: &Bench<'_>) -> Result<()> {
    let Bench { nimctl, .. } = bench;
    execute(cmd!(bench.shell(), "{nimctl} toolchain install onnxruntime"))
}

/// Returns the folder of the library that our worker loads.
pub(super) fn library(bench: &Bench<'_>) -> Result<String> {
    let Bench { nimctl, .. } = bench;
    Ok(read(cmd!(bench.shell(), "{nimctl} toolchain path onnxruntime"))?.trim().to_owned())
}

/// Runs every setting on a prepared model.
pub(super) fn run(bench: &Bench<'_>, model: &str, folder: &Path, repeat: usize) -> Result<Ours> {
    let rows = bench.shell().read_dir(folder.join("calibration"))?;
    let mut entries = Vec::new();
    for setting in Setting::ALL.into_iter().filter(|setting| setting.is_for(model)) {
        let source = folder.join("model.onnx");
        let arguments = [&["--base", "fp32"], setting.arguments()].concat();
        let result = bench.measure(folder, setting.name(), repeat, |out| {
            let run = quantize(bench, &source, &rows, &arguments, out);
            Ok(run.map(|(run, _)| run).map_err(|error| failure(bench, &error)))
        })?;
        entries.push(Entry { tool: "nimctl", setting: setting.name(), result }.said());
    }
    Ok(Ours { entries })
}

/// Runs `nimctl quantize` with the rows of `samples`, a file for each input, and returns what it took and what it reports.
pub(super) fn quantize(
    bench: &Bench<'_>,
    source: &Path,
    samples: &[PathBuf],
    arguments: &[&str],
    out: &Path,
) -> Result<(Run, Report)> {
    let shell = bench.shell();
    let (written, report) = (out.join(WRITTEN), bench.work.path().join(REPORT));
    let command = command(bench, source, samples, &written, &report)?.args(arguments);
    let run = timed(shell, command)?;
    let report = serde_json::from_str(&shell.read_file(report)?).context("nimctl's report is no JSON")?;
    Ok((run, Report(report)))
}

fn command<'a>(
    bench: &Bench<'a>,
    source: &Path,
    samples: &[PathBuf],
    written: &Path,
    report: &Path,
) -> Result<Cmd<'a>> {
    let nimctl = &bench.nimctl;
    let library = library(bench)?;
    let to_report = "exec \"$@\" >\"$0\"";
    let mut command = cmd!(bench.shell(), "sh -c {to_report} {report} {nimctl} --quiet quantize {source}")
        .args(["--output", "json", "-o"])
        .arg(written)
        .env("NIMCTL_ONNXRUNTIME_LIB", library);
    for file in samples {
        let input = file.file_stem().context("a file of rows has no name")?;
        let mut sample = input.to_owned();
        sample.push("=");
        sample.push(file);
        command = command.arg("--samples").arg(sample);
    }
    Ok(command)
}

/// Returns what a failed run reported, in one line.
fn failure(bench: &Bench<'_>, error: &anyhow::Error) -> String {
    let report = bench.shell().read_file(bench.work.path().join(REPORT)).unwrap_or_default();
    let report: Value = serde_json::from_str(&report).unwrap_or_default();
    report["message"].as_str().map_or_else(|| format!("{error:#}"), str::to_owned)
}

//! `bench quantize`: how close to FP32 real models stay that `nimctl quantize` wrote, what that takes, and the same of the
//! quantizers that people would otherwise use.
//!
//! Every tool calibrates on the same 32 rows. 32 others are judged, by one script for all sides; no tool ever sees those.
//! The settings of all sides are in this folder, and were fixed before anything was judged. What nimctl says of its own
//! quality is not used.

mod bounds;
mod ours;
mod peers;
mod synthetic;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xshell::{Shell, TempDir, cmd};

use super::{Options, Side, kept, python_packages, release_nimctl};
use crate::project::{Project, read_from, run as execute, say};

/// The models, all with real weights: generated ones have no outliers, and can't tell good from bad here.
const MODELS: [&str; 3] = ["minilm", "minilm-l6", "dinov2-s"];
/// What shows time and memory, not quality.
const SYNTHETIC: &str = "synthetic";

/// What the judge, ONNX Runtime's quantizers and the preparation of the models need.
const PACKAGES: [&str; 12] = [
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "numpy==2.4.6",
    "pillow==13.0.0",
    "flatbuffers==25.12.19",
    "ml_dtypes==0.6.0",
    "mpmath==1.3.0",
    "packaging==26.4",
    "protobuf==7.36.2",
    "sympy==1.14.0",
    "typing_extensions==4.16.0",
];

/// Where everything is that the runs need.
struct Bench<'a> {
    project: &'a Project,
    nimctl: PathBuf,
    packages: PathBuf,
    /// Removed at the end.
    work: TempDir,
}

/// How close a written model is, and what it has in it.
#[derive(Clone, Debug, PartialEq)]
struct Judged {
    /// The smallest cosine of a row with what the FP32 model gives.
    min: f64,
    mean: f64,
    /// Matmuls with constant weights, and how many of them are quantized.
    matmuls: u64,
    quantized: u64,
    /// The part of those matmuls' weights that is quantized, by bytes.
    share: f64,
    bytes: u64,
}

/// One tool in one setting, on one model.
struct Entry {
    tool: &'static str,
    setting: &'static str,
    result: Outcome,
}

enum Outcome {
    /// All runs, and what they wrote; all runs of one setting write the same.
    Measured(Side, Judged),
    /// Why there is nothing.
    Skipped(String),
}

/// Quantizes the models with all tools, prints a table for each, and fails if a bound isn't met.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    ensure!(options.size.is_none(), "bench quantize takes --model, not --size");
    let all = [&MODELS[..], &[SYNTHETIC, synthetic::LARGE_SIZE]].concat();
    let models = match options.model.as_deref() {
        None => all,
        Some(name) => match all.iter().find(|model| **model == name) {
            Some(model) => vec![*model],
            None => bail!("--model is one of {}, not {name}", all.join(", ")),
        },
    };
    let bench = Bench {
        project,
        nimctl: release_nimctl(project)?,
        packages: python_packages(project, "quantize-onnxruntime-1.32.0", &PACKAGES.map(str::to_owned))?,
        work: project.shell.create_temp_dir().context("no temporary folder can be made")?,
    };
    ours::set_up(&bench)?;
    let mut misses = Vec::new();
    for model in models {
        misses.extend(match model {
            SYNTHETIC => synthetic::run(&bench, options.repeat)?,
            synthetic::LARGE_SIZE => synthetic::large(&bench)?,
            _ => beside_peers(&bench, model, options.repeat)?,
        });
    }
    ensure!(misses.is_empty(), "not met: {}", misses.join("; "));
    Ok(())
}

/// Runs all sides on one model; returns the bounds that are not met.
fn beside_peers(bench: &Bench<'_>, model: &'static str, repeat: usize) -> Result<Vec<String>> {
    let folder = bench.prepared(model)?;
    let ours = ours::run(bench, model, &folder, repeat)?;
    let peers = peers::run(bench, &folder, repeat)?;
    println!(
        "\n{model}: min and mean cosine of 32 judged rows; median time and largest memory of {repeat} runs"
    );
    println!(
        "{:<16}{:<22}{:>9}{:>9}{:>13}{:>8}{:>10}{:>11}{:>10}",
        "tool", "setting", "min", "mean", "quantized", "bytes", "seconds", "peak MiB", "MB"
    );
    for entry in ours.entries.iter().chain(&peers) {
        println!("{}", entry.line());
    }
    Ok(bounds::misses(model, &ours))
}

impl Entry {
    /// Says what was measured as soon as it is: all of them take long.
    fn said(self) -> Self {
        say(&self.line());
        self
    }

    /// Returns the line of the table.
    fn line(&self) -> String {
        let Self { tool, setting, result } = self;
        match result {
            Outcome::Measured(side, judged) => format!(
                "{tool:<16}{setting:<22}{:>9.4}{:>9.4}{:>13}{:>7.0}%{:>10.1}{:>11}{:>10.1}",
                judged.min,
                judged.mean,
                format!("{} of {}", judged.quantized, judged.matmuls),
                100.0 * judged.share,
                side.wall(),
                side.peak_kib() / 1024,
                judged.bytes as f64 / 1e6
            ),
            Outcome::Skipped(reason) => format!("{tool:<16}{setting:<22}  skipped: {reason}"),
        }
    }
}

impl<'a> Bench<'a> {
    fn shell(&self) -> &'a Shell {
        &self.project.shell
    }

    /// Returns a new, empty folder.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.path().join(name);
        self.shell().remove_path(&folder)?;
        self.shell().create_dir(&folder)?;
        Ok(folder)
    }

    /// Returns the folder with a model and its rows, prepared the first time.
    fn prepared(&self, model: &str) -> Result<PathBuf> {
        let shell = self.shell();
        let folder = kept(self.project)?.join("quantize").join(model);
        if !folder.is_dir() {
            let new = folder.with_file_name(format!("{model}.new"));
            shell.remove_path(&new)?;
            shell.create_dir(&new)?;
            self.script("bert.py", include_str!("bert.py"))?;
            let script = self.script("models.py", include_str!("models.py"))?;
            let sentences = self.project.root().join("tests/minilm/sentences.jsonl");
            let packages = &self.packages;
            execute(cmd!(shell, "python3 {script} {model} {new} {sentences}").env("PYTHONPATH", packages))?;
            execute(cmd!(shell, "mv {new} {folder}"))?;
        }
        Ok(folder)
    }

    /// Judges a written model on the judged rows of a folder.
    fn judge(&self, folder: &Path, written: &Path) -> Result<Judged> {
        let script = self.script("judge.py", include_str!("judge.py"))?;
        let command = cmd!(self.shell(), "python3 {script} {folder} {written}")
            .env("PYTHONPATH", &self.packages)
            .env("ORT_DISABLE_TELEMETRY", "1");
        judged(&read_from("xtask/src/bench/quantize/judge.py", command)?)
    }

    fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let script = self.work.path().join(name);
        self.shell().write_file(&script, text)?;
        Ok(script)
    }

    /// Runs a setting as often as asked for, and judges what it wrote. `one` runs it once, into the folder that it is given.
    fn measure(
        &self,
        folder: &Path,
        name: &str,
        repeat: usize,
        mut one: impl FnMut(&Path) -> Result<Result<super::timed::Run, String>>,
    ) -> Result<Outcome> {
        let mut side = Side::default();
        for round in 1..=repeat {
            say(&format!("{name}, run {round} of {repeat}"));
            let out = self.folder("out")?;
            execute(cmd!(self.shell(), "sync"))?;
            match one(&out)? {
                Ok(run) => side.0.push(run),
                Err(reason) => return Ok(Outcome::Skipped(reason)),
            }
        }
        let written = self.work.path().join("out").join(WRITTEN);
        match self.judge(folder, &written) {
            Ok(judged) => Ok(Outcome::Measured(side, judged)),
            Err(error) => Ok(Outcome::Skipped(format!("what it wrote can't be run: {error:#}"))),
        }
    }
}

/// The file that every tool writes, in a folder of its own.
const WRITTEN: &str = "quantized.onnx";

/// Reads what judge.py printed.
fn judged(text: &str) -> Result<Judged> {
    let value: Value = serde_json::from_str(text).context("judge.py printed no JSON")?;
    let number = |name: &str| value[name].as_f64().with_context(|| format!("judge.py printed no `{name}`"));
    let count = |name: &str| value[name].as_u64().with_context(|| format!("judge.py printed no `{name}`"));
    Ok(Judged {
        min: number("min")?,
        mean: number("mean")?,
        matmuls: count("matmuls")?,
        quantized: count("quantized")?,
        share: number("share")?,
        bytes: count("bytes")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Judged, judged};

    #[test]
    fn what_the_judge_prints_is_read() {
        let text = r#"{"min": 0.5, "mean": 0.75, "worst_row": 3, "matmuls": 4, "quantized": 3, "share": 0.8, "bytes": 9}"#;
        let expected = Judged { min: 0.5, mean: 0.75, matmuls: 4, quantized: 3, share: 0.8, bytes: 9 };
        assert_eq!(judged(text).unwrap(), expected);
        assert!(judged(r#"{"min": 0.5}"#).is_err());
    }
}

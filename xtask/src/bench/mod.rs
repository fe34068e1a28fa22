//! `bench`: what `nimctl` costs beside the programs that people would otherwise use, on the same machine in the same
//! run.

mod build;
mod estimate;
mod lower;
mod publish;
mod quantize;
mod runtime;
mod select;
mod timed;
mod verified_read;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::project::{Project, read, run as execute};
use crate::set_up::build;
use timed::Run;

/// The size that bounds are for.
const BOUND_SIZE: &str = "l14";

struct Options {
    /// None if not given.
    size: Option<String>,
    /// None if not given; only `quantize` takes it.
    model: Option<String>,
    repeat: usize,
}

/// Runs one comparison; fails if a bound isn't met.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    let (what, arguments) = arguments.split_first().map_or(("", arguments), |(what, rest)| (what, rest));
    // Its peers take minutes, and quality is the same in every run.
    let repeat = if what == "quantize" { 1 } else { 3 };
    let options = parse(arguments, repeat)?;
    ensure!(options.model.is_none() || what == "quantize", "bench {what} takes no --model");
    match what {
        "build" => build::run(project, &options),
        "fleet" => fleet(project),
        "lower" => lower::run(project, &options),
        "publish" => publish::run(project, &options),
        "quantize" => quantize::run(project, &options),
        "runtime" => runtime::run(project, &options),
        "select" => select::run(project, &options),
        "verified-read" => verified_read::run(project, &options),
        _ => bail!(
            "bench takes `build`, `fleet`, `lower`, `publish`, `quantize`, `runtime`, `select` or `verified-read`, then \
             [--size SIZE] [--model MODEL] [--repeat N]"
        ),
    }
}

/// Runs the benchmarks among the tests of fleets, which start clusters.
fn fleet(project: &Project) -> Result<()> {
    let shell = &project.shell;
    execute(cmd!(
        shell,
        "cargo test --workspace --test fleet -- --ignored --nocapture --test-threads=1 scale"
    ))
}

fn parse(arguments: &[String], repeat: usize) -> Result<Options> {
    let mut options = Options { size: None, model: None, repeat };
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(option) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{option} has no value"))?;
        match option {
            "--size" => options.size = Some(value.into()),
            "--model" => options.model = Some(value.into()),
            "--repeat" => options.repeat = value.parse().context("--repeat takes a number")?,
            _ => bail!("bench takes --size, --model and --repeat, not {option}"),
        }
    }
    ensure!(options.repeat > 0, "--repeat 0 measures nothing");
    Ok(options)
}

/// Builds `nimctl` as users have it, and returns where it is.
fn release_nimctl(project: &Project) -> Result<PathBuf> {
    let release = project.in_release();
    execute(build(&release))?;
    Ok(release.executables.join("nimctl"))
}

/// Returns where models and packages are kept from run to run.
fn kept(project: &Project) -> Result<PathBuf> {
    Ok(build_folder(project)?.join("bench"))
}

fn build_folder(project: &Project) -> Result<&Path> {
    project.executables.parent().context("the executables are in no build folder")
}

/// Returns a folder with the image tower `vision.onnx` of a size, generated the first time.
fn model(project: &Project, nimctl: &Path, size: &str) -> Result<PathBuf> {
    let shell = &project.shell;
    let model = kept(project)?.join(size);
    if !model.is_dir() {
        let new = kept(project)?.join("model.new");
        shell.remove_path(&new)?;
        execute(cmd!(shell, "{nimctl} model synth nvclip --size {size} -o {new}"))?;
        execute(cmd!(shell, "mv {new} {model}"))?;
    }
    Ok(model)
}

/// Returns a folder of Python packages, fetched with pip the first time.
fn python_packages(project: &Project, name: &str, requirements: &[String]) -> Result<PathBuf> {
    let shell = &project.shell;
    let packages = kept(project)?.join(name);
    if !packages.is_dir() {
        let new = kept(project)?.join("python.new");
        shell.remove_path(&new)?;
        execute(cmd!(shell, "python3 -m pip install --quiet --no-deps --target {new} {requirements...}"))?;
        execute(cmd!(shell, "mv {new} {packages}"))?;
    }
    Ok(packages)
}

/// Returns how long a plain copy of a file takes, when it is all in memory.
fn copy_time(shell: &Shell, file: &Path, copy: &Path) -> Result<Duration> {
    read(cmd!(shell, "sha256sum {file}"))?;
    execute(cmd!(shell, "sync"))?;
    #[expect(clippy::disallowed_methods, reason = "the run is timed")]
    let start = Instant::now();
    read(cmd!(shell, "dd if={file} of={copy} bs=4M conv=fsync"))?;
    let time = start.elapsed();
    shell.remove_path(copy)?;
    Ok(time)
}

fn size_bytes(shell: &Shell, file: &Path) -> Result<u64> {
    let size = read(cmd!(shell, "stat --format %s {file}"))?;
    size.trim().parse().context("stat printed no size")
}

/// All runs of one side.
#[derive(Default)]
struct Side(Vec<Run>);

impl Side {
    /// The median wall time in seconds.
    fn wall(&self) -> f64 {
        median(self.walls())
    }

    fn walls(&self) -> Vec<f64> {
        self.0.iter().map(|run| run.wall.as_secs_f64()).collect()
    }

    /// The largest peak of all runs.
    fn peak_kib(&self) -> u64 {
        self.0.iter().map(|run| run.peak_kib).max().unwrap_or_default()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

fn print_side(what: &str, name: &str, side: &Side) {
    let least = side.walls().into_iter().fold(f64::INFINITY, f64::min);
    println!(
        "{what:<14}{name:<22}{:>8.2} s ({least:.2} s)   peak {:>5} MiB",
        side.wall(),
        side.peak_kib() / 1024
    );
}

#[cfg(test)]
mod tests {
    use super::{median, parse};

    #[test]
    fn options_are_refused_where_unknown() {
        let parse = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), 3);
        assert_eq!(parse("--size tiny --repeat 2").unwrap().repeat, 2);
        assert_eq!(parse("--model minilm").unwrap().repeat, 3);
        for line in ["x", "--size", "--repeat 0", "--x 1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_string(), "2");
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_string(), "2.5");
    }
}

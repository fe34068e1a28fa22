//! `bench lower`: what `nimctl lower` costs beside `onnxconverter-common`, which most people lower with, and beside a
//! plain copy, below which nothing that reads and writes can get.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Cmd, Shell, cmd};

use super::timed::timed;
use super::{
    BOUND_SIZE, Options, Side, copy_time, median, model, print_side, python_packages, release_nimctl,
    size_bytes,
};
use crate::project::{Project, run as execute, say};

/// The minimum speed-up over the peer.
const MIN_SPEED_UP: f64 = 20.0;
/// At most this part of the peer's memory.
const MAX_MEMORY_RATIO: f64 = 0.1;

/// NV-CLIP's own size, whose weights are beyond what one file can hold.
const EXTERNAL_SIZE: &str = "h14";
/// The most memory that it may take.
const MAX_EXTERNAL_BYTES: u64 = 500_000_000;

/// The peer, and what it needs.
pub(super) const PEER: [&str; 7] = [
    "onnxconverter-common==1.16.0",
    "onnx==1.23.2",
    "numpy==2.4.6",
    "ml_dtypes==0.6.0",
    "packaging==26.3",
    "protobuf==7.36.2",
    "typing_extensions==4.16.0",
];

/// Where everything is that the runs need.
struct Bench<'a> {
    shell: &'a Shell,
    nimctl: PathBuf,
    source: PathBuf,
    /// Removed at the end.
    work: PathBuf,
}

/// Lowers image towers and prints what it took: one of the size asked for beside the peer, and the largest alone.
/// Without a size, both.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    let size = options.size.as_deref();
    let temporary = project.shell.create_temp_dir().context("no temporary folder can be made")?;
    let nimctl = release_nimctl(project)?;
    let bench = |size| -> Result<Bench<'_>> {
        let source = model(project, &nimctl, size)?.join("vision.onnx");
        Ok(Bench { shell: &project.shell, nimctl: nimctl.clone(), source, work: temporary.path().into() })
    };
    let mut misses = Vec::new();
    if size != Some(EXTERNAL_SIZE) {
        let size = size.unwrap_or(BOUND_SIZE);
        misses.extend(beside_peer(project, &bench(size)?, size, options.repeat)?);
    }
    if size.is_none_or(|size| size == EXTERNAL_SIZE) {
        misses.extend(external(&bench(EXTERNAL_SIZE)?, options.repeat)?);
    }
    ensure!(misses.is_empty(), "not met: {}", misses.join(", "));
    Ok(())
}

/// Runs both sides and a copy in turn; returns the bounds that are not met.
fn beside_peer(project: &Project, bench: &Bench<'_>, size: &str, repeat: usize) -> Result<Vec<String>> {
    let Bench { shell, source, work, .. } = bench;
    let packages = python_packages(project, &PEER[0].replace("==", "-"), &PEER.map(str::to_owned))?;
    let script = work.join("peer.py");
    shell.write_file(&script, include_str!("lower_peer.py"))?;
    let (our_output, peers_output) = (work.join("ours.onnx"), work.join("peers.onnx"));
    let (mut ours, mut peers, mut copies) = (Side::default(), Side::default(), Vec::new());
    for round in 1..=repeat {
        say(&format!("size {size}, round {round} of {repeat}"));
        copies.push(copy_time(shell, source, &work.join("copy"))?.as_secs_f64());
        // Each side is first in every second round, for a machine that grows warm or busy.
        for ours_runs in [round % 2 == 1, round % 2 == 0] {
            let (side, command, output) = if ours_runs {
                (&mut ours, lower(bench, &our_output), &our_output)
            } else {
                let peer =
                    cmd!(shell, "python3 {script} {source} {peers_output}").env("PYTHONPATH", &packages);
                (&mut peers, peer, &peers_output)
            };
            // Nobody pays for replacing a file, nor for writing back what others left in memory.
            shell.remove_path(output)?;
            execute(cmd!(shell, "sync"))?;
            side.0.push(timed(shell, command)?);
        }
    }
    let (read_bytes, written_bytes) = (size_bytes(shell, source)?, size_bytes(shell, &our_output)?);
    let peers_bytes = size_bytes(shell, &peers_output)?;
    // What is copied is read and written.
    let copy_speed = 2.0 * read_bytes as f64 / median(copies);
    let floor = (read_bytes + written_bytes) as f64 / copy_speed;

    println!("\nsize {size}, image tower, median (min) of {repeat} runs, interleaved");
    print_side("fp16", "nimctl lower", &ours);
    print_side("fp16", "onnxconverter-common", &peers);
    println!(
        "bytes: {:.0} MB read, {:.0} MB written (the peer: {:.0} MB)",
        megabytes(read_bytes),
        megabytes(written_bytes),
        megabytes(peers_bytes)
    );
    println!(
        "floor: {floor:.2} s at the {:.0} MB/s that a copy reads and writes here; nimctl takes {:.2} times that",
        copy_speed / 1e6,
        ours.wall() / floor
    );
    let speed_up = peers.wall() / ours.wall();
    let memory_ratio = ours.peak_kib() as f64 / peers.peak_kib() as f64;
    println!("time: {speed_up:.1} times faster (at least {MIN_SPEED_UP:.0})");
    println!("memory: {memory_ratio:.3} of the peer's (at most {MAX_MEMORY_RATIO})");
    let mut misses = Vec::new();
    if speed_up < MIN_SPEED_UP {
        misses.push(format!("time, {size}"));
    }
    if memory_ratio > MAX_MEMORY_RATIO {
        misses.push(format!("memory, {size}"));
    }
    if size != BOUND_SIZE {
        say(&format!("the bounds are for size {BOUND_SIZE}, and not applied to {size}"));
        misses.clear();
    }
    Ok(misses)
}

/// Lowers a model whose weights are in a file of their own; returns the bounds that are not met.
fn external(bench: &Bench<'_>, repeat: usize) -> Result<Vec<String>> {
    let Bench { shell, work, .. } = bench;
    let folder = work.join("external");
    let mut ours = Side::default();
    for round in 1..=repeat {
        say(&format!("size {EXTERNAL_SIZE}, round {round} of {repeat}"));
        shell.remove_path(&folder)?;
        shell.create_dir(&folder)?;
        execute(cmd!(shell, "sync"))?;
        ours.0.push(timed(shell, lower(bench, &folder.join("ours.onnx")))?);
    }
    println!("\nsize {EXTERNAL_SIZE}, image tower, median (min) of {repeat} runs");
    print_side("fp16", "nimctl lower", &ours);
    let peak_bytes = ours.peak_kib() * 1024;
    println!("memory: {:.0} MB (at most {:.0} MB)", megabytes(peak_bytes), megabytes(MAX_EXTERNAL_BYTES));
    let missed = peak_bytes > MAX_EXTERNAL_BYTES;
    Ok(missed.then(|| format!("memory, {EXTERNAL_SIZE}")).into_iter().collect())
}

fn lower<'a>(bench: &Bench<'a>, destination: &Path) -> Cmd<'a> {
    let Bench { shell, nimctl, source, .. } = bench;
    cmd!(shell, "{nimctl} lower {source} -o {destination} --precision fp16")
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

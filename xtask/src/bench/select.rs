//! `bench select`: what `nimctl list-model-profiles` costs beside Python merely loading the same manifest, and whether it
//! grows with the manifest as it should.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Cmd, Shell, cmd};

use super::timed::timed;
use super::{Options, Side, median, print_side, python_packages, release_nimctl, size_bytes};
use crate::project::{Project, say};

/// Profiles in every manifest.
const PROFILES: usize = 122;
/// Files in the manifest that the bounds are for.
const BOUND_FILES: usize = 20_000;
/// Files in the other manifests.
const OTHER_FILES: [usize; 3] = [2_000, 100_000, 200_000];
/// The minimum speed-up over the peer.
const MIN_SPEED_UP: f64 = 10.0;
/// The most memory that it may take.
const MAX_BYTES: u64 = 60_000_000;
/// Linear: a file of the largest manifest costs at most so many times what one costs where the bounds are.
const MAX_GROWTH: f64 = 1.5;

/// The peer.
const PEER: &str = "pyyaml==6.0.3";
const LOAD: &str = "import sys, yaml; yaml.load(open(sys.argv[1]), Loader=yaml.CSafeLoader)";

/// Times both sides on the manifest that the bounds are for, and ours on the others.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    ensure!(options.size.is_none(), "bench select takes no --size");
    let shell = &project.shell;
    let nimctl = release_nimctl(project)?;
    let packages = python_packages(project, &PEER.replace("==", "-"), &[PEER.to_owned()])?;
    let temporary = shell.create_temp_dir().context("no temporary folder can be made")?;
    let (mut ours, mut peers) = (Side::default(), Side::default());
    let manifest = write(shell, temporary.path(), BOUND_FILES)?;
    // More rounds than elsewhere: a run takes a tenth of a second.
    let rounds = options.repeat * 5;
    // Files and libraries come from memory from now on.
    timed(shell, list(shell, &nimctl, &manifest))?;
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        ours.0.push(timed(shell, list(shell, &nimctl, &manifest))?);
        peers.0.push(timed(shell, cmd!(shell, "python3 -c {LOAD} {manifest}").env("PYTHONPATH", &packages))?);
    }
    println!(
        "\n{PROFILES} profiles, {BOUND_FILES} files, {:.1} MB; median (min) of {rounds} runs of the whole process",
        size_bytes(shell, &manifest)? as f64 / 1e6
    );
    print_side("list", "nimctl", &ours);
    print_side("load", "PyYAML CSafeLoader", &peers);
    let speed_up = peers.wall() / ours.wall();
    let peak_bytes = ours.peak_kib() * 1024;
    println!("time: {speed_up:.1} times faster (at least {MIN_SPEED_UP})");
    println!("memory: {:.1} MB (at most {:.0} MB)", peak_bytes as f64 / 1e6, MAX_BYTES as f64 / 1e6);

    println!("\n{:>10}{:>10}{:>12}{:>12}{:>10}", "files", "MB", "seconds", "us a file", "peak MB");
    let at_bound = ours.wall() / BOUND_FILES as f64;
    let mut largest = at_bound;
    for files in OTHER_FILES {
        let manifest = write(shell, temporary.path(), files)?;
        let mut side = Side::default();
        for _ in 0..options.repeat {
            side.0.push(timed(shell, list(shell, &nimctl, &manifest))?);
        }
        let wall = median(side.walls());
        largest = wall / files as f64;
        println!(
            "{files:>10}{:>10.1}{wall:>12.3}{:>12.2}{:>10.1}",
            size_bytes(shell, &manifest)? as f64 / 1e6,
            largest * 1e6,
            (side.peak_kib() * 1024) as f64 / 1e6,
        );
    }
    let growth = largest / at_bound;
    println!(
        "a file of the largest costs {growth:.2} times what one of {BOUND_FILES} costs (at most {MAX_GROWTH})"
    );

    let misses: Vec<&str> = [
        (speed_up < MIN_SPEED_UP, "time"),
        (peak_bytes > MAX_BYTES, "memory"),
        (growth > MAX_GROWTH, "linear cost"),
    ]
    .into_iter()
    .filter_map(|(missed, what)| missed.then_some(what))
    .collect();
    ensure!(misses.is_empty(), "not met: {}", misses.join(", "));
    Ok(())
}

fn list<'a>(shell: &'a Shell, nimctl: &Path, manifest: &Path) -> Cmd<'a> {
    cmd!(shell, "{nimctl} list-model-profiles --quiet --manifest {manifest} --device h100-sxm")
}

/// Writes a manifest in the form that `nimctl build` writes. Ids and digests are numbers: nobody checks them here.
fn write(shell: &Shell, folder: &Path, files: usize) -> Result<PathBuf> {
    let mut text = String::from(
        "schema_version: \"2.0\"\nprofile_selection_criteria: auto\nmodel: large\nrelease: \"1.0\"\nprofiles:\n",
    );
    let gpus = ["h100-sxm", "l4", "a100-sxm", "rtx-4090"];
    for profile in 0..PROFILES {
        let gpu = gpus[profile % gpus.len()];
        write!(
            text,
            "- id: a{profile:063x}\n  tags:\n    backend: tensorrt\n    batch_size: \"{profile}\"\n    gpu: {gpu}\n    \
             model_type: tensorrt\n    precision: fp16\n  workspace:\n    files:\n"
        )?;
        let (from, to) = (files * profile / PROFILES, files * (profile + 1) / PROFILES);
        for file in from..to {
            writeln!(
                text,
                "      engine/rank{file}.plan:\n        uri: store:sha256:a{file:063x}\n        checksum: blake3:a{file:063x}"
            )?;
        }
    }
    let path = folder.join(format!("{files}.yaml"));
    shell.write_file(&path, text)?;
    Ok(path)
}

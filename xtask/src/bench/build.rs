//! `bench build`: what `nimctl build` costs over the plain Python API of TensorRT-RTX, which is the least that anybody
//! pays for the same plan.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use xshell::{Cmd, Shell, cmd};

use super::timed::{Run, timed};
use super::{
    BOUND_SIZE, Options, Side, copy_time, model, print_side, python_packages, release_nimctl, size_bytes,
};
use crate::libclang;
use crate::project::{Project, read, run as execute, say};
use crate::set_up::{build_flavour, libraries};

/// One target: at most so many times the peer's wall time.
const MAX_RATIO: f64 = 1.10;
/// Four targets at once: at least so many times faster than four peers in a row.
const MIN_SPEED_UP: f64 = 1.5;

const TARGETS: [&str; 4] = ["8.0", "8.6", "8.9", "12.0"];
const ONE_TARGET: &str = "8.9";
/// A little more than the time after which `nimctl` trusts a file's status.
const SETTLED: Duration = Duration::from_secs(3);
const INPUT: &str = "IMAGE";
const SHAPES: [&str; 3] = ["1x3x224x224", "8x3x224x224", "64x3x224x224"];

/// Where everything is that the runs need.
struct Bench<'a> {
    shell: &'a Shell,
    nimctl: PathBuf,
    peer: PathBuf,
    python_packages: PathBuf,
    /// The graph in the precision that is compiled.
    lowered: PathBuf,
    /// A store with the lowered graph and no plan.
    prepared_store: PathBuf,
    /// Removed at the end.
    work: PathBuf,
}

/// Times builds, prints a comparison, and fails if a bound isn't met.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    let size = options.size.as_deref().unwrap_or(BOUND_SIZE);
    let temporary = project.shell.create_temp_dir().context("no temporary folder can be made")?;
    let bench = prepare(project, size, temporary.path())?;
    let one = compare(&bench, &[ONE_TARGET], options.repeat)?;
    let four = compare(&bench, &TARGETS, options.repeat)?;

    println!("\nsize {size}, image tower, median (min) of {} runs, interleaved", options.repeat);
    print_comparison("one target", &one);
    print_comparison("four targets", &four);
    let floor = copy_time(bench.shell, &one.plan, &bench.work.join("copy"))?;
    println!("floor: writing one plan of {:.0} MB takes {:.2} s here", one.plan_mb, floor.as_secs_f64());

    let ratio = one.ours.wall() / one.peers.wall();
    let speed_up = four.peers.wall() / four.ours.wall();
    println!("one target: {ratio:.2} times the peer's time (at most {MAX_RATIO:.2})");
    println!("four targets: {speed_up:.2} times faster (at least {MIN_SPEED_UP:.2})");
    println!("plans: the same bytes");
    if size != BOUND_SIZE {
        say(&format!("the bounds are for size {BOUND_SIZE}, and not applied to {size}"));
        return Ok(());
    }
    ensure!(ratio <= MAX_RATIO && speed_up >= MIN_SPEED_UP, "a bound is not met");
    Ok(())
}

/// Builds and fetches what is measured; models and packages are kept in `bench` in the build folder.
fn prepare<'a>(project: &'a Project, size: &str, work: &Path) -> Result<Bench<'a>> {
    let shell = &project.shell;
    libraries(project)?;
    let libclang = libclang::variables(project)?;
    let nimctl = release_nimctl(project)?;
    execute(build_flavour(&project.in_release(), "tensorrt-rtx", &libclang))?;
    let (package, version) = pinned(&shell.read_file("toolchain.lock.yaml")?)?;
    let bindings = package.replace("-libs", "-bindings");
    let requirements = [package, bindings].map(|package| format!("{package}=={version}"));
    let python_packages = python_packages(project, &format!("python-{version}"), &requirements)?;
    let model = model(project, &nimctl, size)?;
    // Lowered beforehand, and built as it is, so that both sides compile the same graph and nothing else.
    let (original, graph) = (model.join("vision.onnx"), work.join("vision.onnx"));
    execute(cmd!(shell, "{nimctl} lower {original} -o {graph} --precision fp16 --target tensorrt-rtx"))?;
    // A file's digest is remembered once the file is old enough to be told from a newer one.
    std::thread::sleep(SETTLED);
    shell.write_file(work.join("recipe.yaml"), recipe(&graph, &TARGETS))?;
    shell.write_file(work.join("one.yaml"), recipe(&graph, &[ONE_TARGET]))?;
    let peer = work.join("peer.py");
    shell.write_file(&peer, include_str!("build_peer.py"))?;
    let (store, manifest) = (work.join("prepared"), work.join("prepared.yaml"));
    let recipe = work.join("recipe.yaml");
    execute(cmd!(
        shell,
        "{nimctl} build {recipe} --only backend=onnx --store {store} --manifest {manifest}"
    ))?;
    let files = digests(&shell.read_file(&manifest)?, ".onnx");
    let [digest] = files.as_slice() else {
        bail!("{files:?} is not one graph: external data is not handled")
    };
    // TensorRT looks at the name only in messages.
    let lowered = store.join("blobs/sha256").join(digest);
    Ok(Bench { shell, nimctl, peer, python_packages, lowered, prepared_store: store, work: work.into() })
}

/// Returns package and version of TensorRT for RTX in the text of the lock.
fn pinned(lock: &str) -> Result<(String, String)> {
    let mut lines = lock.lines().skip_while(|line| *line != "  tensorrt-rtx:");
    let mut value = |key: &str| {
        lines
            .find_map(|line| {
                line.trim().strip_prefix(key)?.strip_prefix(": ").map(|v| v.trim_matches('"').to_owned())
            })
            .with_context(|| format!("toolchain.lock.yaml has no {key} of tensorrt-rtx"))
    };
    Ok((value("package")?, value("version")?))
}

fn recipe(graph: &Path, targets: &[&str]) -> String {
    let [min, opt, max] = SHAPES.map(|shape| format!("[{}]", shape.replace('x', ", ")));
    format!(
        "schema: nimctl.recipe/1
model: {{ name: bench, release: \"1\" }}
graphs:
  vision:
    source:
      path: {graph:?}
    shapes:
      {INPUT}: {{ min: {min}, opt: {opt}, max: {max} }}
profiles:
  - backend: tensorrt-rtx
    precisions: [fp32]
    targets:
      compute_capabilities: {targets:?}
  - backend: onnxruntime
    precisions: [fp32]
    targets: generic
"
    )
}

/// Returns the digests of a manifest's files with an ending, in their order.
fn digests(manifest: &str, ending: &str) -> Vec<String> {
    let mut wanted = false;
    let mut digests = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(digest) = line.strip_prefix("uri: store:sha256:").filter(|_| wanted) {
            digests.push(digest.to_owned());
        }
        wanted = line.strip_suffix(':').is_some_and(|name| name.ends_with(ending));
    }
    digests
}

struct Comparison {
    ours: Side,
    peers: Side,
    /// One of the plans, and its size.
    plan: PathBuf,
    plan_mb: f64,
}

/// Runs both sides in turn; the plans must be the same bytes.
fn compare(bench: &Bench<'_>, targets: &[&str], repeat: usize) -> Result<Comparison> {
    let Bench { shell, work, .. } = bench;
    let recipe = work.join(if targets.len() == 1 { "one.yaml" } else { "recipe.yaml" });
    let (mut ours, mut peers) = (Side::default(), Side::default());
    for round in 1..=repeat {
        say(&format!("{} target(s), round {round} of {repeat}", targets.len()));
        // Each side is first in every second round, for a machine that grows warm or busy.
        let mut built = Vec::new();
        for ours_runs in [round % 2 == 1, round % 2 == 0] {
            // Nobody pays for writing back what the other left in memory.
            execute(cmd!(shell, "sync"))?;
            if ours_runs {
                let (run, digests) = build(bench, &recipe)?;
                ours.0.push(run);
                built = digests;
            } else {
                peers.0.push(peers_in_a_row(bench, targets)?);
            }
        }
        let mut theirs = Vec::new();
        for target in targets {
            let plan = peers_plan(bench, target);
            let line = read(cmd!(shell, "sha256sum {plan}"))?;
            theirs.push(line.split_whitespace().next().unwrap_or_default().to_owned());
        }
        built.sort();
        theirs.sort();
        ensure!(built == theirs, "the plans differ: nimctl's are {built:?}, the peer's {theirs:?}");
    }
    let plan = peers_plan(bench, ONE_TARGET);
    let plan_mb = size_bytes(shell, &plan)? as f64 / 1e6;
    Ok(Comparison { ours, peers, plan, plan_mb })
}

/// Builds a recipe's plans in a store that has all else; returns also the digests of the plans.
fn build(bench: &Bench<'_>, recipe: &Path) -> Result<(Run, Vec<String>)> {
    let Bench { shell, nimctl, work, prepared_store, .. } = bench;
    let (store, manifest) = (work.join("store"), work.join("manifest.yaml"));
    // Blobs are never written twice, and other files are replaced by renames: links are as good as copies.
    execute(cmd!(shell, "cp -al {prepared_store} {store}"))?;
    let build = cmd!(
        shell,
        "{nimctl} build {recipe} --only backend=tensorrt-rtx --store {store} --manifest {manifest}"
    );
    let run = timed(shell, build)?;
    let built = digests(&shell.read_file(&manifest)?, ".plan");
    shell.remove_path(&store)?;
    Ok((run, built))
}

/// Runs the peer for one target after the other, as a script would; returns the time of all and the largest peak.
fn peers_in_a_row(bench: &Bench<'_>, targets: &[&str]) -> Result<Run> {
    let mut sum = Run { wall: Duration::ZERO, peak_kib: 0 };
    for target in targets {
        let Run { wall, peak_kib } = timed(bench.shell, peer(bench, target, &peers_plan(bench, target)))?;
        sum = Run { wall: sum.wall + wall, peak_kib: sum.peak_kib.max(peak_kib) };
    }
    Ok(sum)
}

fn peers_plan(bench: &Bench<'_>, target: &str) -> PathBuf {
    bench.work.join(format!("{target}.plan"))
}

fn peer<'a>(bench: &Bench<'a>, target: &str, plan: &Path) -> Cmd<'a> {
    bench
        .shell
        .cmd("python3")
        .env("PYTHONPATH", &bench.python_packages)
        .args([bench.peer.as_path(), &bench.lowered, plan])
        .args([target, INPUT])
        .args(SHAPES)
}

fn print_comparison(what: &str, comparison: &Comparison) {
    print_side(what, "nimctl build", &comparison.ours);
    print_side(what, "Python API", &comparison.peers);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{digests, pinned, recipe};

    #[test]
    fn digests_are_those_of_the_ending() {
        let manifest = "files:\n  contents.json:\n    uri: store:sha256:aa\n  vision/model.plan:\n    uri: store:sha256:bb\n    checksum: blake3:cc\n";
        assert_eq!(digests(manifest, ".plan"), ["bb"]);
        assert_eq!(digests(manifest, ".onnx"), [""; 0]);
    }

    #[test]
    fn the_lock_names_the_version() {
        let lock =
            "tools:\n  x:\n    package: p\n  tensorrt-rtx:\n    package: t-libs\n    version: \"1.7\"\n";
        assert_eq!(pinned(lock).unwrap(), ("t-libs".to_owned(), "1.7".to_owned()));
        assert!(pinned("tools:\n").is_err());
    }

    #[test]
    fn the_recipe_quotes_its_path() {
        assert!(recipe(Path::new("/a b/v.onnx"), &["8.0", "8.9"]).contains("path: \"/a b/v.onnx\""));
        assert!(recipe(Path::new("v"), &["8.0", "8.9"]).contains("compute_capabilities: [\"8.0\", \"8.9\"]"));
    }
}

//! `bench publish`: what a release of ViT-L/14 for six GPUs costs a registry and the wire, beside one blob a file (as `skopeo` and
//! most others push) and `casync`, which cuts files as we do.

mod proxy;
mod registry;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use registry::{Kept, Registry};
use serde_json::Value;
use xshell::{Cmd, Shell, cmd};

use super::lower::PEER;
use super::timed::timed;
use super::{
    BOUND_SIZE, Options, Side, copy_time, kept, median, model, print_side, python_packages, release_nimctl,
    size_bytes,
};
use crate::libclang;
use crate::project::{Project, read, run as execute, say};
use crate::set_up::{build_flavour, libraries};

/// What a registry holds of seven profiles, in plans.
const MAX_KEPT_PLANS: f64 = 1.35;
const MAX_BLOBS: f64 = 60.0;
/// What the second profile's pull moves, of its bytes.
const MAX_SECOND_SHARE: f64 = 0.02;
/// What a release with one changed layer moves, in layers.
const MAX_CHANGED_LAYERS: f64 = 1.5;
/// A bundle, in bytes that differ.
const MAX_BUNDLE: f64 = 1.3;
/// Beside `skopeo copy` of the same bytes.
const MAX_FIRST_RATIO: f64 = 1.0;
const MIN_SECOND_SPEED_UP: f64 = 20.0;

const TARGETS: [&str; 5] = ["7.5", "8.0", "8.6", "8.9", "12.0"];
const PORTABLE: [&str; 4] = ["8.0", "8.6", "8.9", "12.0"];
const A100: &str = "tensorrt-rtx-sm80-fp16";
const L40S: &str = "tensorrt-rtx-sm89-fp16";
/// The layer that changes: one of the two matrices of a block's MLP.
const LAYER: &str = "vision.block.11.mlp.up.weight";
const DEMO: &str = "recipes/nvclip-demo.yaml";
/// 100 Mbit/s.
const SLOW_BYTES_PER_SECOND: u64 = 12_500_000;

/// Where everything is that the runs need.
struct Bench<'a> {
    shell: &'a Shell,
    nimctl: PathBuf,
    python_packages: PathBuf,
    script: PathBuf,
    /// The model's graph.
    graph: PathBuf,
    /// Kept from run to run: what was built.
    store: PathBuf,
    /// Removed at the end.
    work: PathBuf,
}

/// A number with its bound.
struct Line {
    what: String,
    value: f64,
    unit: &'static str,
    at_most: Option<f64>,
    at_least: Option<f64>,
}

impl Line {
    fn at_most(what: impl Into<String>, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { what: what.into(), value, unit, at_most: Some(bound), at_least: None }
    }

    fn at_least(what: impl Into<String>, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { what: what.into(), value, unit, at_most: None, at_least: Some(bound) }
    }

    fn is_met(&self) -> bool {
        self.at_most.is_none_or(|bound| self.value <= bound)
            && self.at_least.is_none_or(|bound| self.value >= bound)
    }

    fn print(&self) {
        let Self { what, value, unit, at_most, at_least } = self;
        let bound = match (at_most, at_least) {
            (Some(bound), _) => format!("at most {bound}"),
            (None, Some(bound)) => format!("at least {bound}"),
            (None, None) => String::new(),
        };
        let verdict = if self.is_met() { "" } else { "  NOT MET" };
        println!("{what:<62}{value:>10.4} {unit:<10} ({bound}){verdict}");
    }
}

/// Measures sizes, then times; fails if a bound isn't met.
pub(super) fn run(project: &Project, options: &Options) -> Result<()> {
    let size = options.size.as_deref().unwrap_or(BOUND_SIZE);
    let temporary = project.shell.create_temp_dir().context("no temporary folder can be made")?;
    let bench = prepare(project, size, temporary.path())?;
    let mut lines = sizes(&bench)?;
    lines.extend(changes(&bench)?);
    lines.push(bundle(&bench)?);
    lines.extend(times(&bench, options.repeat)?);
    lines.extend(slow(&bench)?);
    println!();
    lines.iter().for_each(Line::print);
    if size != BOUND_SIZE {
        say(&format!("the bounds are for size {BOUND_SIZE}, and not applied to {size}"));
        return Ok(());
    }
    let missed: Vec<&str> =
        lines.iter().filter(|line| !line.is_met()).map(|line| line.what.as_str()).collect();
    ensure!(missed.is_empty(), "not met: {}", missed.join("; "));
    Ok(())
}

fn prepare<'a>(project: &'a Project, size: &str, work: &Path) -> Result<Bench<'a>> {
    let shell = &project.shell;
    libraries(project)?;
    let libclang = libclang::variables(project)?;
    let nimctl = release_nimctl(project)?;
    execute(build_flavour(&project.in_release(), "tensorrt-rtx", &libclang))?;
    let python_packages = python_packages(project, &PEER[0].replace("==", "-"), &PEER.map(str::to_owned))?;
    let graph = model(project, &nimctl, size)?.join("vision.onnx");
    let script = work.join("change_layer.py");
    shell.write_file(&script, include_str!("change_layer.py"))?;
    let store = kept(project)?.join(format!("publish-{size}"));
    let bench = Bench { shell, nimctl, python_packages, script, graph, store, work: work.into() };
    shell.write_file(bench.recipe("all"), recipe(&bench.graph, &TARGETS, true))?;
    shell.write_file(bench.recipe("a100"), recipe(&bench.graph, &["8.0"], false))?;
    shell.write_file(bench.recipe("both"), recipe(&bench.graph, &["8.0", "8.9"], false))?;
    execute(bench.build("all"))?;
    Ok(bench)
}

impl Bench<'_> {
    fn recipe(&self, name: &str) -> PathBuf {
        self.work.join(format!("{name}.yaml"))
    }

    fn build(&self, name: &str) -> Cmd<'_> {
        let Self { shell, nimctl, store, work, .. } = self;
        let (recipe, manifest) = (self.recipe(name), work.join(format!("{name}.manifest.yaml")));
        cmd!(shell, "{nimctl} build {recipe} --store {store} --manifest {manifest}")
    }

    fn publish(&self, name: &str, place: &str) -> Cmd<'_> {
        let Self { shell, nimctl, store, .. } = self;
        let recipe = self.recipe(name);
        cmd!(shell, "{nimctl} publish {recipe} --store {store} --to {place} --output json")
    }

    fn pull(&self, place: &str, profile: &str, store: &Path) -> Cmd<'_> {
        let Self { shell, nimctl, .. } = self;
        cmd!(shell, "{nimctl} pull {place} --profile {profile} --store {store} --output json")
    }

    /// Starts an empty registry. The last one's files are removed.
    fn registry(&self) -> Result<Registry> {
        Registry::start(self.shell, &self.work.join("registry"))
    }
}

fn recipe(graph: &Path, targets: &[&str], with_others: bool) -> String {
    let others = format!(
        "  - {{ backend: tensorrt-rtx, precisions: [fp16], targets: {{ portable: {PORTABLE:?} }} }}
  - {{ backend: onnxruntime, precisions: [fp16], targets: generic }}
"
    );
    format!(
        "schema: nimctl.recipe/1
model: {{ name: bench, release: \"1\" }}
graphs:
  vision:
    source: {{ path: {graph:?} }}
    shapes:
      IMAGE: {{ min: [1, 3, 224, 224], opt: [8, 3, 224, 224], max: [64, 3, 224, 224] }}
profiles:
  - {{ backend: tensorrt-rtx, precisions: [fp16], targets: {{ compute_capabilities: {targets:?} }} }}
{}",
        if with_others { &others } else { "" }
    )
}

/// What nimctl printed.
fn json(command: Cmd<'_>) -> Result<Value> {
    let text = read(command)?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("`{key}` is no number in {value}"))
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The release of seven profiles: what a registry keeps, beside one blob a file and casync; then two pulls.
fn sizes(bench: &Bench<'_>) -> Result<Vec<Line>> {
    let Bench { shell, store, work, .. } = bench;
    println!("\n{:<28}{:>12}{:>10}{:>10}{:>14}", "seven profiles", "kept MB", "blobs", "requests", "sent MB");
    let row = |name: &str, kept: &Kept, requests: Option<usize>, sent: Option<u64>| {
        let requests = requests.map_or_else(|| "-".into(), |count| count.to_string());
        let sent = sent.map_or_else(|| "-".into(), |bytes| format!("{:.1}", mb(bytes)));
        println!("{name:<28}{:>12.1}{:>10}{requests:>10}{sent:>14}", mb(kept.bytes), kept.blobs);
    };
    let registry = bench.registry()?;
    let proxy = registry.behind(None)?;
    let files = bench.publish("all", &format!("{}/files:1", proxy.address())).args(["--layout", "files"]);
    json(files)?;
    row("one blob a file", &registry.kept(shell)?, Some(registry.requests(shell)?), Some(proxy.up_bytes()));

    // Every file of every profile, under another name: hard links, which casync reads as files.
    let (folder, index, castore) = (work.join("files"), work.join("files.caidx"), work.join("files.castr"));
    lay_out(bench, &folder)?;
    let chunks = "65536";
    execute(cmd!(shell, "casync make --chunk-size={chunks} --store={castore} {index} {folder}"))?;
    let sizes = read(cmd!(shell, "find {castore} -name *.cacnk -printf %s\\n"))?;
    let sizes: Vec<u64> = sizes.lines().map(str::parse).collect::<Result<_, _>>()?;
    row("casync (zstd, 64 KiB)", &Kept { blobs: sizes.len(), bytes: sizes.iter().sum() }, None, None);
    shell.remove_path(castore)?;
    shell.remove_path(folder)?;

    let registry = bench.registry()?;
    let proxy = registry.behind(None)?;
    let place = format!("{}/packs:1", proxy.address());
    let published = json(bench.publish("all", &place))?;
    let packs = registry.kept(shell)?;
    row("nimctl publish", &packs, Some(registry.requests(shell)?), Some(proxy.up_bytes()));
    println!(
        "{:.1} MB of files, {:.1} MB of different chunks",
        number(&published, "files_bytes")? / 1e6,
        number(&published, "distinct_bytes")? / 1e6
    );
    let plan = plan(bench, store)?;
    let plan_bytes = size_bytes(shell, &plan)?;

    let second = work.join("second");
    json(bench.pull(&place, A100, &second))?;
    let (before, requests) = (proxy.down_bytes(), registry.requests(shell)?);
    json(bench.pull(&place, L40S, &second))?;
    let moved = proxy.down_bytes() - before;
    println!(
        "pulling {L40S} after {A100} moves {:.2} MB in {} requests",
        mb(moved),
        registry.requests(shell)? - requests
    );
    shell.remove_path(second)?;
    Ok(vec![
        Line::at_most(
            "kept by the registry",
            packs.bytes as f64 / plan_bytes as f64,
            "plans",
            MAX_KEPT_PLANS,
        ),
        Line::at_most("blobs", packs.blobs as f64, "", MAX_BLOBS),
        Line::at_most(
            "moved by the second profile's pull",
            moved as f64 / plan_bytes as f64,
            "of its bytes",
            MAX_SECOND_SHARE,
        ),
    ])
}

/// Links the files of all profiles into a folder.
fn lay_out(bench: &Bench<'_>, folder: &Path) -> Result<()> {
    let Bench { shell, store, work, .. } = bench;
    shell.create_dir(folder)?;
    let manifest = shell.read_file(work.join("all.manifest.yaml"))?;
    let digests = manifest.lines().filter_map(|line| line.trim().strip_prefix("uri: store:sha256:"));
    for (number, digest) in digests.enumerate() {
        let (blob, link) = (store.join("blobs/sha256").join(digest), folder.join(number.to_string()));
        execute(cmd!(shell, "ln {blob} {link}"))?;
    }
    Ok(())
}

/// Returns the A100's plan in a store: the largest file that its recipe's manifest names.
fn plan(bench: &Bench<'_>, store: &Path) -> Result<PathBuf> {
    let Bench { shell, work, .. } = bench;
    execute(bench.build("a100"))?;
    let manifest = shell.read_file(work.join("a100.manifest.yaml"))?;
    let mut plans = Vec::new();
    for digest in manifest.lines().filter_map(|line| line.trim().strip_prefix("uri: store:sha256:")) {
        let blob = store.join("blobs/sha256").join(digest);
        plans.push((size_bytes(shell, &blob)?, blob));
    }
    Ok(plans.into_iter().max().context("the manifest names no file")?.1)
}

/// A second release in which one layer changed.
fn changes(bench: &Bench<'_>) -> Result<Vec<Line>> {
    let Bench { shell, nimctl: _, python_packages, script, graph, work, .. } = bench;
    say("changing a layer");
    let changed = work.join("changed.onnx");
    execute(cmd!(shell, "python3 {script} {graph} {changed} {LAYER}").env("PYTHONPATH", python_packages))?;
    shell.write_file(bench.recipe("changed"), recipe(&changed, &["8.0"], false))?;
    execute(bench.build("changed"))?;
    let registry = bench.registry()?;
    let proxy = registry.behind(None)?;
    let place = |tag: &str| format!("{}/m:{tag}", proxy.address());
    json(bench.publish("a100", &place("1")))?;
    let store = work.join("second");
    json(bench.pull(&place("1"), A100, &store))?;
    let up = proxy.up_bytes();
    json(bench.publish("changed", &place("2")).args(["--from", "1"]))?;
    let (up, down) = (proxy.up_bytes() - up, proxy.down_bytes());
    json(bench.pull(&place("2"), A100, &store))?;
    let down = proxy.down_bytes() - down;
    shell.remove_path(store)?;
    shell.remove_path(changed)?;
    // Two bytes a number in FP16.
    let text = read(cmd!(shell, "python3 -c {COUNT} {graph} {LAYER}").env("PYTHONPATH", python_packages))?;
    let layer = 2 * text.trim().parse::<u64>().context("no count of numbers")?;
    println!(
        "\none layer of {:.2} MB changed: {:.2} MB published, {:.2} MB pulled",
        mb(layer),
        mb(up),
        mb(down)
    );
    let ratio = |bytes: u64| bytes as f64 / layer as f64;
    Ok(vec![
        Line::at_most(
            "published of a release with one changed layer",
            ratio(up),
            "layers",
            MAX_CHANGED_LAYERS,
        ),
        Line::at_most("pulled of it", ratio(down), "layers", MAX_CHANGED_LAYERS),
    ])
}

/// Prints how many numbers a weight has.
const COUNT: &str = "import math, onnx, sys
(weight,) = [t for t in onnx.load(sys.argv[1]).graph.initializer if t.name == sys.argv[2]]
print(math.prod(weight.dims))";

/// The demo's bundle.
fn bundle(bench: &Bench<'_>) -> Result<Line> {
    let Bench { shell, nimctl, store, work, .. } = bench;
    let (manifest, tar) = (work.join("demo.manifest.yaml"), work.join("demo.tar"));
    execute(cmd!(shell, "{nimctl} build {DEMO} --store {store} --manifest {manifest}"))?;
    let bundled = json(cmd!(shell, "{nimctl} bundle {DEMO} --store {store} -o {tar} --output json"))?;
    let (bytes, distinct) = (size_bytes(shell, &tar)?, number(&bundled, "distinct_bytes")?);
    println!(
        "the demo's bundle: {:.2} MB; {:.2} MB of files, {:.2} MB of different chunks",
        mb(bytes),
        number(&bundled, "files_bytes")? / 1e6,
        distinct / 1e6
    );
    Ok(Line::at_most("the demo's bundle", bytes as f64 / distinct, "distinct", MAX_BUNDLE))
}

/// Times of a plan's way to a registry and back, each side in turn.
#[derive(Default)]
struct Ways {
    skopeo_push: Side,
    skopeo_pull: Side,
    push: Side,
    pull: Side,
    second_push: Side,
    second_pull: Side,
}

impl Ways {
    fn print(&self, rounds: usize) {
        println!("\none plan, median (min) of {rounds} runs, interleaved, docker-registry on this machine");
        print_side("push", "skopeo copy", &self.skopeo_push);
        print_side("", "nimctl publish", &self.push);
        print_side("", "the second profile", &self.second_push);
        print_side("pull", "skopeo copy", &self.skopeo_pull);
        print_side("", "nimctl pull", &self.pull);
        print_side("", "the second profile", &self.second_pull);
    }

    fn lines(&self, how: &str) -> Vec<Line> {
        let ratio = |ours: &Side, peers: &Side| ours.wall() / peers.wall();
        let least =
            |what: &str, value| Line::at_least(format!("{what}{how}"), value, "times", MIN_SECOND_SPEED_UP);
        let most = |what: &str, value| Line::at_most(format!("{what}{how}"), value, "times", MAX_FIRST_RATIO);
        vec![
            most("first publish beside skopeo's", ratio(&self.push, &self.skopeo_push)),
            most("first pull beside skopeo's", ratio(&self.pull, &self.skopeo_pull)),
            least("second publish: faster than skopeo's", ratio(&self.skopeo_push, &self.second_push)),
            least("second pull: faster than skopeo's", ratio(&self.skopeo_pull, &self.second_pull)),
        ]
    }
}

fn times(bench: &Bench<'_>, rounds: usize) -> Result<Vec<Line>> {
    let mut ways = Ways::default();
    for round in 1..=rounds {
        say(&format!("round {round} of {rounds}"));
        time(bench, round % 2 == 0, None, &mut ways)?;
    }
    ways.print(rounds);
    let plan = plan(bench, &bench.store)?;
    let Bench { shell, work, .. } = bench;
    let copy = copy_time(shell, &plan, &work.join("copy"))?.as_secs_f64();
    let mut hashes = Vec::new();
    for _ in 0..rounds {
        hashes.push(timed(shell, cmd!(shell, "openssl dgst -sha256 {plan}"))?.wall.as_secs_f64());
    }
    let hash = median(hashes);
    println!(
        "floor of any pull of new or known bytes: writing the plan takes {copy:.2} s here, its SHA-256 {hash:.2} s"
    );
    Ok(ways.lines(""))
}

fn slow(bench: &Bench<'_>) -> Result<Vec<Line>> {
    say("at 100 Mbit/s: this takes some minutes");
    let mut ways = Ways::default();
    time(bench, false, Some(SLOW_BYTES_PER_SECOND), &mut ways)?;
    println!("\nthe same at 100 Mbit/s:");
    ways.print(1);
    Ok(ways.lines(", 100 Mbit/s"))
}

/// One round: both sides push to an empty registry and pull into empty folders.
fn time(bench: &Bench<'_>, skopeo_first: bool, rate: Option<u64>, ways: &mut Ways) -> Result<()> {
    let Bench { shell, work, .. } = bench;
    let (layout, copy, store) = (work.join("layout"), work.join("copy"), work.join("second"));
    let from_layout = format!("oci:{}:1", layout.display());
    if !layout.is_dir() {
        json(bench.publish("a100", &from_layout).args(["--layout", "files"]))?;
    }
    let registry = bench.registry()?;
    let proxy = rate.map(|rate| registry.behind(Some(rate))).transpose()?;
    let address = proxy.as_ref().map_or(registry.address(), |proxy| proxy.address()).to_owned();
    let skopeo = |ways: &mut Ways| -> Result<()> {
        let there = format!("docker://{address}/skopeo:1");
        let here = format!("dir:{}", copy.display());
        execute(cmd!(shell, "sync"))?;
        let push = cmd!(shell, "skopeo copy --quiet --all --dest-tls-verify=false {from_layout} {there}");
        ways.skopeo_push.0.push(timed(shell, push)?);
        execute(cmd!(shell, "sync"))?;
        let pull = cmd!(shell, "skopeo copy --quiet --all --src-tls-verify=false {there} {here}");
        ways.skopeo_pull.0.push(timed(shell, pull)?);
        Ok(shell.remove_path(&copy)?)
    };
    let ours = |ways: &mut Ways| -> Result<()> {
        let place = format!("{address}/nimctl:1");
        for (recipe, side) in [("a100", &mut ways.push), ("both", &mut ways.second_push)] {
            execute(cmd!(shell, "sync"))?;
            side.0.push(timed(shell, bench.publish(recipe, &place))?);
        }
        for (profile, side) in [(A100, &mut ways.pull), (L40S, &mut ways.second_pull)] {
            execute(cmd!(shell, "sync"))?;
            side.0.push(timed(shell, bench.pull(&place, profile, &store))?);
        }
        Ok(shell.remove_path(&store)?)
    };
    if skopeo_first {
        skopeo(ways)?;
        ours(ways)
    } else {
        ours(ways)?;
        skopeo(ways)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Line, recipe};

    #[test]
    fn bounds_go_one_way() {
        assert!(Line::at_most("x", 1.0, "", 1.0).is_met() && !Line::at_most("x", 1.1, "", 1.0).is_met());
        assert!(Line::at_least("x", 1.0, "", 1.0).is_met() && !Line::at_least("x", 0.9, "", 1.0).is_met());
        assert!(!Line::at_most("x", f64::NAN, "", 1.0).is_met());
    }

    #[test]
    fn recipes_name_their_targets() {
        let all = recipe(Path::new("/a b/v.onnx"), &["7.5", "8.0"], true);
        assert!(all.contains("path: \"/a b/v.onnx\"") && all.contains("[\"7.5\", \"8.0\"]"));
        assert!(all.contains("portable") && !recipe(Path::new("v"), &["8.0"], false).contains("portable"));
    }
}

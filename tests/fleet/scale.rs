//! Many jobs on many nodes. `cargo xtask bench fleet` runs more of them, and prints what they take.

#![expect(clippy::print_stdout, reason = "figures are what is asked for")]

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Node};
use crate::graph::{self, Precision};
use crate::home::{Home, scripted_backends};
use crate::recipes::X_RANGE;

/// Twelve for each graph.
const PROFILES: &str = "  - { backend: fake, precisions: [fp16, fp32], targets: { compute_capabilities: ['7.5', '8.0', '8.6', '8.9', '9.0', '12.0'] } }\n";
const JOBS_OF_A_GRAPH: usize = 12;

struct Run {
    seconds: f64,
    cpu_seconds: f64,
    peak_kib: u64,
    calls: usize,
    /// Who built each plan.
    nodes: Vec<String>,
}

/// Builds `graphs` times twelve plans on a cluster of `cluster_nodes`, of which `nodes` may work at once.
fn run(graphs: usize, cluster_nodes: usize, nodes: usize, seconds_of_a_job: &str) -> Run {
    let names: Vec<String> = (0..cluster_nodes).map(|index| format!("n{index}")).collect();
    let all: Vec<Node<'_>> =
        names.iter().map(|name| Node { name, gres: Some("l4"), partition: "gpu" }).collect();
    let cluster = Cluster::start(&all);
    let mut home = Home::new();
    for (variable, value) in cluster.environment() {
        home.set(&variable, value);
    }
    let mut recipe = "schema: nimctl.recipe/1\nmodel: { name: m, release: 1.0.0 }\ngraphs:\n".to_owned();
    for index in 0..graphs {
        let name = format!("g{index}");
        graph::write(&home.path(&format!("{name}.onnx")), Precision::Float32);
        // Another graph: one byte more of what has no meaning.
        let mut bytes = fs_err::read(home.path(&format!("{name}.onnx"))).unwrap();
        let note = format!("graph {index}");
        bytes.extend([0x32, note.len() as u8]);
        bytes.extend(note.bytes());
        home.write(&format!("{name}.onnx"), bytes);
        let _ =
            write!(recipe, "  {name}:\n    source: {{ path: {name}.onnx }}\n    shapes:\n      {X_RANGE}\n");
    }
    home.write("r.yaml", recipe + "profiles:\n" + PROFILES);
    let fleet = format!(
        "schema: nimctl.fleet/1\nexecutors:\n  all:\n    slurm:\n      shared: {}\n      gres: gpu:l4:1\n      nodes: {nodes}\n      environment: {{ \
         NIMCTL_BACKENDS: {}, NIMCTL_DATA_DIR: {}, FAKE_LOG: {}, FAKE_SECONDS: '{seconds_of_a_job}' }}\n    offers: {{ backends: [fake] }}\n",
        home.path("shared").display(),
        scripted_backends().display(),
        home.path("node").display(),
        home.path("built").display(),
    );
    home.write("fleet.yaml", fleet);
    // Commands that count how often they are called.
    for program in ["squeue", "sbatch", "scancel"] {
        let script = format!(
            "#!/bin/sh\necho {program} >>{}\nexec /usr/bin/{program} \"$@\"\n",
            home.path("calls").display()
        );
        home.write_executable(&format!("bin/{program}"), &script);
    }
    home.set("PATH", format!("{}:/usr/bin:/bin", home.path("bin").display()));
    // What the executor is, is asked before anything is measured.
    let dry = ["build", "r.yaml", "--fleet", "fleet.yaml", "--dry-run", "--quiet"];
    home.set_up(&dry).exits(0);
    fs_err::write(home.path("calls"), "").unwrap();
    let begin = Instant::now();
    let mut command = home.command(&["build", "r.yaml", "--fleet", "fleet.yaml", "--no-check", "--quiet"]);
    let mut build = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let (mut peak_kib, mut cpu_seconds) = (0, 0.0);
    let status = loop {
        let status = fs_err::read_to_string(format!("/proc/{}/status", build.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak_kib = peak.and_then(|text| text.trim().parse().ok()).unwrap_or(peak_kib);
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", build.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        if let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) {
            let ticks = user.parse::<f64>().unwrap_or_default() + system.parse::<f64>().unwrap_or_default();
            cpu_seconds = f64::max(cpu_seconds, ticks / 100.0);
        }
        if let Some(status) = build.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let seconds = begin.elapsed().as_secs_f64();
    assert!(status.success(), "{status}");
    let calls = home.read("calls").lines().count();
    let log = home.read("built");
    let nodes = log.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    Run { seconds, cpu_seconds, peak_kib, calls, nodes }
}

/// Whether `cargo xtask bench fleet` asks for figures.
fn is_benchmark() -> bool {
    std::env::var_os("NIMCTL_BENCH_FLEET").is_some()
}

#[test]
fn several_nodes_share_the_jobs_with_slurm() {
    if !is_benchmark() {
        let Run { nodes, .. } = run(1, 3, 3, "1");
        assert_eq!(nodes.len(), JOBS_OF_A_GRAPH);
        let of_node = |name: &str| nodes.iter().filter(|node| *node == name).count();
        assert!(["n0", "n1", "n2"].iter().all(|name| of_node(name) > 1), "{nodes:?}");
        return;
    }
    let [one, three] = [1, 3].map(|nodes| run(1, 3, nodes, "3").seconds);
    println!(
        "{JOBS_OF_A_GRAPH} jobs of 3 s: {one:.1} s on one node, {three:.1} s on three: {:.2} times as fast (at least 2.7)",
        one / three
    );
}

#[test]
fn many_jobs_take_few_calls_of_the_controller_with_slurm() {
    if !is_benchmark() {
        let Run { calls, nodes, .. } = run(4, 3, 3, "");
        assert_eq!(nodes.len(), 4 * JOBS_OF_A_GRAPH);
        assert!(calls < 4 * JOBS_OF_A_GRAPH, "{calls} calls");
        return;
    }
    println!("jobs  nodes  seconds  ms a job  CPU s of nimctl  peak MiB  calls of Slurm's commands");
    for graphs in [2, 17, 84, 167] {
        let Run { seconds, cpu_seconds, peak_kib, calls, nodes: _ } = run(graphs, 20, 20, "");
        let jobs = graphs * JOBS_OF_A_GRAPH;
        println!(
            "{jobs:4}     20  {seconds:7.1}  {:8.1}  {cpu_seconds:15.1}  {:8.1}  {calls}",
            seconds * 1e3 / jobs as f64,
            peak_kib as f64 / 1024.0,
        );
    }
}

//! Profiles are run on nodes: by a backend whose GPUs are made up, and whose numbers the real `onnxruntime` worker computes.

use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::home::{Home, scripted_backends};
use crate::recipes::{GENERIC, home_with_graph};
use crate::support::wait;

const BORROWED: &str = "  - { backend: borrowed, precisions: [fp16], targets: { gpus: [l4] } }\n";

/// A home with a built profile, whose store is in the folder that the nodes see; only the node `ada` has a GPU.
fn built() -> (Home, Cluster) {
    let real: PathBuf = std::env::var_os("NIMCTL_TEST_BACKENDS").expect("`cargo xtask test` sets it").into();
    let library = std::env::var_os("NIMCTL_ONNXRUNTIME_LIB").expect("`cargo xtask test` sets it");
    let backends = std::env::join_paths([scripted_backends(), real.clone()]).unwrap();
    let nodes = [
        Node { name: "ada", gres: Some("l4"), partition: "gpu" },
        Node { name: "plain", gres: None, partition: "cpu" },
    ];
    let cluster = Cluster::start(&nodes);
    let mut home = home_with_graph(&format!("{BORROWED}{GENERIC}"));
    for (variable, value) in cluster.environment() {
        home.set(&variable, value);
    }
    home.set("NIMCTL_BACKENDS", &backends);
    home.set("NIMCTL_ONNXRUNTIME_LIB", &library);
    home.set("BORROWED_WORKER", real.join("nimctl-backend-onnxruntime"));
    home.set("BORROWED_GPUS", "");
    home.set("NIMCTL_STORE", "shared/store");
    let fleet = format!(
        "schema: nimctl.fleet/1\nexecutors:\n  lovelace:\n    slurm:\n      shared: {}\n      partition: gpu\n      gres: gpu:l4:1\n      environment:\n        \
         NIMCTL_BACKENDS: '{}'\n        NIMCTL_DATA_DIR: {}\n        NIMCTL_ONNXRUNTIME_LIB: {}\n        BORROWED_WORKER: {}\n        BORROWED_GPUS: NVIDIA \
         L4=8.9\n    offers: {{ gpus: [l4], backends: [borrowed] }}\n",
        home.path("shared").display(),
        backends.display(),
        home.path("node").display(),
        library.display(),
        real.join("nimctl-backend-onnxruntime").display(),
    );
    home.write("fleet.yaml", fleet);
    home.set_up(&["build", "r.yaml", "--fleet", "fleet.yaml", "--no-check"]).exits(0);
    (home, cluster)
}

#[test]
fn what_this_machine_cannot_run_is_executed_on_a_node_with_slurm() {
    let (home, cluster) = built();
    let validate = |more: &[&str]| {
        let arguments = [&["validate", "r.yaml", "--output", "json", "--quiet"], more].concat();
        home.set_up(&arguments).exits(0).json()["profiles"][0]["status"].clone()
    };
    assert!(validate(&[])["static"].is_object());
    let executed = validate(&["--fleet", "fleet.yaml"])["executed"].clone();
    assert_eq!(executed["ran_on"], "Borrowed 2.0 on NVIDIA L4 (8.9), node ada");
    assert_eq!(executed["passed"], true);
    assert!(executed["gates"].as_array().unwrap().len() > 2, "{executed:#}");
    let report = home.set_up(&["report", "r.yaml", "-o", "report.html"]);
    report.exits(0);
    assert!(home.read("report.html").contains("node ada"));
    // Where the store is not seen by nodes, nothing is run there.
    let elsewhere = ["--fleet", "fleet.yaml", "--store", "elsewhere"];
    home.set_up(&["build", "r.yaml", "--no-check", "--fleet", "fleet.yaml", "--store", "elsewhere"]).exits(0);
    let status = validate(&elsewhere);
    let reason = status["static"]["not_executed_because"].as_str().unwrap();
    assert!(
        reason.starts_with("borrowed cannot run it on executor lovelace: the store must be inside"),
        "{reason}"
    );
    // The arrays that built are cancelled once all is answered, if they are still there.
    let ended_well =
        |(job, state): &(String, String)| state == "COMPLETED" || (job.contains('_') && state == "CANCELLED");
    assert!(cluster.jobs().iter().all(ended_well), "{:?}", cluster.jobs());
}

#[test]
fn profiles_are_measured_on_a_node_with_slurm() {
    let (home, _cluster) = built();
    let bench = [
        "bench",
        "r.yaml",
        "--fleet",
        "fleet.yaml",
        "--only",
        "borrowed-*",
        "--batch",
        "1",
        "--rounds",
        "1",
        "--budget-ms",
        "100",
        "--output",
        "json",
        "--quiet",
    ];
    let measured: Value = home.set_up(&bench).exits(0).json()["profiles"][0]["bench"]["measured"].clone();
    let text = measured.to_string();
    assert!(text.contains("NVIDIA L4") && text.contains("node ada"), "{measured:#}");
    // The node says what it is.
    assert!(measured["machine"]["logical_cores"].as_u64().is_some_and(|cores| cores > 0), "{measured:#}");
    assert!(text.contains("it was measured on node ada, where nobody watched it"), "{measured:#}");
}

#[test]
fn an_interrupted_validation_leaves_no_job_with_slurm() {
    let (home, cluster) = built();
    let in_queue = || {
        let is_there = |state: &str| ["PENDING", "RUNNING", "COMPLETING"].contains(&state);
        cluster.jobs().iter().filter(|(_, state)| is_there(state)).count()
    };
    let interrupt = |what: &str, jobs: usize, left: usize| {
        let mut command = home.command(&["validate", "r.yaml", "--fleet", "fleet.yaml", "--quiet"]);
        let mut validation =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait(what, || in_queue() == jobs);
        let id = Pid::from_child(&validation);
        kill_process(id, Signal::INT).unwrap();
        assert_eq!(validation.wait().unwrap().code(), Some(130), "{what}");
        wait(&format!("{what}: its job is gone"), || in_queue() == left);
    };
    // It waits for a node that somebody else has.
    let other = ["--parsable", "--gres=gpu:l4:1", "--output=/dev/null", "--wrap=sleep 100"];
    let other = cluster.run("sbatch", &other);
    wait("the other job runs", || {
        cluster.jobs().iter().any(|(id, state)| id == other.trim() && state == "RUNNING")
    });
    interrupt("it waits for the node", 2, 1);
    cluster.run("scancel", &[other.trim()]);
    wait("the other job is gone", || in_queue() == 0);
    interrupt("it runs on the node", 1, 0);
}

#[test]
fn a_release_is_built_validated_and_measured_on_nodes_with_slurm() {
    let (home, _cluster) = built();
    let release =
        ["release", "r.yaml", "--fleet", "fleet.yaml", "-o", "out", "--budget-ms", "100", "--rounds", "1"];
    home.set_up(&release).exits(0);
    let notes = home.read("out/release-notes.md");
    assert!(notes.contains("borrowed-l4-fp16"), "{notes}");
    assert!(home.read("out/report.html").contains("node ada"));
}

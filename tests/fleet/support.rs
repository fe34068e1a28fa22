//! A home with a recipe for three GPUs, a cluster with a node of each, and a fleet file.

use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, Node};
use crate::home::{Home, Printed, scripted_backends};
use crate::recipes::{GENERIC, home_with_graph};

/// The GPUs with the names of Slurm's types.
pub(crate) const NODES: [(&str, &str, &str); 3] =
    [("hopper", "h100", "h100-sxm"), ("ampere", "a100", "a100-sxm"), ("ada", "l4", "l4")];

pub(crate) struct Fleet {
    pub(crate) home: Home,
    pub(crate) cluster: Cluster,
}

impl Fleet {
    /// One profile for each GPU, in each of `precisions`, and the generic one.
    pub(crate) fn new(precisions: &str) -> Self {
        Self::with(precisions, "")
    }

    /// With more lines for `slurm.conf`.
    pub(crate) fn with(precisions: &str, conf: &str) -> Self {
        let gpus: Vec<&str> = NODES.iter().map(|(_, _, gpu)| *gpu).collect();
        let fake = format!(
            "  - {{ backend: fake, precisions: [{precisions}], targets: {{ gpus: [{}] }} }}\n",
            gpus.join(", ")
        );
        let mut home = home_with_graph(&format!("{fake}{GENERIC}"));
        let nodes = NODES.map(|(name, gres, _)| Node { name, gres: Some(gres), partition: "gpu" });
        let cluster = Cluster::start_with(&nodes, conf);
        for (variable, value) in cluster.environment() {
            home.set(&variable, value);
        }
        let fleet = Self { home, cluster };
        fleet.write(|_| String::new(), "");
        fleet
    }

    /// Writes the fleet file, with more keys for the executor of each node, and for its environment.
    pub(crate) fn write(&self, keys: impl Fn(&str) -> String, environment: &str) {
        let mut text = "schema: nimctl.fleet/1\nexecutors:\n".to_owned();
        for (name, gres, gpu) in NODES {
            let _ = write!(
                text,
                "  {name}:\n    slurm:\n      shared: {}\n      gres: gpu:{gres}:1\n      environment:\n        NIMCTL_BACKENDS: {}\n        \
                 NIMCTL_DATA_DIR: {}\n        FAKE_LOG: {}\n        {environment}\n      {}\n    offers: {{ gpus: [{gpu}], backends: [fake] }}\n",
                self.home.path("shared").display(),
                scripted_backends().display(),
                self.home.path("node").display(),
                self.home.path("built").display(),
                keys(name),
            );
        }
        self.home.write("fleet.yaml", text);
    }

    pub(crate) fn arguments(more: &[&'static str]) -> Vec<&'static str> {
        [&["build", "r.yaml", "--fleet", "fleet.yaml", "--no-check"], more].concat()
    }

    pub(crate) fn build(&self, more: &[&'static str]) -> Printed {
        self.home.set_up(&Self::arguments(more))
    }

    /// Builds, and returns the report.
    pub(crate) fn report(&self) -> Value {
        self.build(&["--output", "json"]).exits(0).json()
    }

    /// Starts a build, which goes on by itself.
    pub(crate) fn start(&self) -> Child {
        let mut command = self.home.command(&Self::arguments(&[]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Returns the nodes that built something, one line for each plan.
    pub(crate) fn built(&self) -> Vec<String> {
        built(&self.home)
    }

    /// Returns where profiles were built, by name.
    pub(crate) fn places(&self, report: &Value) -> Vec<(String, String)> {
        places(&self.home, report)
    }

    /// Returns how many jobs are neither over nor cancelled.
    pub(crate) fn jobs_in_queue(&self) -> usize {
        let is_there =
            |state: &str| ["PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED"].contains(&state);
        self.cluster.jobs().iter().filter(|(_, state)| is_there(state)).count()
    }

    /// Waits until nothing is in the queue.
    pub(crate) fn wait_for_an_empty_queue(&self) {
        wait("the queue is empty", || self.jobs_in_queue() == 0);
    }

    /// Returns what is left of requests in the shared folder.
    pub(crate) fn requests_left(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["requests", "batches"] {
            let entries = fs_err::read_dir(self.home.path("shared/exchange-1").join(folder)).unwrap();
            names.extend(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        }
        names
    }
}

pub(crate) fn wait(what: &str, mut is_done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited until {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Returns where profiles were built, by name: `executor/node`.
pub(crate) fn places(home: &Home, report: &Value) -> Vec<(String, String)> {
    let profiles = report["profiles"].as_array().unwrap().iter();
    let place = |profile: &Value| {
        let id = profile["id"].as_str().unwrap();
        let passport = home.read(&format!("data/store/nimctl/passports/{id}.json"));
        let passport: Value = serde_json::from_str(&passport).unwrap();
        let of_graph = |graph: &Value| {
            let node = &graph["compilation"]["node"];
            Some(format!("{}/{}", node["executor"].as_str()?, node["node"]["name"].as_str()?))
        };
        let graphs = passport["graphs"].as_object().unwrap().values();
        let mut nodes: Vec<String> = graphs.map(|graph| of_graph(graph).unwrap_or("here".into())).collect();
        nodes.dedup();
        let node = nodes.join(", ");
        (profile["name"].as_str().unwrap().to_owned(), node)
    };
    profiles.map(place).collect()
}

/// Returns the nodes that built something, one line for each plan.
pub(crate) fn built(home: &Home) -> Vec<String> {
    let log = fs_err::read_to_string(home.path("built")).unwrap_or_default();
    let mut nodes: Vec<String> =
        log.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    nodes.sort();
    nodes
}

//! Builds through Kubernetes: requests and results travel through a real registry, and what the pods run is real. The cluster is played
//! by `control_plane`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::control_plane::{ControlPlane, Faults};
use crate::docker::DockerRegistry;
use crate::failures::{check, without_id};
use crate::home::{Home, Printed, scripted_backends};
use crate::recipes::{GENERIC, home_with_graph};
use crate::support::{built, places, wait};

/// The nodes: executor, label, GPU.
const NODES: [(&str, &str, &str); 3] = [
    ("hopper", "NVIDIA-H100-80GB-HBM3", "h100-sxm"),
    ("ampere", "NVIDIA-A100-SXM4-40GB", "a100-sxm"),
    ("ada", "NVIDIA-L4", "l4"),
];

pub(crate) struct Pods {
    pub(crate) home: Home,
    pub(crate) plane: ControlPlane,
    pub(crate) registry: DockerRegistry,
}

impl Pods {
    pub(crate) fn new() -> Self {
        Self::with(DockerRegistry::start_with(false, true))
    }

    /// One profile for each GPU, and the generic one.
    pub(crate) fn with(registry: DockerRegistry) -> Self {
        let gpus: Vec<&str> = NODES.iter().map(|(_, _, gpu)| *gpu).collect();
        let profiles = format!(
            "  - {{ backend: fake, precisions: [fp16], targets: {{ gpus: [{}] }} }}\n{GENERIC}",
            gpus.join(", ")
        );
        let mut home = home_with_graph(&profiles);
        let nodes = NODES.map(|(name, label, _)| (name, label));
        let image = BTreeMap::from([
            ("NIMCTL_BACKENDS".to_owned(), scripted_backends().into()),
            ("FAKE_LOG".to_owned(), home.path("built").into()),
        ]);
        let plane = ControlPlane::start(&nodes, image);
        home.set("PATH", format!("{}:/usr/bin:/bin", plane.programs().display()));
        let pods = Self { home, plane, registry };
        pods.write("");
        pods
    }

    /// Writes the fleet file, with more keys for each executor.
    pub(crate) fn write(&self, keys: &str) {
        let mut text = "schema: nimctl.fleet/1\nexecutors:\n".to_owned();
        for (name, label, gpu) in NODES {
            let _ = write!(
                text,
                "  {name}:\n    kubernetes:\n      image: nimctl:1\n      exchange: oci://{}/scratch\n      node_selector: {{ nvidia.com/gpu.product: \
                 {label} }}\n      {keys}\n    offers: {{ gpus: [{gpu}], backends: [fake] }}\n",
                self.registry.address(),
            );
        }
        self.home.write("fleet.yaml", text);
    }

    pub(crate) const BUILD: [&str; 5] = ["build", "r.yaml", "--fleet", "fleet.yaml", "--no-check"];

    pub(crate) fn build(&self) -> Printed {
        self.home.set_up(&[&Self::BUILD[..], &["--output", "json"]].concat())
    }

    pub(crate) fn report(&self) -> Value {
        self.build().exits(0).json()
    }

    pub(crate) fn failed(&self, code: i32) -> Vec<(String, String)> {
        without_id(&self.build().exits(code).json())
    }

    pub(crate) fn start(&self) -> Child {
        let mut command = self.home.command(&Self::BUILD);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Returns the nodes that built something, one line for each plan.
    pub(crate) fn built(&self) -> Vec<String> {
        built(&self.home)
    }

    /// Makes the executors known, so that what follows is builds alone.
    pub(crate) fn describe(&self) {
        self.home.set_up(&[&Self::BUILD[..], &["--dry-run"]].concat()).exits(0);
    }

    /// Returns the tags of the exchange.
    pub(crate) fn tags(&self) -> Vec<String> {
        tags_of(&self.registry)
    }
}

/// Returns the tags of a registry's exchange.
pub(crate) fn tags_of(registry: &DockerRegistry) -> Vec<String> {
    let folder = registry.path("registry/docker/registry/v2/repositories/scratch/_manifests/tags");
    let Ok(entries) = fs_err::read_dir(folder) else { return Vec::new() };
    let mut tags: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    tags.sort();
    tags
}

#[test]
fn each_profile_is_built_in_a_pod_on_a_node_with_its_gpu_with_docker_registry() {
    let pods = Pods::new();
    let report = pods.report();
    let expected = [
        ("fake-h100-sxm-fp16", "hopper/hopper"),
        ("fake-a100-sxm-fp16", "ampere/ampere"),
        ("fake-l4-fp16", "ada/ada"),
        ("onnx-fp32", "here"),
    ];
    assert_eq!(
        places(&pods.home, &report),
        expected.map(|(profile, place)| (profile.to_owned(), place.to_owned()))
    );
    assert_eq!(pods.built(), ["ada", "ampere", "hopper"]);
    assert_eq!((pods.plane.jobs(), pods.tags()), (Vec::new(), Vec::new()), "nothing is left");
    // Where it was built makes no difference.
    let here = home_with_graph(pods.home.read("r.yaml").split_once("profiles:\n").unwrap().1);
    here.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    assert_eq!(
        pods.home.read("manifests/r/model_manifest.yaml"),
        here.read("manifests/r/model_manifest.yaml")
    );
    // Nothing to do: nobody is asked.
    let asked = (pods.plane.calls().len(), pods.registry.requests().len());
    assert_eq!(pods.report()["manifest_changed"], false);
    assert_eq!((pods.plane.calls().len(), pods.registry.requests().len()), asked);
}

#[test]
fn what_happens_is_told_in_lines_with_docker_registry() {
    let pods = Pods::new();
    let printed = pods.home.command(&[&Pods::BUILD[..], &["--progress", "json"]].concat()).output().unwrap();
    assert!(printed.status.success());
    let stderr = String::from_utf8(printed.stderr).unwrap();
    let events: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| event["schema"] == "nimctl.event/1" && event["unix_ms"].is_u64()));
    let of = |kind: &str, job: &str| {
        events.iter().filter(|event| event["kind"] == kind && event["job"] == job).collect::<Vec<_>>()
    };
    for job in ["executor ada", "main: fake for 8.9, fp16"] {
        assert_eq!(of("job-started", job).len(), 1, "{stderr}");
        let on_node = of("job-on-node", job);
        assert!(on_node.iter().all(|event| event["executor"] == "ada" && event["node"] == "ada"));
    }
    assert_eq!(of("job-finished", "main: fake for 8.9, fp16").len(), 1, "{stderr}");
    // And for people, in a log.
    pods.home.write("r.yaml", pods.home.read("r.yaml").replace("max: [8", "max: [16"));
    pods.plane.set_image("FAKE_SECONDS", "2");
    let printed = pods.home.set_up(&[&Pods::BUILD[..], &["--progress", "plain"]].concat());
    printed.exits(0).has(&["main: fake for 8.9, fp16: ada: on ada\n", "main: fake for 8.9, fp16: begins\n"]);
}

#[test]
fn only_what_is_needed_travels_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    let begin = pods.registry.requests().len();
    pods.report();
    let requests = pods.registry.requests();
    let of = |method: &str, piece: &str| {
        let is_it = |request: &&String| request.starts_with(method) && request.contains(piece);
        requests[begin..].iter().filter(is_it).count()
    };
    // Three requests, three batches, three results. The scripted worker always writes the same plan, which pods may send at the same time.
    let uploads = of("PUT ", "/blobs/uploads/");
    let graph = sha256_of_lowered_graphs(&pods, &pods.report(), "fake-l4-fp16").remove(0);
    assert_eq!(of("PUT ", &graph), 1, "once for three requests");
    assert_eq!(of("GET ", &format!("/blobs/sha256:{graph}")), 3, "once for each pod");
    assert!((11..=13).contains(&uploads), "{uploads}");
    // Changed shapes are other requests, and the graph is there already.
    let begin = requests.len();
    pods.home.write("r.yaml", pods.home.read("r.yaml").replace("max: [8", "max: [16"));
    pods.report();
    let requests = pods.registry.requests();
    let uploads: Vec<&String> = requests[begin..].iter().filter(|request| request.contains(&graph)).collect();
    assert!(!uploads.is_empty() && uploads.iter().all(|request| !request.starts_with("PUT")), "{uploads:?}");
}

/// Returns the digests of the lowered graphs of a profile.
fn sha256_of_lowered_graphs(pods: &Pods, report: &Value, profile: &str) -> Vec<String> {
    let profiles = report["profiles"].as_array().unwrap();
    let id = profiles.iter().find(|one| one["name"] == profile).unwrap()["id"].as_str().unwrap();
    let passport = pods.home.read(&format!("data/store/nimctl/passports/{id}.json"));
    let passport: Value = serde_json::from_str(&passport).unwrap();
    let graphs = passport["graphs"].as_object().unwrap().values();
    let outputs = graphs.flat_map(|graph| graph["lowering"]["outputs"].as_array().unwrap());
    let digests =
        outputs.map(|output| output["sha256"].as_str().unwrap().trim_start_matches("sha256:").to_owned());
    digests.collect()
}

#[test]
fn a_pod_that_dies_is_started_again_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    pods.plane.set_image("FAKE_SECONDS", "2");
    let mut build = pods.start();
    wait("three pods run", || pods.built().len() == 3);
    pods.plane.kill_pods(false);
    wait("they run again", || pods.built().len() == 6);
    // This time, the nodes are drained.
    pods.plane.kill_pods(true);
    assert!(build.wait().unwrap().success());
    assert_eq!(pods.built().len(), 9);
    assert_eq!((pods.plane.jobs(), pods.tags()), (Vec::new(), Vec::new()));
}

#[test]
fn of_two_pods_with_one_request_each_is_right_with_docker_registry() {
    let pods = Pods::new();
    pods.plane.set_faults(Faults { starts_twice: true, ..Faults::default() });
    pods.plane.set_image("FAKE_SECONDS", "1");
    pods.report();
    assert!(pods.built().len() > 3, "{:?}", pods.built());
    // Whoever comes late leaves nothing.
    wait("no pod runs", || pods.plane.running() == 0);
    assert_eq!(pods.tags(), Vec::<String>::new());
}

#[test]
fn a_killed_command_loses_nothing_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    pods.plane.set_image("FAKE_SECONDS", "2");
    let mut build = pods.start();
    wait("three pods run", || pods.built().len() == 3);
    build.kill().unwrap();
    build.wait().unwrap();
    assert_eq!(pods.plane.jobs().len(), 3, "they go on");
    pods.report();
    assert_eq!(pods.built().len(), 3, "nothing is built twice");
    assert_eq!((pods.plane.jobs(), pods.tags()), (Vec::new(), Vec::new()));
}

#[test]
fn ctrl_c_deletes_what_the_command_applied_with_docker_registry() {
    let pods = Pods::new();
    pods.describe();
    pods.plane.set_image("FAKE_SECONDS", "60");
    let mut build = pods.start();
    wait("three pods run", || pods.built().len() == 3);
    kill_process(Pid::from_raw(build.id() as i32).unwrap(), Signal::INT).unwrap();
    assert_eq!(build.wait().unwrap().code(), Some(130));
    assert_eq!((pods.plane.jobs(), pods.tags()), (Vec::new(), Vec::new()));
}

#[test]
fn a_registry_that_deletes_nothing_is_used_again_with_docker_registry() {
    let pods = Pods::with(DockerRegistry::start());
    pods.report();
    assert!(!pods.tags().is_empty());
    // The same requests once more, as from another store.
    fs_err::remove_dir_all(pods.home.path("data/store")).unwrap();
    pods.report();
    assert_eq!(pods.built().len(), 6);
}

#[test]
fn credentials_come_from_a_secret_with_docker_registry() {
    let pods = Pods::with(DockerRegistry::start_with(true, true));
    pods.write("registry_secret: scratch-login");
    let login =
        format!("{{\"auths\": {{\"{}\": {{\"auth\": \"bWU6aHVudGVyMjp4\"}}}}}}", pods.registry.address());
    let found = pods.failed(5);
    check(&found[..1], &[("fake-h100-sxm-fp16", "executor hopper: the exchange")]);
    assert!(found[0].1.contains("docker login"), "{found:?}");
    pods.plane.add_secret("scratch-login", login.clone());
    pods.home.write("docker/config.json", &login);
    let mut command = pods.home.command(&Pods::BUILD);
    let status = command.env("DOCKER_CONFIG", pods.home.path("docker")).output().unwrap().status;
    assert!(status.success());
    assert_eq!(pods.built().len(), 3);
    assert!(pods.plane.calls().iter().all(|call| !call.contains("bWU6")));
}

#[test]
fn jobs_are_applied_by_hand_with_docker_registry() {
    let pods = Pods::new();
    pods.write("apply: by-hand");
    let mut build = pods.start();
    let manifests = || {
        let arguments = ["fleet", "manifests", "fleet.yaml", "--output", "json"];
        pods.home.set_up(&arguments).exits(0).json()["jobs"].as_array().unwrap().clone()
    };
    // First what the executors are, then what they build.
    for _ in 0..2 {
        let mut applied = BTreeSet::new();
        wait("three Jobs are applied", || {
            for job in manifests() {
                if applied.insert(job["metadata"]["name"].as_str().unwrap().to_owned()) {
                    pods.plane.apply(&job);
                }
            }
            applied.len() >= 3
        });
        wait("they are answered", || pods.plane.running() == 0 && manifests().is_empty());
    }
    assert!(build.wait().unwrap().success());
    assert_eq!(pods.built().len(), 3);
    assert_eq!(pods.plane.calls(), Vec::<String>::new(), "nimctl calls no kubectl");
    let printed = pods.home.run(&["fleet", "manifests", "fleet.yaml"]);
    printed.exits(0).has(&["no request waits for a Job"]);
}

/// The demo recipe, with the scripted backend for Hopper: real plans, a pod of every request that dies, and two pods for each.
#[test]
fn the_demo_is_built_through_the_exchange_with_docker_registry() {
    let real: PathBuf = std::env::var_os("NIMCTL_TEST_BACKENDS").expect("`cargo xtask test` sets it").into();
    let library = std::env::var_os("NIMCTL_TENSORRT_RTX_LIB").expect("`cargo xtask test` sets it");
    let backends = std::env::join_paths([scripted_backends(), real]).unwrap();
    let recipe =
        fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/nvclip-demo.yaml")).unwrap();
    let recipe = recipe.replace("backend: tensorrt\n", "backend: fake\n");
    let mut pods = Pods::new();
    pods.home.write("r.yaml", &recipe);
    pods.plane.set_image("NIMCTL_BACKENDS", &backends);
    pods.plane.set_image("NIMCTL_TENSORRT_RTX_LIB", &library);
    let mut fleet = "schema: nimctl.fleet/1\nexecutors:\n".to_owned();
    for ((name, label, _), offers) in NODES.iter().zip([
        "gpus: [h100-sxm, h100-pcie, h100-nvl, gh200], backends: [fake]",
        "gpus: [a100-sxm, a100-pcie, a10g, rtx-5080, rtx-5090], backends: [tensorrt-rtx]",
        "gpus: [l40s, l4, rtx-6000-ada, rtx-4090], backends: [tensorrt-rtx]",
    ]) {
        let _ = write!(
            fleet,
            "  {name}:\n    kubernetes:\n      image: nimctl:1\n      exchange: oci://{}/scratch\n      node_selector: {{ nvidia.com/gpu.product: {label} }}\n    \
             offers: {{ {offers} }}\n",
            pods.registry.address(),
        );
    }
    pods.home.write("fleet.yaml", fleet);
    pods.describe();
    let begin = pods.registry.requests().len();
    pods.plane.set_faults(Faults { starts_twice: true, ..Faults::default() });
    pods.plane.set_image("FAKE_SECONDS", "1");
    let mut build = pods.start();
    wait("some pods run", || pods.plane.running() > 2);
    pods.plane.kill_pods(false);
    assert!(build.wait().unwrap().success());
    // What came late is over, too.
    wait("no pod runs", || pods.plane.running() == 0);
    let report = pods.report();
    let found = places(&pods.home, &report);
    assert_eq!(found.len(), 14);
    assert!(
        found
            .iter()
            .all(|(name, place)| place.contains('/') || (name.starts_with("onnx") && place == "here")),
        "{found:?}"
    );
    assert_eq!((pods.plane.jobs(), pods.tags()), (Vec::new(), Vec::new()));
    // Each graph travelled once, however many requests and pods there were.
    let requests = pods.registry.requests();
    let mut sent: BTreeMap<&str, usize> = BTreeMap::new();
    for request in requests[begin..].iter().filter(|request| request.starts_with("PUT ")) {
        if let Some((_, digest)) = request.split_once("digest=") {
            *sent.entry(digest).or_default() += 1;
        }
    }
    let built = found.iter().filter(|(name, _)| !name.starts_with("onnx"));
    let graphs: BTreeSet<String> =
        built.flat_map(|(name, _)| sha256_of_lowered_graphs(&pods, &report, name)).collect();
    assert_eq!(graphs.len(), 4, "two towers, lowered for either backend");
    for graph in &graphs {
        let times: usize =
            sent.iter().filter(|(digest, _)| digest.contains(graph.as_str())).map(|(_, times)| times).sum();
        assert_eq!(times, 1, "{graph}");
    }
    // Built on this machine alone, the manifest is the same.
    pods.home.set("NIMCTL_BACKENDS", &backends);
    pods.home.set("NIMCTL_TENSORRT_RTX_LIB", &library);
    let manifest = pods.home.read("manifests/r/model_manifest.yaml");
    pods.home.set_up(&["build", "r.yaml", "--no-check", "--store", "alone", "--quiet"]).exits(0);
    assert_eq!(pods.home.read("manifests/r/model_manifest.yaml"), manifest);
}

#[test]
fn a_fleet_file_is_proposed_from_labels_with_docker_registry() {
    let pods = Pods::new();
    let arguments = [
        "fleet",
        "discover",
        "kubernetes",
        "--image",
        "registry.example/nimctl:1",
        "--exchange",
        "oci://registry.example/scratch",
    ];
    let proposed = pods.home.set_up(&[&arguments[..], &["--output", "json"]].concat()).exits(0).json();
    pods.home.write("proposed.yaml", proposed["fleet"].as_str().unwrap());
    pods.home.run(&["fleet", "check", "proposed.yaml"]).exits(0).has(&["h100-sxm", "kubernetes", "l4"]);
}

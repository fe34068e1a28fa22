//! What stands in for a cluster of Kubernetes: no cluster can be had in a test. A `kubectl` that hands its arguments to a thread of the
//! test, which keeps Jobs as the API does, and starts their pods as processes of this machine, each with a home of its own, as a kubelet
//! does. What the pods run is real: `nimctl work`, against a real registry.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

const TICK: Duration = Duration::from_millis(20);
const INDEX_LABEL: &str = "batch.kubernetes.io/job-completion-index";

/// Hands its arguments and input to the thread, and waits for the answer.
const KUBECTL: &str = r#"#!/bin/sh
call=$(mktemp -d "CALLS/new.XXXXXX")
cat >"$call/input"
printf '%s\n' "$@" >"$call/arguments"
mv "$call" "$call.ready"
while [ ! -e "$call.ready/code" ]; do sleep 0.01; done
cat "$call.ready/stdout"
cat "$call.ready/stderr" >&2
exit "$(cat "$call.ready/code")"
"#;

/// A cluster that isn't there. Dropped, it kills the processes of its pods.
pub(crate) struct ControlPlane {
    folder: TempDir,
    state: Arc<Mutex<State>>,
    stops: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Every index is given to two pods.
    pub(crate) starts_twice: bool,
    /// Images can't be pulled.
    pub(crate) has_no_image: bool,
    /// No node has room.
    pub(crate) is_full: bool,
    /// Containers that end otherwise than well had too little memory.
    pub(crate) has_little_memory: bool,
    /// The API doesn't answer.
    pub(crate) is_down: bool,
}

#[derive(Default)]
struct State {
    /// By name, with the label `nvidia.com/gpu.product`.
    nodes: Vec<(String, String)>,
    jobs: BTreeMap<String, Value>,
    pods: Vec<Pod>,
    /// How often the pods of a Job's index failed.
    failures: BTreeMap<(String, u64), u64>,
    completed: BTreeSet<(String, u64)>,
    failed: BTreeSet<(String, u64)>,
    calls: Vec<String>,
    /// How many pods there were.
    count: u64,
    faults: Faults,
    /// What the image has in its environment.
    image: BTreeMap<String, OsString>,
    /// The contents of Secrets, by name.
    secrets: BTreeMap<String, String>,
}

struct Pod {
    job: String,
    index: u64,
    number: u64,
    node: Option<String>,
    process: Option<Child>,
    phase: &'static str,
    is_evicted: bool,
    home: TempDir,
}

impl ControlPlane {
    pub(crate) fn start(nodes: &[(&str, &str)], image: BTreeMap<String, OsString>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nodes = nodes.iter().map(|&(name, label)| (name.to_owned(), label.to_owned())).collect();
        fs_err::create_dir_all(folder.path().join("calls")).unwrap();
        fs_err::create_dir_all(folder.path().join("bin")).unwrap();
        let script = KUBECTL.replace("CALLS", &folder.path().join("calls").display().to_string());
        let program = folder.path().join("bin/kubectl");
        fs_err::write(&program, script).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(&program, executable).unwrap();
        let state = Arc::new(Mutex::new(State { nodes, image, ..State::default() }));
        let stops = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (state, stops, calls) = (state.clone(), stops.clone(), folder.path().join("calls"));
            move || {
                while !stops.load(Ordering::Relaxed) {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.answer(&calls);
                    state.tick();
                    drop(state);
                    std::thread::sleep(TICK);
                }
            }
        });
        Self { folder, state, stops, thread: Some(thread) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the folder of `kubectl`.
    pub(crate) fn programs(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(crate) fn set_image(&self, variable: &str, value: impl Into<OsString>) {
        self.state().image.insert(variable.into(), value.into());
    }

    pub(crate) fn add_secret(&self, name: &str, content: String) {
        self.state().secrets.insert(name.into(), content);
    }

    /// Returns the calls of `kubectl` so far, each as its arguments.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub(crate) fn jobs(&self) -> Vec<String> {
        self.state().jobs.keys().cloned().collect()
    }

    /// Applies a Job as somebody with `kubectl` does.
    pub(crate) fn apply(&self, job: &Value) {
        self.state().apply(job.clone());
    }

    /// Deletes all Jobs, as an administrator does.
    pub(crate) fn delete_all(&self) {
        let mut state = self.state();
        for name in state.jobs.keys().cloned().collect::<Vec<_>>() {
            state.delete(&name);
        }
    }

    /// Returns how many pods run.
    pub(crate) fn running(&self) -> usize {
        self.state().pods.iter().filter(|pod| pod.phase == "Running").count()
    }

    /// Kills the processes of all pods that run. An eviction doesn't count as a failure of the pod.
    pub(crate) fn kill_pods(&self, is_eviction: bool) {
        for pod in self.state().pods.iter_mut().filter(|pod| pod.phase == "Running") {
            pod.is_evicted = is_eviction;
            // Whoever is evicted is asked to end.
            pod.signal(if is_eviction { Signal::TERM } else { Signal::KILL });
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
        self.state().pods.iter_mut().for_each(Pod::kill);
    }
}

impl State {
    /// Answers what `kubectl` was called with.
    fn answer(&mut self, calls: &Path) {
        for entry in fs_err::read_dir(calls).unwrap() {
            let call = entry.unwrap().path();
            if call.extension().is_none_or(|extension| extension != "ready") || call.join("code").exists() {
                continue;
            }
            let arguments = fs_err::read_to_string(call.join("arguments")).unwrap();
            let arguments: Vec<&str> = arguments.lines().collect();
            let input = fs_err::read_to_string(call.join("input")).unwrap();
            self.calls.push(format!("{} {input}", arguments.join(" ")));
            let (code, stdout, stderr) = match self.call(&arguments, &input) {
                Ok(stdout) => (0, stdout, String::new()),
                Err(stderr) => (1, String::new(), stderr),
            };
            fs_err::write(call.join("stdout"), stdout).unwrap();
            fs_err::write(call.join("stderr"), stderr).unwrap();
            fs_err::write(call.join("code.new"), code.to_string()).unwrap();
            fs_err::rename(call.join("code.new"), call.join("code")).unwrap();
        }
    }

    fn call(&mut self, arguments: &[&str], input: &str) -> Result<String, String> {
        if self.faults.is_down {
            return Err(
                "Unable to connect to the server: dial tcp 127.0.0.1:6443: connect: connection refused\n"
                    .into(),
            );
        }
        let words: Vec<&str> = arguments.iter().copied().filter(|word| !word.starts_with("--")).collect();
        let option =
            |name: &str| arguments.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        match words[..] {
            ["apply"] => {
                let job: Value = serde_json::from_str(input).map_err(|error| format!("error: {error}\n"))?;
                Ok(format!("job.batch/{} serverside-applied\n", self.apply(job)))
            }
            ["get", "jobs,pods"] => {
                let selector = option("--selector").unwrap_or_default();
                let names = selector.split_once('(').map_or("", |(_, names)| names.trim_end_matches(')'));
                Ok(self.list(&names.split(',').collect()).to_string())
            }
            ["get", "nodes"] => {
                let node = |(name, product): &(String, String)| {
                    json!({
                        "metadata": { "name": name, "labels": { "nvidia.com/gpu.product": product } },
                        "spec": { "taints": [{ "key": "nvidia.com/gpu", "effect": "NoSchedule" }] },
                    })
                };
                Ok(json!({ "items": self.nodes.iter().map(node).collect::<Vec<_>>() }).to_string())
            }
            ["delete", "jobs", ..] => {
                words[2..].iter().for_each(|name| self.delete(name));
                Ok(String::new())
            }
            ["logs"] => {
                let selector = option("--selector").unwrap_or_default();
                let of_selector = |pod: &&Pod| {
                    selector == format!("nimctl.org/job={},{INDEX_LABEL}={}", pod.job, pod.index)
                };
                let logs = self.pods.iter().filter(of_selector).map(Pod::log);
                Ok(logs.collect())
            }
            _ => Err(format!("error: unknown command {arguments:?}\n")),
        }
    }

    fn apply(&mut self, job: Value) -> String {
        let name = job["metadata"]["name"].as_str().unwrap().to_owned();
        self.jobs.entry(name.clone()).or_insert(job);
        name
    }

    fn delete(&mut self, name: &str) {
        self.jobs.remove(name);
        for pod in self.pods.iter_mut().filter(|pod| pod.job == name) {
            pod.kill();
        }
        self.pods.retain(|pod| pod.job != name);
    }

    /// Returns Jobs and their pods as the API does.
    fn list(&self, names: &BTreeSet<&str>) -> Value {
        let indexes = |of: &BTreeSet<(String, u64)>, name: &str| {
            let own = of.iter().filter(|(job, _)| job == name).map(|(_, index)| index.to_string());
            own.collect::<Vec<_>>().join(",")
        };
        let jobs = self.jobs.iter().filter(|(name, _)| names.contains(name.as_str())).map(|(name, job)| {
            let mut job = job.clone();
            job["status"] = json!({
                "completedIndexes": indexes(&self.completed, name), "failedIndexes": indexes(&self.failed, name),
            });
            job
        });
        let pods = self.pods.iter().filter(|pod| names.contains(pod.job.as_str()));
        let items: Vec<Value> = jobs.chain(pods.map(|pod| pod.document(&self.faults))).collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items })
    }

    /// What controllers, scheduler and kubelets do from time to time.
    fn tick(&mut self) {
        for pod in self.pods.iter_mut().filter(|pod| pod.phase == "Running") {
            let Some(status) = pod.process.as_mut().and_then(|process| process.try_wait().unwrap()) else {
                continue;
            };
            let place = (pod.job.clone(), pod.index);
            if status.success() {
                pod.phase = "Succeeded";
                self.completed.insert(place);
                continue;
            }
            pod.phase = "Failed";
            if !pod.is_evicted {
                let failures = self.failures.entry(place.clone()).or_default();
                *failures += 1;
                if *failures > self.jobs[&pod.job]["spec"]["backoffLimitPerIndex"].as_u64().unwrap() {
                    self.failed.insert(place);
                }
            }
        }
        for (name, job) in &self.jobs {
            let spec = &job["spec"];
            let parallelism = spec["parallelism"].as_u64().unwrap() as usize;
            for index in 0..spec["completions"].as_u64().unwrap() {
                let place = (name.clone(), index);
                let is_active = |pod: &&Pod| &pod.job == name && ["Pending", "Running"].contains(&pod.phase);
                let active = self.pods.iter().filter(is_active).count();
                let is_over = self.completed.contains(&place) || self.failed.contains(&place);
                if is_over
                    || active >= parallelism
                    || self.pods.iter().any(|pod| is_active(&pod) && pod.index == index)
                {
                    continue;
                }
                for _ in 0..if self.faults.starts_twice { 2 } else { 1 } {
                    self.count += 1;
                    self.pods.push(Pod {
                        job: name.clone(),
                        index,
                        number: self.count,
                        node: None,
                        process: None,
                        phase: "Pending",
                        is_evicted: false,
                        home: tempfile::tempdir().unwrap(),
                    });
                }
            }
        }
        if self.faults.is_full || self.faults.has_no_image {
            return;
        }
        for place in 0..self.pods.len() {
            if self.pods[place].phase != "Pending" {
                continue;
            }
            let spec = &self.jobs[&self.pods[place].job]["spec"]["template"]["spec"];
            let wanted = &spec["nodeSelector"]["nvidia.com/gpu.product"];
            let is_busy = |name: &String| {
                let on_it = |pod: &&Pod| pod.phase == "Running" && pod.node.as_ref() == Some(name);
                self.pods.iter().filter(on_it).count() > usize::from(self.faults.starts_twice)
            };
            let free = self.nodes.iter().find(|(name, label)| wanted == label && !is_busy(name));
            let Some((node, _)) = free.cloned() else { continue };
            let process = self.container(&self.pods[place], spec, &node);
            let pod = &mut self.pods[place];
            (pod.node, pod.process, pod.phase) = (Some(node), Some(process), "Running");
        }
    }

    /// Starts the container of a pod as a process.
    fn container(&self, pod: &Pod, spec: &Value, node: &str) -> Child {
        let container = &spec["containers"][0];
        let words: Vec<&str> =
            container["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words[0], "nimctl");
        let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
        command.args(&words[1..]).current_dir(pod.home.path()).env_clear().envs(&self.image);
        command.env("PATH", "/usr/bin:/bin").env("HOME", pod.home.path());
        command.env("JOB_COMPLETION_INDEX", pod.index.to_string());
        // Each volume is a folder of the pod.
        let mut folders = BTreeMap::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let (name, path) = (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap());
            let folder = pod.home.path().join(name);
            fs_err::create_dir_all(&folder).unwrap();
            let volume =
                spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == name).unwrap();
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                let item = &volume["secret"]["items"][0];
                assert_eq!(item["key"], ".dockerconfigjson");
                let file = folder.join(item["path"].as_str().unwrap());
                fs_err::write(file, &self.secrets[secret]).unwrap();
            }
            folders.insert(path, folder);
        }
        for variable in container["env"].as_array().unwrap() {
            let value = match (&variable["valueFrom"]["fieldRef"]["fieldPath"], &variable["value"]) {
                (Value::String(field), _) if field == "spec.nodeName" => node.into(),
                (_, Value::String(value)) => folders
                    .get(value.as_str())
                    .map_or_else(|| value.into(), |folder| folder.clone().into_os_string()),
                other => panic!("{other:?}"),
            };
            command.env(variable["name"].as_str().unwrap(), value);
        }
        let log = fs_err::File::create(pod.home.path().join("log")).unwrap().into_file();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        command.spawn().unwrap()
    }
}

impl Pod {
    fn signal(&mut self, signal: Signal) {
        let Some(process) = &mut self.process else { return };
        if let Some(group) = Pid::from_raw(process.id() as i32).filter(|_| self.phase == "Running") {
            let _ = kill_process_group(group, signal);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(process) = &mut self.process {
            let _ = process.wait();
        }
    }

    fn log(&self) -> String {
        fs_err::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    fn document(&self, faults: &Faults) -> Value {
        let mut status = json!({ "phase": self.phase });
        if self.phase == "Pending" && faults.has_no_image {
            status["containerStatuses"] = json!([{ "name": "nimctl", "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } } }]);
        } else if self.phase == "Pending" && faults.is_full {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu",
            }]);
        } else if self.phase == "Failed" && faults.has_little_memory {
            status["containerStatuses"] = json!([{
                "name": "nimctl", "state": { "terminated": { "reason": "OOMKilled", "exitCode": 137 } },
            }]);
        }
        if self.is_evicted && self.phase == "Failed" {
            status["conditions"] =
                json!([{ "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI" }]);
        }
        json!({
            "kind": "Pod",
            "metadata": {
                "name": format!("{}-{}-{}", self.job, self.index, self.number),
                "labels": { "nimctl.org/job": self.job, INDEX_LABEL: self.index.to_string() },
                "creationTimestamp": format!("{:020}", self.number),
            },
            "spec": { "nodeName": self.node },
            "status": status,
        })
    }
}

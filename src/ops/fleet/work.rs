//! `work`: answers the requests of a batch on the node that it runs on, one after the other.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::time::Duration;

use super::batches::{OUTAGE, now};
use crate::backend::Backend;
use crate::device::{Device, Host};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::exchange::{Claim, Exchange, ExchangeError};
use crate::fleet::exchange::{
    FailureKind, Node, NodeFacts, Outcome, RESULT_SCHEMA, RemoteBackend, RemoteBuild, RemoteResult, What,
};
use crate::ops::error::JobError;

use crate::ops::resolve::{BackendHere, Backends};
use crate::ops::worker_build::{BuildFailure, WorkerBuild};
use crate::ops::workspace::Workspace;
use crate::process::Cancel;
use crate::profile::{Target, ToolIdentity, capability_tag};
use crate::worker::host::{Answer, Worker};
use crate::worker::protocol::{BuildRequest, Event, Problem};

const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(10);

/// Where a node takes its requests from, and who it is.
#[derive(Clone)]
pub struct WorkOptions<'a> {
    /// The exchange.
    pub exchange: &'a dyn Exchange,
    /// The batch.
    pub batch: String,
    /// The place of the one request in the batch that this process answers; all of them if absent.
    pub only: Option<usize>,
    /// The engine's names for this job and node.
    pub claim: Claim,
    /// The node's GPUs.
    pub host: Host,
}

/// Answers every request of a batch that nobody else has claimed; returns how many it answered.
///
/// # Errors
/// The exchange can't be used. What goes wrong with a request is its result.
pub fn work(
    workspace: &Workspace,
    options: &WorkOptions<'_>,
    on_request: &dyn Fn(&str),
) -> Result<usize, ExchangeError> {
    let WorkOptions { exchange, batch, only, claim, host } = options;
    let exchange = *exchange;
    let backends = Backends::new(workspace);
    let mut site =
        Site { workspace, exchange, host, node: &claim.node, backends: &backends, workers: BTreeMap::new() };
    let mut answered = 0;
    let cancel = &workspace.cancel;
    let requests = patiently(cancel, || exchange.batch(batch))?.requests.into_iter().enumerate();
    let is_ours = |(number, _): &(usize, String)| only.is_none_or(|only| only == *number);
    for (_, id) in requests.filter(is_ours) {
        if workspace.cancel.is_cancelled() {
            break;
        }
        if !patiently(cancel, || exchange.claim(&id, claim))? {
            continue;
        }
        on_request(&id);
        let mut plan = None;
        // Until the result is out, its folder is needed.
        let (outcome, _taken) = match patiently(cancel, || exchange.take(&id)) {
            Ok(taken) => {
                let outcome = match taken.request.what.clone() {
                    What::Describe { backends } => site.describe(&backends),
                    What::Build(build) => site.build(&id, &taken.folder, *build),
                };
                if let Outcome::Built { file, .. } = &outcome {
                    plan = Some(taken.folder.join(file));
                }
                (outcome, Some(taken))
            }
            // It is no better the next time.
            Err(error) if error.is_damage() => (failed(error.kind(), error.to_string()), None),
            Err(error) => return Err(error),
        };
        if matches!(outcome, Outcome::Failed { .. }) {
            // A worker that was ended with this process may be noticed before the signal to it is.
            std::thread::sleep(Duration::from_millis(500));
        }
        // Who ended it starts it again, or says why not.
        if workspace.cancel.is_cancelled() {
            break;
        }
        let node = Node { name: claim.node.clone(), gpus: site.gpu_names() };
        let result = RemoteResult { schema: RESULT_SCHEMA.into(), node, outcome };
        patiently(cancel, || exchange.finish(&id, &result, plan.as_deref()))?;
        answered += 1;
    }
    Ok(answered)
}

/// Does something again and again while a registry is away: what was built is worth the wait.
fn patiently<T>(
    cancel: &Cancel,
    mut attempt: impl FnMut() -> Result<T, ExchangeError>,
) -> Result<T, ExchangeError> {
    let begin = now();
    loop {
        match attempt() {
            Err(error) if error.is_outage() && begin.elapsed() < OUTAGE && !cancel.is_cancelled() => {
                std::thread::sleep(BETWEEN_ATTEMPTS);
            }
            done => return done,
        }
    }
}

/// The node, while it works.
struct Site<'a> {
    workspace: &'a Workspace,
    exchange: &'a dyn Exchange,
    host: &'a Host,
    node: &'a str,
    backends: &'a Backends,
    workers: BTreeMap<String, Worker>,
}

fn failed(kind: ErrorKind, message: String) -> Outcome {
    Outcome::Failed { kind: kind.into(), message }
}

fn of_job(error: &JobError) -> Outcome {
    failed(error.kind, error.message.clone())
}

impl Site<'_> {
    fn gpu_names(&self) -> Vec<String> {
        self.gpus().map(|gpu| gpu.product_name.clone()).collect()
    }

    /// Returns the GPUs that programs may use here.
    fn gpus(&self) -> impl Iterator<Item = &Device> {
        self.host.devices.iter().filter(|device| device.hidden_by.is_none() && !device.is_lost())
    }

    fn describe(&self, names: &[String]) -> Outcome {
        let of_backend = |name: &String| {
            let described = match Backend::new(name) {
                Err(error) => RemoteBackend::NotThere(error.to_string()),
                Ok(backend) => match self.backends.here(&backend) {
                    Ok(BackendHere::Ready(builder)) => RemoteBackend::Ready(builder.abilities),
                    Ok(BackendHere::NotHere(why)) => RemoteBackend::NotThere(why),
                    Ok(BackendHere::NothingToCompile) => RemoteBackend::NotThere("it builds nothing".into()),
                    Err(error) => RemoteBackend::NotThere(JobError::new(error.kind(), error).message),
                },
            };
            (name.clone(), described)
        };
        let backends = names.iter().map(of_backend).collect();
        Outcome::Described(NodeFacts { nimctl_version: env!("CARGO_PKG_VERSION").into(), backends })
    }

    /// Builds a plan into the folder that its request is in.
    fn build(&mut self, id: &str, folder: &Path, build: RemoteBuild) -> Outcome {
        match self.try_build(id, folder, build).unwrap_or_else(|outcome| outcome) {
            // Where the folder is, means nothing to who asked.
            Outcome::Reported(Problem { code, message, needs }) => {
                let message = message.replace(&format!("{}/", folder.display()), "");
                Outcome::Reported(Problem { code, message, needs })
            }
            outcome => outcome,
        }
    }

    fn try_build(&mut self, id: &str, folder: &Path, build: RemoteBuild) -> Result<Outcome, Outcome> {
        let RemoteBuild { backend, toolchain, target, files, request, timeout_ms } = build;
        let node = self.node;
        self.check_gpu(&target)?;
        for (path, sha256) in &files {
            check_file(folder, path, sha256)?;
        }
        let name = Backend::new(&backend).map_err(|error| failed(ErrorKind::Input, error.to_string()))?;
        let builder = match self.backends.here(&name) {
            Ok(BackendHere::Ready(builder)) => builder,
            Ok(BackendHere::NotHere(why)) => {
                return Err(failed(
                    ErrorKind::Unavailable,
                    format!("backend {backend} cannot build on node {node}: {why}"),
                ));
            }
            Ok(BackendHere::NothingToCompile) => {
                return Err(failed(ErrorKind::Input, format!("backend {backend} builds nothing")));
            }
            Err(error) => {
                let error = JobError::new(error.kind(), error);
                return Err(failed(error.kind, format!("node {node}: {}", error.message)));
            }
        };
        if builder.abilities.identity != toolchain {
            let versions = |tools: &BTreeMap<String, ToolIdentity>| {
                let words = tools.iter().map(|(name, tool)| format!("{name} {}", tool.version));
                words.collect::<Vec<_>>().join(", ")
            };
            let message = format!(
                "node {node} has {}, but the executor was described with {}, or their files differ: all nodes of an executor must have the \
                 same libraries; if they were upgraded, run the command again with --refresh-fleet",
                versions(&builder.abilities.identity),
                versions(&toolchain)
            );
            return Err(failed(ErrorKind::Refused, message));
        }
        if let Some(why) = builder.abilities.refusal(&target) {
            let message = format!("backend {backend} cannot build this profile on node {node}: {why}");
            return Err(failed(ErrorKind::Unavailable, message));
        }
        let BuildRequest { graph, plan, compute_capabilities, shape_ranges, workspace_mib } = request;
        // The engine may have started this job again elsewhere, and think that this process is dead.
        let file = format!("{}-{}-{}", node, std::process::id(), plan.display());
        let plan = folder.join(&file);
        let request = BuildRequest {
            graph: folder.join(graph),
            plan: plan.clone(),
            compute_capabilities,
            shape_ranges,
            workspace_mib,
        };
        let mut warnings = Vec::new();
        let exchange = self.exchange;
        let mut on_event = |event: Event| {
            // What can't be told is no reason to stop.
            let _ = exchange.tell(id, &event);
            if let Event::Warning(warning) = event {
                warnings.push(warning.message);
            }
        };
        let mut worker = WorkerBuild {
            command: &builder.command,
            timeout: Duration::from_millis(timeout_ms),
            workers: &mut self.workers,
            cancel: &self.workspace.cancel,
        };
        let answer = worker.run(request, &mut on_event).map_err(|failure| match failure {
            BuildFailure::Plan(error) => of_job(&error),
            BuildFailure::Worker(error) => match error.problem() {
                Some(problem) => Outcome::Reported(problem),
                None => of_job(&JobError::from(error)),
            },
        })?;
        let Answer { result, peak_memory_bytes } = answer;
        let digest = fs_err::File::open(&plan).and_then(|mut file| {
            file.sync_all()?;
            Sha256::of_reader(&mut file)
        });
        let (digest, _) = digest.map_err(|error| failed(ErrorKind::Unavailable, error.to_string()))?;
        Ok(Outcome::Built { answer: result, peak_memory_bytes, warnings, file, plan: digest })
    }

    /// Refuses a node with GPUs of which none is what the plan is for: it has the wrong label.
    fn check_gpu(&self, target: &Target) -> Result<(), Outcome> {
        let is_right = |device: &Device| match (target, device.compute_capability) {
            (Target::Gpu { name, compute_capability: _ }, _) => {
                device.known().is_some_and(|gpu| gpu.name == *name)
            }
            (Target::ComputeCapabilities(wanted), Some(capability)) => wanted.contains(&capability),
            (Target::ComputeCapabilities(_), None) => false,
            (Target::Generic, _) => true,
        };
        let mut gpus = self.gpus().peekable();
        if gpus.peek().is_none() || gpus.any(is_right) {
            return Ok(());
        }
        let wanted = match target {
            Target::Gpu { name, compute_capability } => format!("{name} ({compute_capability})"),
            other => format!(
                "compute capability {}",
                capability_tag(&other.compute_capabilities()).replace('+', " or ")
            ),
        };
        let words = |device: &Device| match device.compute_capability {
            Some(capability) => format!("{} ({capability})", device.product_name),
            None => device.product_name.clone(),
        };
        let message = format!(
            "node {} has {}, and this profile is for {wanted}: correct the node's label, or the executor's `offers`",
            self.node,
            self.gpus().map(words).collect::<Vec<_>>().join(", ")
        );
        Err(Outcome::Failed { kind: FailureKind::Refused, message })
    }
}

/// Checks a file of a request.
fn check_file(folder: &Path, path: &str, sha256: &Sha256) -> Result<(), Outcome> {
    let is_inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Err(failed(
            ErrorKind::Input,
            format!("the request has a file outside of its folder: {path}"),
        ));
    }
    let read = || Sha256::of_reader(&mut fs_err::File::open(folder.join(path))?);
    match read() {
        Ok((found, _)) if found == *sha256 => Ok(()),
        Ok(_) => Err(failed(
            ErrorKind::Unavailable,
            format!("{path} changed after it was written (SHA-256 mismatch)"),
        )),
        Err(error) => Err(failed(ErrorKind::Unavailable, error.to_string())),
    }
}

//! Compiles lowered graphs on the nodes of an executor.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use super::compile::{self, Built, PLAN_FILE};
use super::compile_failed::compile_failed;
use super::{Context, Records};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::fleet::exchange::{Node, Outcome, REQUEST_SCHEMA, RemoteBuild, RemoteRequest, RemoteResult, What};
use crate::onnx::GraphDigest;
use crate::ops::error::JobError;
use crate::ops::event::BuildEvent;
use crate::ops::fleet::{Asked, Batches, FleetFailure, Happening};
use crate::profile::{ProfileSpec, Target};
use crate::store::StoreError;
use crate::worker::error::WorkerError;
use crate::worker::protocol::{Event, Problem};
use crate::worklist::{Action, BuildRecord, BuiltOn, Job};

/// The folder of a request with the graph.
const GRAPH: &str = "graph";

/// A job on its way.
struct Remote<'a> {
    job: &'a Job,
    backend: &'a str,
    lowered: &'a BuildRecord,
    /// When a node began with it; before that, when it was handed in.
    start: Instant,
}

/// Runs jobs on an executor; `lowered` has the records of what they compile.
pub(super) fn run(executor: &str, jobs: Vec<&Job>, lowered: &Records, context: &Context<'_>) -> Records {
    let mut finished = Records::new();
    let mut remotes: BTreeMap<String, Remote<'_>> = BTreeMap::new();
    for job in jobs {
        match begin(job, lowered) {
            Ok(remote) => {
                (context.on_event)(BuildEvent::JobStarted { title: job.title() });
                remotes.insert(job.key.to_hex(), remote);
            }
            Err(error) => finish(job, Err(error), context, &mut finished),
        }
    }
    let used = context.workspace.fleet.as_ref();
    let found = used.and_then(|used| Some((used, used.fleet.executors.get(executor)?)));
    let Some((used, described)) = found else { return finished };
    let ran = used.with(executor, described, context.workspace, |batches| {
        watch(batches, &mut remotes, context, &mut finished);
    });
    if let Err(failure) = ran {
        for remote in remotes.into_values() {
            finish(remote.job, Err(failure.clone().into()), context, &mut finished);
        }
    }
    finished
}

fn begin<'a>(job: &'a Job, lowered: &'a Records) -> Result<Remote<'a>, JobError> {
    let missing = |what: &str| JobError::new(ErrorKind::Bug, std::io::Error::other(what.to_owned()));
    let Action::Compile(backend) = &job.document.action else { return Err(missing("it is no compilation")) };
    let lowered = match job.input.and_then(|key| lowered.get(&key)) {
        Some(Ok(record)) => record,
        Some(Err(error)) => return Err(error.clone()),
        None => return Err(missing("the lowered graph is missing")),
    };
    Ok(Remote { job, backend, lowered, start: now() })
}

#[expect(clippy::disallowed_methods, reason = "a job is timed")]
fn now() -> Instant {
    Instant::now()
}

fn watch(
    batches: &Batches<'_>,
    remotes: &mut BTreeMap<String, Remote<'_>>,
    context: &Context<'_>,
    finished: &mut Records,
) {
    let exchange = batches.exchange();
    let mut asked = Vec::new();
    for (id, &Remote { job, backend, lowered, .. }) in remotes.iter() {
        let name = id.clone();
        let put = move || put(&name, job, backend, lowered, batches, context);
        asked.push(Asked { id: id.clone(), put: Box::new(put) });
    }
    batches.run(asked, &mut |id, happening| {
        let Some(remote) = remotes.get_mut(id) else { return };
        let title = remote.job.title();
        let stage = |stage: String| (context.on_event)(BuildEvent::JobStage { title: title.clone(), stage });
        match happening {
            Happening::Waits(reason) => (context.on_event)(BuildEvent::JobWaits {
                title: title.clone(),
                executor: batches.name.into(),
                reason: reason.into(),
            }),
            Happening::On(node) => {
                remote.start = now();
                (context.on_event)(BuildEvent::JobOnNode {
                    title: title.clone(),
                    executor: batches.name.into(),
                    node: node.into(),
                });
            }
            Happening::Told(Event::Progress(progress)) => stage(progress.stage),
            Happening::Told(Event::Warning(warning)) => {
                compile::tell(&title, warning.message, context);
            }
            Happening::Told(Event::Result(_) | Event::Error(_)) => {}
            Happening::Again(why) => {
                let message = format!("{title}: executor {}: {why}", batches.name);
                (context.on_event)(BuildEvent::Warning { message });
            }
            Happening::Done(result) => {
                // What has no result may still run; what was given up is removed already.
                let mut is_taken = result.is_ok();
                let result = result.map_err(JobError::from).and_then(|result| {
                    let taken = take(id, remote, result, batches, context);
                    taken.map_err(|failure| match failure {
                        NotTaken::Answered(error) => error,
                        // The plan is still there for the next command.
                        NotTaken::Here(error) => {
                            is_taken = false;
                            super::space::told_if_full(error, remote.job, Some(remote.lowered), context)
                        }
                    })
                });
                if is_taken {
                    let _ = exchange.remove(id);
                }
                finish(remote.job, result, context, finished);
            }
        }
    });
}

fn finish(job: &Job, result: Result<BuildRecord, JobError>, context: &Context<'_>, finished: &mut Records) {
    super::tell_end(job, &result, context);
    finished.insert(job.key, result);
}

/// Puts a job into the exchange.
fn put(
    id: &str,
    job: &Job,
    backend: &str,
    lowered: &BuildRecord,
    batches: &Batches<'_>,
    context: &Context<'_>,
) -> Result<(), FleetFailure> {
    let Batches { name, .. } = batches;
    let exchange = batches.exchange();
    let of_exchange = FleetFailure::of_exchange(name);
    let staged = exchange.stage().map_err(&of_exchange)?;
    let graph = staged.path().join("content").join(GRAPH);
    let laid_out = context.store.lay_out(&lowered.outputs, &graph);
    laid_out.map_err(|error| {
        // It is written into the shared folder, which has no room or is gone.
        let kind = if let StoreError::Io { .. } = error { ErrorKind::Unavailable } else { error.kind() };
        FleetFailure::new(
            name,
            kind,
            format!("the request cannot be put in: {}", JobError::from(error).message),
        )
    })?;
    let files: BTreeMap<String, Sha256> =
        lowered.outputs.iter().map(|output| (format!("{GRAPH}/{}", output.path), output.sha256)).collect();
    let profiles = &context.resolved.recipe().profiles;
    let is_user = |spec: &&ProfileSpec| {
        let place = context.resolved.places.get(&spec.name());
        job.users.iter().any(|user| user.profile == spec.name())
            && place.is_some_and(|place| place.executor == *name)
    };
    let spec = profiles.iter().find(is_user);
    let abilities = spec.and_then(|spec| context.resolved.places.get(&spec.name())?.abilities());
    // GPUs of one compute capability share a plan that is not tuned on one of them.
    let target = match (spec, abilities) {
        (Some(spec), Some(abilities)) if abilities.gpus.is_some() => spec.target.clone(),
        _ => Target::ComputeCapabilities(job.document.compute_capabilities.clone()),
    };
    let build = RemoteBuild {
        backend: backend.into(),
        // As the node described itself: the key's has more in it.
        toolchain: abilities.map(|abilities| abilities.identity.clone()).unwrap_or_default(),
        target,
        files,
        request: compile::request(job, [GRAPH, GraphDigest::MODEL_PATH].iter().collect(), PLAN_FILE.into()),
        timeout_ms: u64::try_from(context.workspace.job_timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let request = RemoteRequest { schema: REQUEST_SCHEMA.into(), what: What::Build(Box::new(build)) };
    exchange.put(id, &staged, &request).map_err(of_exchange)
}

/// Why a result is not in the store.
enum NotTaken {
    /// It is no plan, or not the one that it says.
    Answered(JobError),
    /// The plan can't be copied or added to the store.
    Here(JobError),
}

/// Takes the plan of a result into the store.
fn take(
    id: &str,
    remote: &mut Remote<'_>,
    result: RemoteResult,
    batches: &Batches<'_>,
    context: &Context<'_>,
) -> Result<BuildRecord, NotTaken> {
    let Remote { job, backend, lowered, start } = remote;
    let RemoteResult { schema: _, node, outcome } = result;
    let failed = |kind, message: String| {
        NotTaken::Answered(JobError::from(FleetFailure::new(batches.name, kind, message)))
    };
    let (answer, peak_memory_bytes, warnings, file, plan_sha256) = match outcome {
        Outcome::Built { answer, peak_memory_bytes, warnings, file, plan } => {
            (answer, peak_memory_bytes, warnings, file, plan)
        }
        Outcome::Reported(Problem { code, message, needs }) => {
            // As the node names it.
            let graph: PathBuf = [GRAPH, GraphDigest::MODEL_PATH].iter().collect();
            let error =
                WorkerError::Reported { backend: (*backend).into(), request: "build", code, message, needs };
            return Err(NotTaken::Answered(compile_failed(job, context, &graph, error)));
        }
        Outcome::Failed { kind, message } => return Err(failed(kind.into(), message)),
        Outcome::Described(_) => {
            return Err(failed(ErrorKind::Bug, "the node answered a different request".into()));
        }
    };
    if Path::new(&file).components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(failed(
            ErrorKind::Refused,
            format!("the node names a plan outside of its request: {file}"),
        ));
    }
    let here = |error: JobError| NotTaken::Here(error);
    let work = context.store.work_folder().map_err(|error| here(error.into()))?;
    let plan = work.path().join(PLAN_FILE);
    let fetched = batches.exchange().fetch(id, &file, (plan_sha256, answer.plan_size_bytes), &plan);
    fetched.map_err(|error| here(JobError::new(error.kind(), error)))?;
    let read = || Ok(Sha256::of_reader(&mut fs_err::File::open(&plan)?)?.0);
    let found = read().map_err(|error: std::io::Error| here(JobError::new(ErrorKind::Unavailable, error)))?;
    if found != plan_sha256 {
        let message = format!(
            "the plan in the exchange has {found}, but node {} wrote {plan_sha256}: does every node see the same folder?",
            node.name
        );
        return Err(failed(ErrorKind::Refused, message));
    }
    // Where nothing was told meanwhile, the result has all of it.
    if batches.exchange().told(id, &mut 0).is_none() {
        for warning in &warnings {
            compile::tell(&job.title(), warning.clone(), context);
        }
    }
    let Node { name, gpus } = node;
    let node = Some(BuiltOn { executor: batches.name.into(), node: Node { name, gpus } });
    let built = Built { result: answer, peak_memory_bytes, warnings, start: *start, node };
    let record =
        compile::record(job, backend, lowered, &plan, built, context).map_err(|error| match error.kind {
            ErrorKind::Refused => NotTaken::Answered(error),
            _ => here(error),
        })?;
    context.store.remember(job, &record).map_err(|error| here(error.into()))?;
    Ok(record)
}

//! Compiles one lowered graph into a plan, in a worker.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use super::compile_failed::compile_failed;
use super::{Context, backend_of};
use crate::backend::facts_of;
use crate::error_kind::ErrorKind;
use crate::onnx::GraphDigest;
use crate::ops::error::{JobError, WrongPlan, WrongWorker};
use crate::ops::event::BuildEvent;
use crate::ops::resolve::BackendHere;
use crate::plan::{PlanHeader, read_layers};
use crate::profile::capability_tag;
use crate::quantization::InPlan;
use crate::worker::host::{Limits, Worker};
use crate::worker::protocol::{BuildRequest, Event};
use crate::worklist::{BUILD_RECORD_SCHEMA, BuildKeyDocument, BuildRecord, Job, Measurements, Timings};

/// The name of a plan inside its graph's folder of a profile.
const PLAN_FILE: &str = "model.plan";

/// Compiles a lowered graph with a worker of this thread, starting one where none is healthy.
pub(super) fn run(
    job: &Job,
    backend: &str,
    lowered: &BuildRecord,
    workers: &mut BTreeMap<String, Worker>,
    context: &Context<'_>,
) -> Result<BuildRecord, JobError> {
    #[expect(clippy::disallowed_methods, reason = "a job is timed")]
    let start = Instant::now();
    let Some(BackendHere::Ready(builder)) = backend_of(job, context) else {
        return Err(JobError::new(
            ErrorKind::Bug,
            std::io::Error::other(format!("backend {backend} was not probed")),
        ));
    };
    let work = context.store.work_folder()?;
    // Apart from the plan: files of a graph have names of their own.
    let graph_folder = work.path().join("graph");
    context.store.lay_out(&lowered.outputs, &graph_folder)?;
    let plan = work.path().join(PLAN_FILE);
    // What a compiler is told: a field of the key that it must know is passed on here. The others are what it works on (the
    // lowered graph), what it is (backend, toolchain) and where it runs.
    let BuildKeyDocument {
        schema: _,
        action: _,
        graph: _,
        lowering: _,
        lowering_version: _,
        toolchain: _,
        compute_capabilities,
        tuned_on: _,
        shape_ranges,
        workspace_mib,
    } = job.document.clone();
    let graph = graph_folder.join(GraphDigest::MODEL_PATH);
    let request = BuildRequest {
        graph: graph.clone(),
        plan: plan.clone(),
        compute_capabilities,
        shape_ranges,
        workspace_mib,
    };
    workers.retain(|_, worker| worker.is_healthy());
    if !workers.contains_key(backend) {
        let limits = Limits { request_timeout: context.workspace.job_timeout, ..Limits::default() };
        let worker = Worker::spawn(&builder.command, limits)?;
        check_worker(backend, &worker)?;
        workers.insert(backend.to_owned(), worker);
    }
    let worker = workers.get_mut(backend).expect("a worker was just put there");
    let title = job.title();
    let mut warnings = Vec::new();
    let mut warn = |message: String| {
        (context.on_event)(BuildEvent::Warning { message: format!("{title}: {message}") });
        warnings.push(message);
    };
    let answer = worker.build(request, &context.workspace.cancel, &mut |event| match event {
        Event::Progress(progress) => {
            (context.on_event)(BuildEvent::JobStage { title: title.clone(), stage: progress.stage });
        }
        Event::Warning(warning) => warn(warning.message),
        Event::Result(_) | Event::Error(_) => {}
    });
    let answer = answer.map_err(|error| compile_failed(job, context, &graph, error))?;
    check_file(&plan, answer.result.plan_size_bytes, backend)?;
    let header = check_plan(job, backend, &plan)?;
    let layers = read_layers(&plan).map_err(|error| JobError::new(ErrorKind::Unavailable, error))?;
    if let (Some(quantized), Some(quantization)) =
        (&lowered.quantization, &job.document.lowering.quantization)
    {
        let plan = header.as_ref().zip(layers.as_ref());
        let in_plan = InPlan::of(&quantization.options, &quantized.report, plan);
        in_plan.fallbacks().into_iter().chain(in_plan.unknowns()).for_each(&mut warn);
    }
    // What it told on the way need not be told again.
    warnings.extend(answer.result.warnings);
    let output = context.store.adopt(&plan, PLAN_FILE)?;
    Ok(BuildRecord {
        schema: BUILD_RECORD_SCHEMA.into(),
        key: job.key,
        document: job.document.clone(),
        outputs: vec![output],
        measurements: Some(Measurements {
            timings: Timings {
                total_ms: start.elapsed().as_millis() as u64,
                parse_ms: Some(answer.result.parse_ms),
                build_ms: Some(answer.result.build_ms),
            },
            peak_memory_bytes: answer.peak_memory_bytes,
        }),
        plan: header,
        plan_layers: layers,
        lowering: None,
        mixed_precision: None,
        quantization: None,
        warnings,
    })
}

/// Checks that a worker makes plans as this nimctl takes for granted in build keys.
fn check_worker(backend: &str, worker: &Worker) -> Result<(), JobError> {
    let (expected, found) = (facts_of(backend).build_revision, worker.description().build_revision);
    if expected == 0 || found == expected {
        return Ok(());
    }
    Err(JobError::new(ErrorKind::Refused, WrongWorker { backend: backend.to_owned(), found, expected }))
}

/// Checks that a worker wrote the plan that it says it wrote: a file of its own, of this size in bytes.
fn check_file(plan: &Path, said_bytes: u64, backend: &str) -> Result<(), JobError> {
    let wrong = |what: String| {
        JobError::new(ErrorKind::Unavailable, WrongPlan::NotWritten { backend: backend.to_owned(), what })
    };
    let metadata = match fs_err::symlink_metadata(plan) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(wrong("is missing".into())),
        Err(error) => return Err(JobError::new(ErrorKind::Unavailable, error)),
    };
    match metadata.len() {
        _ if metadata.is_symlink() => Err(wrong("is a link".into())),
        _ if !metadata.is_file() => Err(wrong("is not a regular file".into())),
        0 => Err(wrong("is empty".into())),
        found if found != said_bytes => {
            Err(wrong(format!("has {found} bytes, but the backend reported {said_bytes}")))
        }
        _ => Ok(()),
    }
}

/// Reads a plan's header, and checks that it is what was asked for where the backend's plans have one.
fn check_plan(job: &Job, backend: &str, plan: &Path) -> Result<Option<PlanHeader>, JobError> {
    let header = PlanHeader::read(plan).map_err(|error| JobError::new(ErrorKind::Unavailable, error))?;
    if !facts_of(backend).has_plan_header {
        return Ok(header);
    }
    let Some(header) = header else {
        return Err(JobError::new(ErrorKind::Refused, WrongPlan::NoHeader));
    };
    // What has no name is no capability that could be asked for.
    let PlanHeader { builder_version, compute_capabilities, unknown_target_bits: _ } = &header;
    let asked = &job.document.compute_capabilities;
    let version = job.document.toolchain.get(backend).map_or("", |tool| &tool.version);
    if compute_capabilities != asked || builder_version != version {
        return Err(JobError::new(
            ErrorKind::Refused,
            WrongPlan::Header {
                found_version: builder_version.clone(),
                found: capability_tag(compute_capabilities),
                version: version.to_owned(),
                asked: capability_tag(asked),
            },
        ));
    }
    Ok(Some(header))
}

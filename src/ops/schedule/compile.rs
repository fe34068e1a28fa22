//! Compiles one lowered graph into a plan, in a worker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::compile_failed::compile_failed;
use super::{Context, backend_of};
use crate::backend::facts_of;
use crate::error_kind::ErrorKind;
use crate::onnx::GraphDigest;
use crate::ops::error::{JobError, WrongPlan};
use crate::ops::event::BuildEvent;
use crate::ops::resolve::BackendHere;
use crate::ops::worker_build::{BuildFailure, WorkerBuild};
use crate::ops::workspace::Workspace;
use crate::plan::{PlanHeader, read_layers};
use crate::profile::capability_tag;
use crate::quantization::InPlan;
use crate::worker::host::{Answer, Worker};
use crate::worker::protocol::{BuildRequest, BuildResult, Event};
use crate::worklist::{
    BUILD_RECORD_SCHEMA, BuildKeyDocument, BuildRecord, BuiltOn, Job, Measurements, Timings,
};

/// The name of a plan inside its graph's folder of a profile.
pub(super) const PLAN_FILE: &str = "model.plan";

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
    let graph = graph_folder.join(GraphDigest::MODEL_PATH);
    let request = request(job, graph.clone(), plan.clone());
    let title = job.title();
    let mut warnings = Vec::new();
    let Workspace { job_timeout, cancel, .. } = context.workspace;
    let mut build = WorkerBuild { command: &builder.command, timeout: *job_timeout, workers, cancel };
    let answer = build.run(request, &mut |event| match event {
        Event::Progress(progress) => {
            (context.on_event)(BuildEvent::JobStage { title: title.clone(), stage: progress.stage });
        }
        Event::Warning(warning) => warnings.push(tell(&title, warning.message, context)),
        Event::Result(_) | Event::Error(_) => {}
    });
    let answer = answer.map_err(|error| match error {
        BuildFailure::Worker(error) => compile_failed(job, context, &graph, error),
        BuildFailure::Plan(error) => error,
    })?;
    let Answer { result, peak_memory_bytes } = answer;
    let built = Built { result, peak_memory_bytes, warnings, start, node: None };
    record(job, backend, lowered, &plan, built, context)
}

/// Warns of what a compiler says of a job; returns it.
pub(super) fn tell(title: &str, message: String, context: &Context<'_>) -> String {
    (context.on_event)(BuildEvent::Warning { message: format!("{title}: {message}") });
    message
}

/// Returns what a compiler is asked for.
pub(super) fn request(job: &Job, graph: PathBuf, plan: PathBuf) -> BuildRequest {
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
    BuildRequest { graph, plan, compute_capabilities, shape_ranges, workspace_mib }
}

/// A plan that a worker wrote, here or elsewhere.
pub(super) struct Built {
    /// What the worker says.
    pub(super) result: BuildResult,
    /// Its peak memory.
    pub(super) peak_memory_bytes: Option<u64>,
    /// What was warned of already.
    pub(super) warnings: Vec<String>,
    /// When the job began.
    pub(super) start: Instant,
    /// Where, if not here.
    pub(super) node: Option<BuiltOn>,
}

/// Checks a plan, adds it to the store, and returns what is remembered of the job.
pub(super) fn record(
    job: &Job,
    backend: &str,
    lowered: &BuildRecord,
    plan: &Path,
    built: Built,
    context: &Context<'_>,
) -> Result<BuildRecord, JobError> {
    let Built { result, peak_memory_bytes, mut warnings, start, node } = built;
    let header = check_plan(job, backend, plan)?;
    let layers = read_layers(plan).map_err(|error| JobError::new(ErrorKind::Unavailable, error))?;
    if let (Some(quantized), Some(quantization)) =
        (&lowered.quantization, &job.document.lowering.quantization)
    {
        let plan = header.as_ref().zip(layers.as_ref());
        let in_plan = InPlan::of(&quantization.options, &quantized.report, plan);
        let title = job.title();
        let told = in_plan.fallbacks().into_iter().chain(in_plan.unknowns());
        warnings.extend(told.map(|message| tell(&title, message, context)));
    }
    // What it told on the way need not be told again.
    warnings.extend(result.warnings);
    let output = context.store.adopt(plan, PLAN_FILE)?;
    Ok(BuildRecord {
        schema: BUILD_RECORD_SCHEMA.into(),
        key: job.key,
        document: job.document.clone(),
        outputs: vec![output],
        measurements: Some(Measurements {
            timings: Timings {
                total_ms: start.elapsed().as_millis() as u64,
                parse_ms: Some(result.parse_ms),
                build_ms: Some(result.build_ms),
            },
            peak_memory_bytes,
            node,
        }),
        plan: header,
        plan_layers: layers,
        lowering: None,
        mixed_precision: None,
        quantization: None,
        warnings,
    })
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

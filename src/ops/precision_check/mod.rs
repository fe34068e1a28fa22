//! The check that `build` runs by itself: each lowered graph, with its precision emulated, against its FP32 graph in ONNX
//! Runtime, on the recipe's samples (seeded ones where it has none), in the opt shapes, and in the max shapes with as many rows.
//!
//! It costs two runs of a graph in each shape and is bounded in time and memory; what it found is kept in the store, so that the
//! next build doesn't run it again. It never fails a build: what it finds is a warning, with the nodes that lose the numbers
//! ([`parting`]) and what to write in the recipe.

mod cases;
mod pair;
mod parting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cases::{Case, cases, without_more_rows};
use pair::Pair;
use serde::Serialize;

use super::error::PipelineError;
use super::event::{BuildEvent, OnEvent};
use super::resolve::Resolved;
use super::run_identity::RunIdentity;
use super::runners::{Runners, Way};
use super::samples::{SampleIdentity, Subject, identify};
use super::workspace::Workspace;
use crate::canonical::{self, ExactFloat};
use crate::digest::Sha256;
use crate::onnx::{GraphDigest, LOWERING_VERSION, LoweringOptions, Precision};
use crate::precision_check::{CheckedOutput, PrecisionCheck, SkippedShapes};
use crate::shape_range::ShapeRange;
use crate::store::Store;
use crate::worker::error::WorkerError;
use crate::worker::protocol::Execution;
use crate::worklist::{Action, BuildKey, Job};

/// The schema of the key. Raised whenever equal graphs and samples start to give another result.
const KEY_SCHEMA: &str = "nimctl.precision-check-key/1";
/// The maximum time for one run of a graph.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// A lowered graph, and what came of its check.
#[derive(Clone, Debug)]
pub struct CheckedGraph {
    /// What people call the lowering: `text: lower to fp16`.
    pub title: String,
    /// The graph.
    pub graph: String,
    /// The precision.
    pub precision: Precision,
    /// The profiles that use the lowered graph.
    pub profiles: Vec<String>,
    /// What came of it.
    pub outcome: CheckOutcome,
}

/// What came of a check.
#[derive(Clone, Debug)]
pub enum CheckOutcome {
    /// It ran now, or in an earlier build of the same.
    Checked(PrecisionCheck),
    /// It was not run, for this reason.
    Skipped(String),
}

/// Everything that decides what comes of a check.
#[derive(Serialize)]
struct Key<'a> {
    schema: &'static str,
    graph: &'a GraphDigest,
    lowering: &'a LoweringOptions,
    lowering_version: u32,
    gate: ExactFloat,
    /// The outputs that have a tolerance of their own instead of the gate.
    with_tolerance: BTreeSet<&'a str>,
    /// The samples in the opt shapes, and the shapes that they are made in.
    samples: BTreeMap<String, SampleIdentity>,
    shape_ranges: &'a BTreeMap<String, ShapeRange>,
    runtime: &'a RunIdentity,
}

/// Checks the lowered graphs of a build: those of the jobs in `lowered`.
///
/// # Errors
/// The user's stop, and a store that can't be used; nothing else.
pub(super) fn run_all(
    workspace: &Workspace,
    resolved: &Resolved,
    store: &Store,
    lowered: &dyn Fn(&BuildKey) -> bool,
    on_event: OnEvent<'_>,
) -> Result<Vec<CheckedGraph>, PipelineError> {
    let is_lowering = |job: &&Job| {
        matches!(job.document.action, Action::Lower)
            && job.document.lowering.precision != Precision::Fp32
            // What was found by running it was compared with its FP32 graph on the way.
            && job.document.lowering.quantization.is_none()
            && lowered(&job.key)
    };
    let jobs: Vec<&Job> = resolved.jobs.iter().map(|(job, _)| job).filter(is_lowering).collect();
    let mut checked = Vec::new();
    if jobs.is_empty() {
        return Ok(checked);
    }
    let way = Runners::new(&resolved.backends, &Execution::default()).for_graphs();
    let way = way.map_err(|error| no_runtime(&error));
    for job in jobs {
        if workspace.cancel.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let outcome = match &way {
            Ok(way) => one(job, way, workspace, resolved, store, on_event)?,
            Err(reason) => CheckOutcome::Skipped(reason.clone()),
        };
        checked.push(CheckedGraph {
            title: job.title(),
            graph: job.graph.clone(),
            precision: job.document.lowering.precision,
            profiles: job.users.iter().map(|user| user.profile.clone()).collect(),
            outcome,
        });
    }
    Ok(checked)
}

/// Says shortly why ONNX Runtime can't be used.
fn no_runtime(error: &PipelineError) -> String {
    match error {
        PipelineError::Worker { source: WorkerError::NotFound { .. }, .. } => {
            "there is no onnxruntime worker on this machine".into()
        }
        PipelineError::Toolchain { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

fn one(
    job: &Job,
    way: &Way,
    workspace: &Workspace,
    resolved: &Resolved,
    store: &Store,
    on_event: OnEvent<'_>,
) -> Result<CheckOutcome, PipelineError> {
    let demands = &resolved.recipe().validation;
    let with_tolerance: BTreeSet<&str> = demands
        .tolerances
        .keys()
        .filter_map(|place| place.strip_prefix(&job.graph)?.strip_prefix('/'))
        .collect();
    let subject = resolved.subject(&job.graph);
    let samples = match identify(&subject) {
        Ok(samples) => samples,
        Err(error) => return Ok(CheckOutcome::Skipped(error.to_string())),
    };
    let runtime = RunIdentity::of(way);
    let key: Sha256 = canonical::digest(&Key {
        schema: KEY_SCHEMA,
        graph: &resolved.digests[&job.graph],
        lowering: &job.document.lowering,
        lowering_version: LOWERING_VERSION,
        gate: ExactFloat(demands.thresholds.row_cosine),
        with_tolerance: with_tolerance.clone(),
        samples,
        shape_ranges: subject.shapes,
        runtime: &runtime,
    })?;
    if let Some(known) = store.precision_check(&key)? {
        return Ok(CheckOutcome::Checked(known));
    }
    let title = format!("{}: {} against fp32", job.graph, job.document.lowering.precision);
    on_event(BuildEvent::JobStarted { title: title.clone() });
    let stage = |stage: String| on_event(BuildEvent::JobStage { title: title.clone(), stage });
    let limits = Workspace { job_timeout: workspace.job_timeout.min(RUN_TIMEOUT), ..workspace.clone() };
    let work = store.work_folder()?;
    let shapes = without_more_rows(&subject.file.inputs(), subject.shapes);
    let subject = Subject { shapes: &shapes, ..subject };
    let pair = Pair::new(&subject, &job.document.lowering, way, &limits, work.path());
    let found = compare(pair, demands.thresholds.row_cosine, &with_tolerance, &stage);
    on_event(BuildEvent::JobEnded { title: title.clone() });
    if workspace.cancel.is_cancelled() {
        return Err(PipelineError::Cancelled);
    }
    Ok(match found {
        Ok(check) => {
            resolved.graphs[&job.graph].check_unchanged(&job.graph)?;
            store.put_precision_check(&key, &check)?;
            CheckOutcome::Checked(check)
        }
        Err(reason) => CheckOutcome::Skipped(reason),
    })
}

/// Runs both graphs in every shape, and finds where they part ways if they do. The error says in words why nothing is known.
fn compare(
    mut pair: Pair<'_>,
    gate: f64,
    with_tolerance: &BTreeSet<&str>,
    stage: &dyn Fn(String),
) -> Result<PrecisionCheck, String> {
    let mut check = PrecisionCheck { gate, outputs: Vec::new(), skipped: Vec::new(), parting: None };
    let mut worst: Option<Case> = None;
    for case in cases(pair.subject) {
        let name = case.name();
        if let Some(reason) = case.too_large(&pair) {
            check.skipped.push(SkippedShapes { shapes: name.into(), reason });
            continue;
        }
        stage(format!("{name} shapes"));
        let cosines = match pair.cosines_of_outputs(case, pair.lowering.clone()) {
            Ok(cosines) => cosines,
            // What runs in the opt shapes says enough.
            Err(reason) if case != Case::Opt => {
                check.skipped.push(SkippedShapes { shapes: name.into(), reason });
                continue;
            }
            Err(reason) => return Err(reason),
        };
        let cosines = cosines.into_iter().filter(|(output, _)| !with_tolerance.contains(output.as_str()));
        for (output, row_cosine) in cosines {
            if row_cosine < gate && worst.is_none() {
                worst = Some(case);
            }
            check.outputs.push(CheckedOutput { shapes: name.into(), output, row_cosine });
        }
    }
    if let Some(case) = worst {
        stage("looking for the nodes that lose the numbers".into());
        check.parting = Some(parting::find(&mut pair, case, gate, with_tolerance));
    }
    Ok(check)
}

//! The worklist: which jobs a recipe's profiles need, and why each one must run.
//!
//! A pure function of the profiles, the graphs' digests, the toolchain and what the store already has; nothing is
//! built here. Profiles that need the same plan share one job (eight GPUs of one compute capability, say).

mod build_key;
mod rebuild_reason;
mod record;

use std::collections::BTreeMap;

pub use build_key::{
    Action, BUILD_KEY_SCHEMA, BuildKey, BuildKeyDocument, FieldChange, changes, changes_between,
};
pub use rebuild_reason::JobReason;
pub use record::{BUILD_RECORD_SCHEMA, BuildRecord, BuiltOn, Measurements, OutputFile, Timings};

use crate::backend::Builds;
use crate::canonical::NotCanonical;
use crate::digest::Sha256;
use crate::onnx::{GraphDigest, LOWERING_VERSION, LoweringOptions, lower};
use crate::profile::{ProfileSpec, Target, ToolIdentity, capability_tag};
use crate::shape_range::ShapeRange;

/// One unit of work: one graph, lowered or compiled once.
#[derive(Clone, Debug)]
pub struct Job {
    /// The digest of the document.
    pub key: BuildKey,
    /// Everything that goes in.
    pub document: BuildKeyDocument,
    /// The name of the graph, or of the first of those that have the same bytes.
    pub graph: String,
    /// For a compilation: the lowering whose output it compiles.
    pub input: Option<BuildKey>,
    /// The profiles that use the output, and under which place the history of each is kept.
    pub users: Vec<JobUser>,
}

/// A profile that uses a job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobUser {
    /// The profile's name.
    pub profile: String,
    /// Which of its graphs.
    pub graph: String,
    /// Where the last key is remembered: the same place, built anew, is what "changed" compares with.
    pub place: String,
}

/// Whether a job must run.
#[derive(Clone, Debug)]
pub enum JobState {
    /// The store has the output.
    UpToDate(Box<BuildRecord>),
    /// It must run.
    MustRun(JobReason),
}

/// What jobs are made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The model's name; keeps the history of two recipes apart.
    pub model: &'a str,
    /// Digests of the source graphs, by name.
    pub graphs: &'a BTreeMap<String, GraphDigest>,
    /// Shape ranges by graph and input.
    pub shape_ranges: &'a BTreeMap<String, BTreeMap<String, ShapeRange>>,
    /// How a profile's graph is lowered, by profile and graph, where that is not what the recipe alone says.
    pub lowerings: &'a BTreeMap<(String, String), LoweringOptions>,
    /// Versions and digests of the libraries that compile a profile, by the profile's name.
    pub toolchains: &'a BTreeMap<String, BTreeMap<String, ToolIdentity>>,
}

impl Job {
    /// Returns what a person calls it: `vision: tensorrt-rtx for 8.9, fp16`.
    pub fn title(&self) -> String {
        // A title is short: what the document has beside is in the reason why the job runs.
        let BuildKeyDocument {
            schema: _,
            action,
            graph: _,
            lowering,
            lowering_version: _,
            toolchain: _,
            compute_capabilities,
            tuned_on: _,
            shape_ranges: _,
            workspace_mib: _,
        } = &self.document;
        let precision = lowering.profile_precision();
        match action {
            Action::Lower if lowering.quantization.is_some() => {
                format!(
                    "{}: {precision}, the rest to {}{}",
                    self.graph,
                    lowering.precision,
                    in_fp32(lowering)
                )
            }
            Action::Lower => format!("{}: lower to {precision}{}", self.graph, in_fp32(lowering)),
            Action::Compile(backend) => {
                format!("{}: {backend} for {}, {precision}", self.graph, capability_tag(compute_capabilities))
            }
        }
    }
}

/// Describes what distinguishes a lowering from others of the same graph to the same precision.
fn in_fp32(lowering: &LoweringOptions) -> String {
    let mut kept: Vec<String> = lower::kept_by_target(lowering).map(str::to_owned).collect();
    match lowering.keep_nodes.len() + lowering.keep_ops.len() {
        0 => {}
        count => kept.push(format!("{count} more")),
    }
    if kept.is_empty() { String::new() } else { format!(" ({} in fp32)", kept.join(", ")) }
}

/// Resolves profiles into jobs, lowerings first; a job that several profiles need is listed once.
///
/// # Errors
/// A number in a shape or size beyond 53 bits.
pub fn jobs(profiles: &[&ProfileSpec], inputs: &Inputs<'_>) -> Result<Vec<Job>, NotCanonical> {
    let (mut lowerings, mut compilations) = (Vec::new(), Vec::new());
    for spec in profiles {
        for (graph, digest) in inputs.graphs {
            let options = inputs.lowerings.get(&(spec.name(), graph.clone())).unwrap_or(&spec.lowering);
            let lowering = lowering_document(options, digest);
            let lowered = lowering.key()?;
            let place =
                format!("{}/{graph}/lower-{}-{}", inputs.model, spec.backend.name(), spec.precision());
            add(
                &mut lowerings,
                Job {
                    key: lowered,
                    document: lowering,
                    graph: graph.clone(),
                    input: None,
                    users: vec![JobUser { profile: spec.name(), graph: graph.clone(), place }],
                },
            );
            if !spec.backend.ships_onnx() {
                let document = compile_document(spec, options, graph, digest, inputs);
                let place = format!("{}/{graph}/{}", inputs.model, spec.name());
                add(
                    &mut compilations,
                    Job {
                        key: document.key()?,
                        document,
                        graph: graph.clone(),
                        input: Some(lowered),
                        users: vec![JobUser { profile: spec.name(), graph: graph.clone(), place }],
                    },
                );
            }
        }
    }
    lowerings.append(&mut compilations);
    Ok(lowerings)
}

/// Decides whether a job must run: `record` is what the store has under its key, `missing` an output that the record
/// names and the store lacks, `last` the document last built at the job's place.
pub fn state(
    job: &Job,
    record: Option<BuildRecord>,
    missing: Option<Sha256>,
    last: Option<&BuildKeyDocument>,
) -> JobState {
    match (record, missing, last) {
        (Some(_), Some(sha256), _) => JobState::MustRun(JobReason::OutputMissing(sha256)),
        (Some(record), None, _) => JobState::UpToDate(Box::new(record)),
        (None, _, Some(last)) => match changes(last, &job.document) {
            changes if changes.is_empty() => JobState::MustRun(JobReason::New),
            changes => JobState::MustRun(JobReason::Changed(changes)),
        },
        (None, _, None) => JobState::MustRun(JobReason::New),
    }
}

fn add(jobs: &mut Vec<Job>, job: Job) {
    match jobs.iter_mut().find(|known| known.key == job.key) {
        Some(known) => known.users.extend(job.users),
        None => jobs.push(job),
    }
}

fn lowering_document(options: &LoweringOptions, digest: &GraphDigest) -> BuildKeyDocument {
    BuildKeyDocument::new(Action::Lower, digest.clone(), options.clone(), LOWERING_VERSION)
}

fn compile_document(
    spec: &ProfileSpec,
    options: &LoweringOptions,
    graph: &str,
    digest: &GraphDigest,
    inputs: &Inputs<'_>,
) -> BuildKeyDocument {
    let ProfileSpec {
        backend,
        target,
        lowering: _,
        mixed_precision: _,
        quantization: _,
        workspace_mib,
        line: _,
    } = spec;
    let mut document = BuildKeyDocument::new(
        Action::Compile(backend.name().to_owned()),
        digest.clone(),
        options.clone(),
        LOWERING_VERSION,
    );
    document.toolchain = inputs.toolchains.get(&spec.name()).cloned().unwrap_or_default();
    let revision = backend.facts().build_revision;
    if revision > 0 {
        // Not in the contents: there, the bytes of the plan say all.
        let worker = ToolIdentity { version: revision.to_string(), libraries: BTreeMap::new() };
        document.toolchain.insert(format!("nimctl-backend-{backend}"), worker);
    }
    document.compute_capabilities = target.compute_capabilities();
    // TensorRT times kernels on the GPU at hand, so a plan for an H100 PCIe is not one for an H100 SXM.
    document.tuned_on = match target {
        Target::Gpu { name, compute_capability: _ } if backend.facts().builds == Builds::OnTheDevice => {
            Some(name.clone())
        }
        _ => None,
    };
    document.shape_ranges = inputs.shape_ranges.get(graph).cloned().unwrap_or_default();
    document.workspace_mib = *workspace_mib;
    document
}

#[cfg(test)]
mod fields_of_a_key;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

//! `assemble`: puts build records together to profiles: contents, ids, passports and the entries of a manifest. Writes no file.

use std::collections::BTreeMap;

use super::error::{JobError, PipelineError};
use super::resolve::Resolved;
use super::schedule::Records;
use crate::benchmark::BenchStatus;
use crate::digest::{Blake3, Sha256};
use crate::error_kind::ErrorKind;
use crate::manifest::{
    ManifestError, ManifestFile, ManifestProfile, Workspace as ManifestWorkspace, store_uri,
};
use crate::onnx::LOWERING_VERSION;
use crate::onnx::quantize::QUANTIZATION_VERSION;
use crate::passport::{GraphPassport, NOT_RUN, Origins, PASSPORT_SCHEMA, Passport, Status};
use crate::profile::{
    CONTENTS_FILE, CONTENTS_SCHEMA, Contents, ContentsFile, ProfileId, ProfilePrecision, ProfileSpec,
    ToolIdentity, gpu_tags,
};
use crate::quantization::{InPlan, NotAllQuantized, Require};
use crate::store::{InUse, Store};
use crate::worklist::{BuildRecord, JobState, OutputFile};

/// One profile of a recipe.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Its readable name.
    pub name: String,
    /// What came of it.
    pub state: AssembledState,
}

impl Assembled {
    /// Returns its id, if all of it is there.
    pub fn id(&self) -> Option<ProfileId> {
        match &self.state {
            AssembledState::Complete(profile) => Some(profile.passport.id),
            AssembledState::Failed(_)
            | AssembledState::NotBuiltHere(_)
            | AssembledState::NotSelected
            | AssembledState::NotInStore => None,
        }
    }
}

/// What came of a profile.
#[derive(Clone, Debug)]
pub enum AssembledState {
    /// All of it is there.
    Complete(Box<AssembledProfile>),
    /// A job of it failed.
    Failed(JobError),
    /// It can't be built on this machine; what it needs.
    NotBuiltHere(String),
    /// It was not selected.
    NotSelected,
    /// The store does not have it as the recipe is now.
    NotInStore,
}

/// A profile, put together from its records.
#[derive(Clone, Debug)]
pub struct AssembledProfile {
    /// Its passport, with what is known of its validation and benchmark.
    pub passport: Passport,
    /// The exact text of its `contents.json`.
    pub contents_json: String,
    /// Its other files, sorted by path.
    pub files: Vec<OutputFile>,
    /// What a manifest says of it.
    pub entry: ManifestProfile,
}

impl AssembledProfile {
    /// Returns the size of all files, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum::<u64>() + self.contents_json.len() as u64
    }

    /// Returns the records of its jobs.
    pub fn records(&self) -> impl Iterator<Item = &BuildRecord> {
        let graphs = self.passport.graphs.values();
        graphs.flat_map(|graph| std::iter::once(&graph.lowering).chain(&graph.compilation))
    }
}

/// Puts together every profile of a recipe: from the records of its jobs, and those that were not selected from what earlier
/// builds left in the store.
///
/// # Errors
/// A store that can't be read.
pub fn assemble(
    resolved: &Resolved,
    records: &Records,
    store: &Store,
) -> Result<Vec<Assembled>, PipelineError> {
    let one = |spec: &ProfileSpec| {
        Ok(match assembled(spec, resolved, records, store)? {
            AssembledState::NotInStore if !resolved.is_selected(&spec.name()) => AssembledState::NotSelected,
            state => state,
        })
    };
    each(resolved, one)
}

/// Puts together the selected profiles of a recipe that the store has as the recipe is now.
///
/// # Errors
/// A store that can't be read.
pub fn from_store(resolved: &Resolved, store: &Store) -> Result<Vec<Assembled>, PipelineError> {
    let one = |spec: &ProfileSpec| {
        if resolved.is_selected(&spec.name()) {
            assembled(spec, resolved, &Records::new(), store)
        } else {
            Ok(AssembledState::NotSelected)
        }
    };
    each(resolved, one)
}

/// Does so to use the profiles: they stay in the store until the second value is dropped.
///
/// # Errors
/// As [`from_store`].
pub fn from_store_in_use(
    resolved: &Resolved,
    store: &Store,
) -> Result<(Vec<Assembled>, InUse), PipelineError> {
    store.hold(|| {
        let assembled = from_store(resolved, store)?;
        let ids = assembled.iter().filter_map(Assembled::id).collect();
        Ok((assembled, ids))
    })
}

fn each(
    resolved: &Resolved,
    one: impl Fn(&ProfileSpec) -> Result<AssembledState, PipelineError>,
) -> Result<Vec<Assembled>, PipelineError> {
    let profiles = resolved.recipe().profiles.iter();
    profiles.map(|spec| Ok(Assembled { name: spec.name(), state: one(spec)? })).collect()
}

fn assembled(
    spec: &ProfileSpec,
    resolved: &Resolved,
    records: &Records,
    store: &Store,
) -> Result<AssembledState, PipelineError> {
    if let Some(needs) = resolved.elsewhere.get(&spec.name()) {
        return Ok(AssembledState::NotBuiltHere(needs.clone()));
    }
    if let Some(failure) = resolved.failure_of(&spec.name()) {
        return Ok(AssembledState::Failed(failure.clone().into()));
    }
    Ok(match records_of(spec, resolved, records, store)? {
        Found::Complete(graphs) => match not_as_required(spec, &graphs) {
            Some(error) => AssembledState::Failed(JobError::new(ErrorKind::Refused, error)),
            None => AssembledState::Complete(Box::new(put_together(spec, graphs, resolved, store)?)),
        },
        Found::Failed(error) => AssembledState::Failed(error),
        Found::Absent => AssembledState::NotInStore,
    })
}

/// Returns which quantized nodes of a profile's plans compute in something else, if none may.
fn not_as_required(spec: &ProfileSpec, graphs: &GraphRecords) -> Option<NotAllQuantized> {
    if spec.quantization?.require != Require::All {
        return None;
    }
    graphs.iter().find_map(|(graph, GraphPassport { lowering, compilation })| {
        let compilation = compilation.as_ref()?;
        let options = &lowering.document.lowering.quantization.as_ref()?.options;
        let plan = compilation.plan.as_ref().zip(compilation.plan_layers.as_ref());
        let in_plan = InPlan::of(options, &lowering.quantization.as_ref()?.report, plan);
        Some(NotAllQuantized { graph: graph.clone(), fallbacks: in_plan.fallbacks()? })
    })
}

/// The records of one profile's jobs, by graph: its lowering and, with a plan, its compilation.
type GraphRecords = BTreeMap<String, GraphPassport>;

enum Found {
    Complete(GraphRecords),
    Failed(JobError),
    Absent,
}

/// Finds the records of a profile: among those that are given, else in the store.
fn records_of(
    spec: &ProfileSpec,
    resolved: &Resolved,
    given: &Records,
    store: &Store,
) -> Result<Found, PipelineError> {
    if !spec.backend.ships_onnx() && !resolved.toolchains.contains_key(&spec.name()) {
        return Ok(Found::Absent);
    }
    let mut lowerings = BTreeMap::new();
    let mut compilations = BTreeMap::new();
    for job in resolved.jobs_of(&[spec])? {
        let record = match given.get(&job.key) {
            Some(Ok(record)) => record.clone(),
            Some(Err(error)) => return Ok(Found::Failed(error.clone())),
            None => match store.job_state(&job)? {
                JobState::UpToDate(record) => *record,
                JobState::MustRun(_) => return Ok(Found::Absent),
            },
        };
        // Two graphs of one model may have the same bytes, and share a job.
        let records = if job.input.is_none() { &mut lowerings } else { &mut compilations };
        records.extend(job.users.into_iter().map(|user| (user.graph, record.clone())));
    }
    let graphs = lowerings.into_iter().map(|(graph, lowering)| {
        let compilation = compilations.remove(&graph);
        (graph, GraphPassport { lowering, compilation })
    });
    Ok(Found::Complete(graphs.collect()))
}

fn put_together(
    spec: &ProfileSpec,
    graphs: GraphRecords,
    resolved: &Resolved,
    store: &Store,
) -> Result<AssembledProfile, PipelineError> {
    let mut files: Vec<OutputFile> = graphs
        .iter()
        .flat_map(|(graph, records)| {
            let outputs = records.shipped().outputs.iter();
            outputs
                .map(move |output| OutputFile { path: format!("{graph}/{}", output.path), ..output.clone() })
        })
        .collect();
    // By path, not by graph: `text-2/…` comes before `text/…`.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let recipe = resolved.recipe();
    let contents = Contents {
        schema: CONTENTS_SCHEMA.into(),
        model: recipe.model.clone(),
        graphs: resolved.digests.clone(),
        backend: spec.backend.clone(),
        toolchain: toolchain_of(spec, &resolved.toolchains),
        target: spec.target.clone(),
        gpu_tags: Some(gpu_tags(&spec.backend, &spec.target)),
        precision: spec.precision(),
        shape_ranges: recipe.shape_ranges(),
        files: files
            .iter()
            .map(|file| ContentsFile {
                path: file.path.clone(),
                sha256: file.sha256,
                size_bytes: file.size_bytes,
            })
            .collect(),
    };
    let contents_json = contents.to_canonical_json()?;
    let tags = contents.tags(&Sha256::of(contents_json.as_bytes()));
    let id = ProfileId::of_tags(&tags).map_err(ManifestError::from)?;
    // Equal ids are equal bytes: what was found of them here holds.
    let known = store.passport(&id)?.map(|known| store.with_results_of_here(&known)).transpose()?;
    let (validation, bench, made_of) = match known {
        Some(known) => (known.validation, known.bench, known.made_of),
        None => {
            let skipped = || NOT_RUN.to_owned();
            (Status::Skipped(skipped()), BenchStatus::Skipped(skipped()), Origins::default())
        }
    };
    let entry = ManifestProfile {
        id: id.to_string(),
        tags: tags.clone(),
        workspace: ManifestWorkspace { files: manifest_files(&files, &contents_json) },
    };
    let passport = Passport {
        schema: PASSPORT_SCHEMA.into(),
        id,
        name: spec.name(),
        tags,
        contents,
        graphs,
        validation,
        bench,
        made_of,
    };
    Ok(AssembledProfile { passport, contents_json, files, entry })
}

fn manifest_files(files: &[OutputFile], contents_json: &str) -> BTreeMap<String, ManifestFile> {
    let entry = |sha256: &Sha256, blake3: &Blake3| ManifestFile {
        uri: Some(store_uri(sha256)),
        checksum: Some(blake3.to_string()),
    };
    let contents = contents_json.as_bytes();
    files
        .iter()
        .map(|file| (file.path.clone(), entry(&file.sha256, &file.blake3)))
        .chain([(CONTENTS_FILE.into(), entry(&Sha256::of(contents), &Blake3::of(contents)))])
        .collect()
}

/// Returns what built a profile: the backend's libraries, and our own lowering where it took part.
fn toolchain_of(
    spec: &ProfileSpec,
    toolchains: &BTreeMap<String, BTreeMap<String, ToolIdentity>>,
) -> BTreeMap<String, ToolIdentity> {
    let mut tools = toolchains.get(&spec.name()).cloned().unwrap_or_default();
    if spec.precision() != ProfilePrecision::FP32 {
        let lowering = ToolIdentity { version: LOWERING_VERSION.to_string(), libraries: BTreeMap::new() };
        tools.insert("nimctl-lowering".into(), lowering);
    }
    if spec.precision().quantized().is_some() {
        let version = QUANTIZATION_VERSION.to_string();
        tools.insert("nimctl-quantization".into(), ToolIdentity { version, libraries: BTreeMap::new() });
    }
    tools
}

//! Profiles that came without their recipe: pulled, or built from one that is not known here.
//!
//! What a release says of a profile is enough to run it: its shape ranges, and its ONNX graph or that of another profile. Its
//! numbers can be compared only where the FP32 graph is here too: as the FP32 profile of the same release, whose files are the very
//! bytes that the profile was made from. Samples and bounds of the recipe are not in a release, so inputs are seeded and bounds are
//! the default ones, and nothing is written into passports: they keep what their release found.

use std::collections::BTreeMap;

use super::numbers::{Model, Numbers};
use super::profile::{self, check_files, gates_of, lay_out};
use super::runtime::Runtime;
use super::{ComparedWith, ValidateError, ValidateReport, ValidatedProfile, batches};
use crate::onnx::{FileDigest, GraphDigest, OnnxFile, Precision};
use crate::ops::error::PipelineError;
use crate::ops::resolve::{Resolved, SourceGraph};
use crate::ops::runners::Runners;
use crate::ops::workspace::Workspace;
use crate::passport::{Passport, Status};
use crate::profile::{ModelRelease, ProfilePrecision};
use crate::recipe::Recipe;
use crate::store::Store;
use crate::validation::{Demands, Validation};
use crate::worker::protocol::Execution;

/// Graphs that profiles are run beside, or are run on the inputs of; their files are in folders of their own.
struct Graphs {
    resolved: Resolved,
    _folders: Vec<Model>,
}

/// Validates profiles of one release that are in the store, as far as that is possible without their recipe. `not_here` are others
/// that were named, each with the reason why it isn't validated; `may_load` is asked of each profile that others are compared with.
/// Passports stay as they are.
///
/// # Errors
/// As [`super::validate`]; profiles of several models or releases.
pub fn validate_pulled(
    workspace: &Workspace,
    profiles: &[Passport],
    not_here: Vec<(String, String)>,
    execution: &Execution,
    may_load: &dyn Fn(&Passport) -> bool,
    on_profile: &dyn Fn(&ValidatedProfile),
) -> Result<ValidateReport, ValidateError> {
    let store = Store::open(&workspace.store)?;
    let model = one_model(profiles)?;
    let mut report = ValidateReport {
        model: (model.name, model.release),
        profiles: Vec::new(),
        not_built: not_here,
        seeded: Vec::new(),
    };
    // What it may be compared with too.
    let (here, _in_use) = store.hold(|| {
        let mut here = store.passports()?;
        here.retain(|other| other.contents.model == profiles[0].contents.model);
        let ids = here.iter().map(|passport| passport.id).collect();
        Ok::<_, ValidateError>((here, ids))
    })?;
    for passport in profiles {
        if workspace.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        check_files(passport, &store)?;
        let fp32 = here.iter().find(|other| is_fp32_of(other, passport) && may_load(other));
        let compared_with = match fp32 {
            Some(fp32) => ComparedWith::Profile { name: fp32.name.clone(), id: fp32.id },
            None => ComparedWith::Nothing,
        };
        let status = match fp32 {
            Some(fp32) => compared(workspace, passport, fp32, &store, execution, &mut report)?,
            None => by_itself(workspace, passport, &store, execution, &mut report)?,
        };
        let validated = ValidatedProfile {
            name: passport.name.clone(),
            id: passport.id,
            status,
            taken_over: false,
            compared_with,
            of_release: Some(passport.validation.clone()),
        };
        on_profile(&validated);
        report.profiles.push(validated);
    }
    Ok(report)
}

fn one_model(profiles: &[Passport]) -> Result<ModelRelease, ValidateError> {
    let mut models: Vec<&ModelRelease> = profiles.iter().map(|passport| &passport.contents.model).collect();
    models.dedup();
    match models.as_slice() {
        [one] => Ok((*one).clone()),
        several => Err(ValidateError::SeveralModels {
            models: several.iter().map(|model| format!("{} {}", model.name, model.release)).collect(),
        }),
    }
}

/// Returns whether a profile ships the graphs that another one was made from, byte for byte, in the same shapes.
fn is_fp32_of(other: &Passport, passport: &Passport) -> bool {
    let (of_other, of_profile) = (&other.contents, &passport.contents);
    of_other.backend.ships_onnx()
        && of_other.precision == ProfilePrecision::FP32
        && of_other.graphs == of_profile.graphs
        && of_other.shape_ranges == of_profile.shape_ranges
        && of_profile.graphs.iter().all(|(name, digest)| shipped_graph(other, name).as_ref() == Some(digest))
}

/// Returns the digest of a graph that a profile ships as ONNX.
fn shipped_graph(passport: &Passport, graph: &str) -> Option<GraphDigest> {
    let outputs = &passport.graphs.get(graph)?.lowering.outputs;
    let files = outputs.iter().enumerate().map(|(index, file)| FileDigest {
        path: if index == 0 { GraphDigest::MODEL_PATH.into() } else { file.path.clone() },
        sha256: file.sha256,
        size_bytes: file.size_bytes,
    });
    Some(GraphDigest { files: files.collect() })
}

/// Validates a profile against the FP32 graphs, as with its recipe.
fn compared(
    workspace: &Workspace,
    passport: &Passport,
    fp32: &Passport,
    store: &Store,
    execution: &Execution,
    report: &mut ValidateReport,
) -> Result<Status, ValidateError> {
    let Graphs { resolved, _folders } = graphs_of(workspace, fp32, store)?;
    let mut numbers = Numbers::start(workspace, &resolved)?;
    let mut runners = Runners::new(&resolved.backends, execution);
    runners.check().map_err(|reason| ValidateError::Provider { reason })?;
    let way = runners.for_profile(passport);
    report.add_seeded(&resolved);
    let demands = Demands::default().for_precision(passport.contents.precision, None);
    profile::one(passport, &resolved.digests, store, &mut numbers, way, &demands)
}

/// Runs a profile, and checks what can be checked of it alone: that it loads, takes its inputs in every shape, gives its outputs,
/// finite, and gives a row the same alone as in a batch.
fn by_itself(
    workspace: &Workspace,
    passport: &Passport,
    store: &Store,
    execution: &Execution,
    report: &mut ValidateReport,
) -> Result<Status, ValidateError> {
    let skipped = |why: String| Ok(Status::Skipped(why));
    let lowered = |graph: &crate::passport::GraphPassport| {
        graph.lowering.outputs.iter().all(|file| store.has_blob(&file.sha256, file.size_bytes))
    };
    if !passport.graphs.values().all(lowered) {
        return skipped(
            "neither its FP32 graph nor the graph that it was compiled from is in the store".into(),
        );
    }
    let Graphs { resolved, _folders } = graphs_of(workspace, passport, store)?;
    // ONNX Runtime is what a user has to install, not a reason to skip a profile.
    let numbers = Numbers::start(workspace, &resolved)?;
    let mut runners = Runners::new(&resolved.backends, execution);
    runners.check().map_err(|reason| ValidateError::Provider { reason })?;
    let way = match runners.for_profile(passport) {
        Ok(way) => way,
        Err(reason) => {
            return skipped(format!("{reason}; without the FP32 graph nothing can be run instead"));
        }
    };
    report.add_seeded(&resolved);
    let hidden = profile::hidden_precision(passport, &way);
    let mut worker = numbers.runtime(way, passport);
    let mut validation = Validation {
        passed: false,
        ran_on: String::new(),
        compute_capability: None,
        not_executed_because: None,
        failure: profile::wrong_origin(passport, &passport.contents.graphs),
        gates: Vec::new(),
        not_compared: hidden.into_iter().map(not_seen).collect(),
        emulated: None,
    };
    if validation.failure.is_none() {
        match run(passport, &resolved, store, &numbers, &mut worker, &mut validation) {
            Ok(()) => {
                // Nothing checked is nothing passed.
                validation.passed =
                    !validation.gates.is_empty() && validation.gates.iter().all(|gate| gate.passed);
                if validation.gates.is_empty() {
                    validation.failure =
                        Some("nothing of its outputs can be checked without its FP32 graph".into());
                }
            }
            Err(ValidateError::Profile(failure)) => validation.failure = Some(failure),
            Err(error) => return Err(error),
        }
    }
    validation.compute_capability = worker.compute_capability();
    validation.ran_on = worker.place().map_err(|source| {
        let backend = passport.contents.backend.name().into();
        PipelineError::Worker { backend, source }
    })?;
    Ok(Status::Executed(validation))
}

/// Says what a run hides that was computed in FP32.
fn not_seen(precision: Precision) -> String {
    format!("what {precision} loses: ONNX Runtime computes it in fp32 on the CPU")
}

fn run(
    passport: &Passport,
    resolved: &Resolved,
    store: &Store,
    numbers: &Numbers<'_>,
    worker: &mut Runtime,
    validation: &mut Validation,
) -> Result<(), ValidateError> {
    let demands = Demands::default().for_precision(passport.contents.precision, None);
    for (name, graph) in &resolved.graphs {
        let model = lay_out(passport, name, store)?;
        worker.expect(&model.path, &passport.graphs[name].shipped().outputs);
        let outputs = numbers.of_profile_as_it_is(name, &model.path, worker)?;
        for (case, found) in &outputs.cases {
            for output in graph.file.outputs() {
                let output = output.name;
                let Some(values) = found.get(&output) else {
                    let problem = format!("output `{output}` of graph `{name}` is missing ({case} shapes)");
                    return Err(ValidateError::Profile(problem));
                };
                // Held against itself, of which only this gate means anything.
                let gates = gates_of(&format!("{name}/{output}"), case, values, values, &demands);
                validation.gates.extend(gates.into_iter().filter(|gate| gate.gate == "finite"));
            }
        }
        for (output, gate) in batches::gates(name, numbers.alone(name), (&outputs, &outputs), &demands) {
            match gate {
                Ok(gate) => validation.gates.push(gate),
                Err(why) => {
                    let why = why.replace("the FP32 graph itself", "the profile");
                    validation.not_compared.push(format!("batch_invariance of {output}: {why}"));
                }
            }
        }
    }
    Ok(())
}

/// Opens the ONNX graphs of a profile, or those that its plans were compiled from. Their files are verified as they are laid out.
fn graphs_of(workspace: &Workspace, passport: &Passport, store: &Store) -> Result<Graphs, ValidateError> {
    let (mut graphs, mut folders) = (BTreeMap::new(), Vec::new());
    for (name, graph) in &passport.graphs {
        let outputs = &graph.lowering.outputs;
        let folder = store.work_folder()?;
        store.lay_out(outputs, folder.path())?;
        let first = outputs.first().map(|output| folder.path().join(&output.path));
        let path = first.ok_or_else(|| ValidateError::Profile(format!("graph `{name}` has no file")))?;
        let digest = shipped_graph(passport, name).unwrap_or(GraphDigest { files: Vec::new() });
        graphs.insert(name.clone(), SourceGraph { file: OnnxFile::open(&path)?, digest });
        folders.push(Model { path, _folder: folder });
    }
    let recipe = Recipe::of_contents(&passport.contents, &passport.name);
    Ok(Graphs { resolved: Resolved::of_graphs(workspace, recipe, graphs), _folders: folders })
}

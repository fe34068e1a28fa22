//! One profile: its files, where it came from, and its gates.

use std::collections::BTreeMap;

use super::numbers::{Extent, Model, Numbers};
use super::outputs::Outputs;
use super::runtime::Runtime;
use super::{ValidateError, batches, towers};
use crate::onnx::{GraphDigest, Precision};
use crate::ops::error::PipelineError;
use crate::ops::not_run_here::NotRunHere;
use crate::ops::runners::Way;
use crate::passport::{Passport, Status};
use crate::profile::ProfilePrecision;
use crate::store::{Store, StoreError};
use crate::validation::{Demands, Emulated, GateResult, Output, Validation, output_gates};
use crate::worker::protocol::Provider;

/// Validates one profile, which is run in this way, or can't be for this reason.
pub(super) fn one(
    passport: &Passport,
    graphs: &BTreeMap<String, GraphDigest>,
    store: &Store,
    numbers: &mut Numbers<'_>,
    way: Result<Way, NotRunHere>,
    demands: &Demands,
) -> Result<Status, ValidateError> {
    let executes = way.is_ok();
    let mut hidden = way.as_ref().ok().and_then(|way| hidden_precision(passport, way));
    let without_quantized = quantized_graph_is_missing(passport, store);
    if without_quantized && !executes {
        let why = "what it is made of is quantized, and its quantized graph is not in the store: `nimctl build` makes it again";
        return Ok(Status::Skipped(match way {
            Err(reason) => format!("{reason}; {why}"),
            Ok(_) => why.into(),
        }));
    }
    let mut validation = Validation {
        passed: false,
        ran_on: numbers.reference_runtime().to_owned(),
        compute_capability: None,
        not_executed_because: way.as_ref().err().map(ToString::to_string),
        failure: None,
        gates: Vec::new(),
        not_compared: Vec::new(),
        emulated: None,
    };
    if without_quantized && let Some(precision) = hidden.take() {
        validation
            .not_compared
            .push(format!("what {precision} loses: its quantized graph is not in the store"));
    }
    // What is run is checked where it is laid out.
    if !executes {
        check_files(passport, store)?;
    }
    match wrong_origin(passport, graphs) {
        Some(failure) => validation.failure = Some(failure),
        None => {
            // A worker of its own for each profile: after a failure on the GPU, nothing else runs in the same process.
            let worker = way.ok().map(|way| numbers.runtime(way, passport));
            let subject = Subject { passport, graphs, store, demands };
            match hold(&subject, numbers, worker, hidden, &mut validation) {
                Ok(()) => {
                    // Nothing compared is nothing passed.
                    validation.passed =
                        !validation.gates.is_empty() && validation.all_gates().all(|gate| gate.passed);
                    if validation.gates.is_empty() {
                        validation.failure = Some("no output was compared".into());
                    }
                }
                Err(ValidateError::Profile(failure)) => validation.failure = Some(failure),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(if executes { Status::Executed(validation) } else { Status::Static(validation) })
}

/// Returns the profile's precision, if what runs it computes in a higher one: ONNX Runtime on the CPU computes graphs of half
/// precision in FP32, and rounds only where casts stand.
pub(super) fn hidden_precision(passport: &Passport, way: &Way) -> Option<Precision> {
    let on_the_cpu = matches!(way.execution.provider, None | Some(Provider::Cpu));
    let precision = passport.contents.precision;
    // What is not quantized is in a precision of its own.
    let rest = || Some(passport.graphs.values().next()?.lowering.document.lowering.precision);
    let precision = match precision {
        ProfilePrecision::Float(precision) => precision,
        ProfilePrecision::Quantized(_) => rest()?,
    };
    (passport.contents.backend.ships_onnx() && on_the_cpu && precision != Precision::Fp32)
        .then_some(precision)
}

/// Returns whether a profile is quantized, and the graph that was quantized is not here: then nothing can be emulated.
fn quantized_graph_is_missing(passport: &Passport, store: &Store) -> bool {
    let mut graphs = passport.graphs.values().filter_map(|graph| {
        graph.lowering.document.lowering.quantization.as_ref().map(|quantization| &quantization.graph)
    });
    graphs.any(|graph| !graph.as_ref().is_some_and(|graph| store.has_graph(graph)))
}

/// Runs the profile, or its emulated graphs, or both, and writes what was found into `validation`.
fn hold(
    subject: &Subject<'_>,
    numbers: &mut Numbers<'_>,
    worker: Option<Runtime>,
    hidden: Option<Precision>,
    validation: &mut Validation,
) -> Result<(), ValidateError> {
    let mut ran = worker.map_or(Ran::Emulated(Extent::All), |worker| Ran::Itself(Box::new(worker)));
    let (found, not_compared) = gates(subject, numbers, &mut ran)?;
    validation.gates = found;
    validation.not_compared.extend(not_compared);
    if let Ran::Itself(mut worker) = ran {
        validation.compute_capability = worker.compute_capability();
        validation.ran_on = worker.place().map_err(|source| {
            let backend = subject.passport.contents.backend.name().into();
            PipelineError::Worker { backend, source }
        })?;
    }
    if let Some(precision) = hidden {
        let extent = Extent::InReasonableTime;
        let gates = gates(subject, numbers, &mut Ran::Emulated(extent));
        let (gates, _) = gates.map_err(|error| match error {
            ValidateError::Profile(failure) => {
                ValidateError::Profile(format!("with {precision} emulated: {failure}"))
            }
            error => error,
        })?;
        let left_out = subject.graphs.keys().flat_map(|graph| numbers.left_out(graph, extent)).collect();
        validation.emulated = Some(Emulated { executed_in: Precision::Fp32, precision, gates, left_out });
    }
    Ok(())
}

/// A profile, what it was made from, and what is demanded of it.
struct Subject<'a> {
    passport: &'a Passport,
    graphs: &'a BTreeMap<String, GraphDigest>,
    store: &'a Store,
    demands: &'a Demands,
}

/// What is run for a profile.
enum Ran {
    /// The profile itself.
    Itself(Box<Runtime>),
    /// Its lowered graphs, with the precision emulated.
    Emulated(Extent),
}

/// Recomputes every file's digest: nothing is loaded that is not what the profile's id names. What the disk did to a file says
/// nothing about the profile.
///
/// # Errors
/// A file that is damaged, or can't be read.
pub(in crate::ops) fn check_files(passport: &Passport, store: &Store) -> Result<(), StoreError> {
    passport.contents.files.iter().try_for_each(|file| store.check_blob(&file.sha256))
}

/// Checks that a profile was made from these graphs, and its plans for its target.
pub(super) fn wrong_origin(passport: &Passport, graphs: &BTreeMap<String, GraphDigest>) -> Option<String> {
    for (name, digest) in graphs {
        let Some(graph) = passport.graphs.get(name) else {
            return Some(format!("it has no graph `{name}`"));
        };
        let records = std::iter::once(&graph.lowering).chain(&graph.compilation);
        for record in records {
            if record.document.graph != *digest {
                return Some(format!(
                    "its graph `{name}` was built from a different model than the one in the recipe"
                ));
            }
        }
        let wanted = passport.contents.target.compute_capabilities();
        let plan = graph.compilation.as_ref().and_then(|record| record.plan.as_ref());
        if let Some(plan) = plan.filter(|plan| plan.compute_capabilities != wanted) {
            let found = crate::profile::capability_tag(&plan.compute_capabilities);
            let wanted = crate::profile::capability_tag(&wanted);
            return Some(format!("the plan of `{name}` is for {found}, but the profile is for {wanted}"));
        }
    }
    None
}

/// Returns every gate of what is run, and what has none, with the reason.
fn gates(
    subject: &Subject<'_>,
    numbers: &mut Numbers<'_>,
    ran: &mut Ran,
) -> Result<(Vec<GateResult>, Vec<String>), ValidateError> {
    let Subject { passport, graphs, store, demands } = *subject;
    // What the recipe asks for has to be possible, before anything is run for it.
    let embeddings = numbers.embeddings()?;
    let (mut gates, mut not_compared) = (Vec::new(), Vec::new());
    let mut found_of = towers::Found::new();
    for name in graphs.keys() {
        // First: what fails here as well is a matter of graph and samples, not of the profile.
        let reference = numbers.reference(name)?;
        let outputs = match ran {
            Ran::Itself(worker) => {
                let model = lay_out(passport, name, store)?;
                worker.expect(&model.path, &passport.graphs[name].shipped().outputs);
                let lowering = &passport.graphs[name].lowering.document.lowering;
                numbers.of_profile(name, &model.path, lowering, worker)?
            }
            Ran::Emulated(extent) => {
                numbers.emulated(name, &passport.graphs[name].lowering.document.lowering, *extent)?
            }
        };
        check_shapes(name, &reference, &outputs)?;
        for (case, found) in &outputs.cases {
            for (output, expected) in &reference.cases[case] {
                gates.extend(gates_of(&format!("{name}/{output}"), case, expected, &found[output], demands));
            }
        }
        for (output, compared) in batches::gates(name, numbers.alone(name), (&reference, &outputs), demands) {
            match compared {
                Ok(gate) => gates.push(gate),
                Err(why) => not_compared.push(format!("batch_invariance of {output}: {why}")),
            }
        }
        found_of.insert(name, (reference, outputs));
    }
    let labelled = numbers.labelled().zip(embeddings.as_ref());
    gates.extend(towers::gates(&found_of, labelled, demands));
    Ok((gates, not_compared))
}

/// Holds one output against the reference's, by the gates that are for its kind.
pub(super) fn gates_of(
    subject: &str,
    case: &str,
    expected: &Output,
    found: &Output,
    demands: &Demands,
) -> Vec<GateResult> {
    let tolerance = demands.tolerances.get(subject).copied();
    output_gates(subject, case, expected, found, &demands.thresholds, tolerance)
}

/// Fails if an output is missing, or has another shape or values of another kind than the reference's.
fn check_shapes(graph: &str, reference: &Outputs, found: &Outputs) -> Result<(), ValidateError> {
    for (case, found) in &found.cases {
        for (name, expected) in &reference.cases[case] {
            let problem = match found.get(name) {
                None => "is missing".to_owned(),
                Some(found) if found.shape() != expected.shape() => {
                    format!("has shape {:?}, but {:?} was expected", found.shape(), expected.shape())
                }
                Some(found) if found.kind() != expected.kind() => {
                    format!("has {}, but {} were expected", found.kind(), expected.kind())
                }
                Some(_) => continue,
            };
            return Err(ValidateError::Profile(format!(
                "output `{name}` of graph `{graph}` {problem} ({case} shapes)"
            )));
        }
    }
    Ok(())
}

/// Returns a folder with the files of one graph, as the profile has them: its plan, or the graph itself.
pub(super) fn lay_out(passport: &Passport, graph: &str, store: &Store) -> Result<Model, ValidateError> {
    let record = passport.graphs[graph].shipped();
    let folder = store.work_folder()?;
    store.lay_out(&record.outputs, folder.path())?;
    let first = record.outputs.first().map(|output| folder.path().join(&output.path));
    let path = first.ok_or_else(|| ValidateError::Profile(format!("graph `{graph}` has no file")))?;
    Ok(Model { path, _folder: folder })
}

//! One profile: its files, where it came from, and its gates.

use std::collections::BTreeMap;

use super::ValidateError;
use super::numbers::{Model, Numbers};
use super::outputs::Outputs;
use crate::digest::Sha256;
use crate::onnx::GraphDigest;
use crate::ops::not_run_here::NotRunHere;
use crate::ops::runners::Way;
use crate::passport::{Passport, Status};
use crate::store::Store;
use crate::validation::{
    Demands, Floats, GateResult, LabelledSet, Validation, batch_gate, cross_modal_gates, embedding_gates,
    output_gates, tolerance_gates, zero_shot_gate,
};

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
    let mut validation = Validation {
        passed: false,
        ran_on: numbers.reference_runtime().to_owned(),
        not_executed_because: way.as_ref().err().map(ToString::to_string),
        failure: None,
        gates: Vec::new(),
    };
    let failure = wrong_files(passport, store).or_else(|| wrong_origin(passport, graphs));
    match failure {
        Some(failure) => validation.failure = Some(failure),
        None => match gates(passport, graphs, store, numbers, way.ok(), demands) {
            Ok((gates, ran_on)) => {
                validation.ran_on = ran_on;
                validation.passed = gates.iter().all(|gate| gate.passed);
                validation.gates = gates;
            }
            Err(ValidateError::Profile(failure)) => validation.failure = Some(failure),
            Err(error) => return Err(error),
        },
    }
    Ok(if executes { Status::Executed(validation) } else { Status::Static(validation) })
}

/// Recomputes every file's digest: nothing is loaded that is not what the profile's id names.
pub(in crate::ops) fn wrong_files(passport: &Passport, store: &Store) -> Option<String> {
    passport.contents.files.iter().find_map(|file| match Sha256::of_file(&store.blob_path(&file.sha256)) {
        Ok((found, _)) if found == file.sha256 => None,
        Ok((found, _)) => Some(format!(
            "{} does not match the profile's id: expected {}, found {found}; it was not loaded",
            file.path, file.sha256
        )),
        Err(error) => Some(format!("{} cannot be read: {error}", file.path)),
    })
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

/// Returns every gate, and what ran the profile.
fn gates(
    passport: &Passport,
    graphs: &BTreeMap<String, GraphDigest>,
    store: &Store,
    numbers: &mut Numbers<'_>,
    way: Option<Way>,
    demands: &Demands,
) -> Result<(Vec<GateResult>, String), ValidateError> {
    let mut gates = Vec::new();
    let mut towers = Vec::new();
    // A worker of its own for each profile: after a failure on the GPU, nothing else runs in the same process.
    let mut worker = way.map(|way| numbers.runtime(way, passport));
    for name in graphs.keys() {
        let outputs = match &mut worker {
            Some(worker) => {
                let model = lay_out(passport, name, store)?;
                numbers.of_file(name, &model.path, Some(worker))?
            }
            None => numbers.emulated(name, &passport.graphs[name].lowering.document.lowering)?,
        };
        let reference = numbers.reference(name)?;
        check_shapes(name, &reference, &outputs)?;
        for (case, found) in &outputs.cases {
            for (output, expected) in &reference.cases[case] {
                gates.extend(gates_of(&format!("{name}/{output}"), case, expected, &found[output], demands));
            }
        }
        for (output, alone) in &outputs.alone {
            gates.push(batch_gate(
                &format!("{name}/{output}"),
                alone,
                &outputs.cases["opt"][output],
                &demands.thresholds,
            ));
        }
        towers.push((name.as_str(), reference, outputs));
    }
    gates.extend(gates_of_both(&towers, numbers, demands));
    let ran_on = match &mut worker {
        None => numbers.reference_runtime().to_owned(),
        Some(worker) => worker.place().map_err(|error| ValidateError::Profile(error.to_string()))?,
    };
    Ok((gates, ran_on))
}

/// Holds one output against the reference's, by the gates that are for its kind.
pub(super) fn gates_of(
    subject: &str,
    case: &str,
    expected: &Floats,
    found: &Floats,
    demands: &Demands,
) -> Vec<GateResult> {
    match demands.tolerances.get(subject) {
        Some(tolerance) => tolerance_gates(subject, case, expected, found, *tolerance),
        None if expected.is_embedding() => {
            embedding_gates(subject, case, expected, found, &demands.thresholds)
        }
        None => output_gates(subject, case, expected, found, &demands.thresholds),
    }
}

/// The gates of two towers, each with one embedding of the same width.
fn gates_of_both(
    towers: &[(&str, Outputs, Outputs)],
    numbers: &Numbers<'_>,
    demands: &Demands,
) -> Vec<GateResult> {
    let mut gates = Vec::new();
    let [(a_name, a_reference, a_found), (b_name, b_reference, b_found)] = towers else { return gates };
    let subject = format!("{a_name} × {b_name}");
    for case in ["opt", "max"] {
        let parts = [a_reference, a_found, b_reference, b_found].map(|outputs| outputs.embedding(case));
        if let [Some(a), Some(a_found), Some(b), Some(b_found)] = parts
            && a.row_length() == b.row_length()
        {
            let (first, second) = ((a, a_found), (b, b_found));
            gates.extend(cross_modal_gates(&subject, case, first, second, &demands.thresholds));
        }
    }
    let Some(labelled) = numbers.labelled() else { return gates };
    let tower = |name: &str| towers.iter().find(|tower| tower.0 == name);
    if let (Some(image), Some(text)) = (tower(&labelled.image_graph), tower(&labelled.text_graph))
        && let (Some(images), Some(texts)) = (&image.1.labelled, &text.1.labelled)
        && let (Some(images_found), Some(texts_found)) = (&image.2.labelled, &text.2.labelled)
    {
        let reference = LabelledSet { images, texts, prompts: labelled.prompts, labels: &labelled.labels };
        let found = LabelledSet { images: images_found, texts: texts_found, ..reference.clone() };
        let subject = format!("{} × {}", image.0, text.0);
        gates.push(zero_shot_gate(&subject, &reference, &found, labelled.most_loss));
    }
    gates
}

/// Fails if an output is missing or has another shape than the reference's.
fn check_shapes(graph: &str, reference: &Outputs, found: &Outputs) -> Result<(), ValidateError> {
    for (case, outputs) in &reference.cases {
        for (name, expected) in outputs {
            let problem = match found.cases.get(case).and_then(|outputs| outputs.get(name)) {
                None => "is missing".to_owned(),
                Some(floats) if floats.shape != expected.shape => {
                    format!("has shape {:?}, but {:?} was expected", floats.shape, expected.shape)
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

//! `validate`: a profile's digests, then whether it loads, then its numbers against those of the FP32 graph.
//!
//! What can be run here is run: its status is `executed`. In place of a plan that can't, its lowered graph is run on the
//! CPU with the precision emulated, and the status says `static`. Inputs are the recipe's samples, in the least, the usual
//! and the largest shapes; the usual ones also one row alone.

mod error;
mod numbers;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::ValidateError;
use numbers::{Numbers, Outputs};

use super::build::{self, BuildOptions, BuildReport, Outcome};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::onnx::{GraphDigest, OnnxFile};
use crate::passport::{Passport, Status};
use crate::profile::ProfileId;
use crate::recipe::Recipe;
use crate::store::Store;
use crate::validation::{
    GateResult, Thresholds, Validation, batch_gate, cross_modal_gates, embedding_gates, output_gates,
};

/// What came of one profile.
#[derive(Clone, Debug)]
pub struct ValidatedProfile {
    /// Its readable name.
    pub name: String,
    /// Its id.
    pub id: ProfileId,
    /// What was done, and what it gave.
    pub status: Status,
}

/// What came of all profiles of a recipe.
#[derive(Clone, Debug)]
pub struct ValidateReport {
    /// The model's name and release.
    pub model: (String, String),
    /// The profiles that the store has.
    pub profiles: Vec<ValidatedProfile>,
    /// Names of the profiles that were not built, each with the reason.
    pub not_built: Vec<(String, String)>,
}

impl ValidateReport {
    /// Returns what a failure means for the exit code; nothing if every profile passed.
    pub fn failure(&self) -> Option<ErrorKind> {
        let passed = |profile: &ValidatedProfile| profile.status.validation().is_some_and(|v| v.passed);
        (!self.profiles.iter().all(passed)).then_some(ErrorKind::Refused)
    }
}

/// Validates what the store has of a recipe's profiles, and writes the results into their passports.
///
/// `options` are those of a build, with the mode `FromStore`. `on_profile` gets each profile as it is done.
///
/// # Errors
/// What makes validating impossible as a whole: the recipe, its graphs or samples, the reference. What is wrong with
/// one profile is in its status.
pub fn validate(
    options: &BuildOptions,
    thresholds: &Thresholds,
    on_profile: &dyn Fn(&ValidatedProfile),
) -> Result<ValidateReport, ValidateError> {
    let text = fs_err::read_to_string(&options.recipe)
        .map_err(|source| ValidateError::Io { doing: "reading the recipe".into(), source })?;
    let recipe = Recipe::parse(&text, &options.recipe.display().to_string())
        .map_err(|error| build::BuildError::from(Box::new(error)))?;
    let BuildReport { model, profiles, .. } = build::build(options, &|_| ())?;
    let graphs = build::sources::resolve(&recipe, options, &|_| ())?;
    let files = graphs.iter().map(|(name, graph)| (name.as_str(), &graph.file)).collect();
    let store = Store::look_at(&options.store);
    let mut numbers = Numbers::start(&recipe, files, options)?;
    let mut report = ValidateReport { model, profiles: Vec::new(), not_built: Vec::new() };
    for line in profiles {
        let id = match line.outcome {
            Outcome::Built { id, .. } => id,
            Outcome::NotBuiltHere(needs) => {
                report.not_built.push((line.name, needs));
                continue;
            }
            Outcome::NotSelected => continue,
            _ => {
                let why = "the store does not have it as the recipe is now: run `nimctl build`".to_owned();
                report.not_built.push((line.name, why));
                continue;
            }
        };
        if options.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        let Some(mut passport) = store.passport(&id)? else {
            report.not_built.push((line.name, "its passport is not in the store: run `nimctl build`".into()));
            continue;
        };
        let status = one(&passport, &graphs_of(&graphs), &store, &mut numbers, thresholds)?;
        if passport.validation != status {
            passport.validation = status.clone();
            store.put_passport(&passport)?;
        }
        let validated = ValidatedProfile { name: line.name, id, status };
        on_profile(&validated);
        report.profiles.push(validated);
    }
    Ok(report)
}

type Graphs<'a> = BTreeMap<&'a str, (&'a OnnxFile, &'a GraphDigest)>;

fn graphs_of(graphs: &BTreeMap<String, build::sources::SourceGraph>) -> Graphs<'_> {
    graphs.iter().map(|(name, graph)| (name.as_str(), (&graph.file, &graph.digest))).collect()
}

/// Validates one profile.
fn one(
    passport: &Passport,
    graphs: &Graphs<'_>,
    store: &Store,
    numbers: &mut Numbers<'_>,
    thresholds: &Thresholds,
) -> Result<Status, ValidateError> {
    let backend = &passport.contents.backend;
    let executes = backend.ships_onnx();
    let mut validation = Validation {
        passed: false,
        ran_on: numbers.runtime().to_owned(),
        not_executed_because: (!executes)
            .then(|| format!("{backend} has no GPU to run on here, or nimctl does not run its plans yet")),
        failure: None,
        gates: Vec::new(),
    };
    let failure = wrong_files(passport, store).or_else(|| wrong_origin(passport, graphs));
    match failure {
        Some(failure) => validation.failure = Some(failure),
        None => match gates(passport, graphs, store, numbers, thresholds) {
            Ok(gates) => {
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
pub(super) fn wrong_files(passport: &Passport, store: &Store) -> Option<String> {
    passport.contents.files.iter().find_map(|file| match Sha256::of_file(&store.blob_path(&file.sha256)) {
        Ok((found, _)) if found == file.sha256 => None,
        Ok((found, _)) => Some(format!(
            "{} is not what the profile's id names: expected {}, found {found}; it was not loaded",
            file.path, file.sha256
        )),
        Err(error) => Some(format!("{} cannot be read: {error}", file.path)),
    })
}

/// Checks that a profile was made from these graphs, and its plans for its target.
fn wrong_origin(passport: &Passport, graphs: &Graphs<'_>) -> Option<String> {
    for (name, (_, digest)) in graphs {
        let Some(graph) = passport.graphs.get(*name) else {
            return Some(format!("it has no graph `{name}`"));
        };
        let records = std::iter::once(&graph.lowering).chain(&graph.compilation);
        for record in records {
            if record.document.graph != **digest {
                return Some(format!(
                    "its graph `{name}` was built from another model than the recipe names"
                ));
            }
        }
        let wanted = passport.contents.target.compute_capabilities();
        let plan = graph.compilation.as_ref().and_then(|record| record.plan.as_ref());
        if let Some(plan) = plan.filter(|plan| plan.compute_capabilities != wanted) {
            let found = crate::profile::capability_tag(&plan.compute_capabilities);
            let wanted = crate::profile::capability_tag(&wanted);
            return Some(format!(
                "the plan of `{name}` says that it is for {found}, and the profile is for {wanted}"
            ));
        }
    }
    None
}

fn gates(
    passport: &Passport,
    graphs: &Graphs<'_>,
    store: &Store,
    numbers: &mut Numbers<'_>,
    thresholds: &Thresholds,
) -> Result<Vec<GateResult>, ValidateError> {
    let mut gates = Vec::new();
    let mut embeddings = Vec::new();
    for name in graphs.keys() {
        let outputs = match &passport.graphs[*name].compilation {
            None => numbers.of_file(name, &lay_out(passport, name, store)?)?,
            Some(_) => numbers.emulated(name, &passport.graphs[*name].lowering.document.lowering)?,
        };
        let reference = numbers.reference(name)?;
        check_shapes(name, &reference, &outputs)?;
        for (case, found) in &outputs.cases {
            for (output, expected) in &reference.cases[case] {
                let subject = format!("{name}/{output}");
                let judge = if expected.is_embedding() { embedding_gates } else { output_gates };
                gates.extend(judge(&subject, case, expected, &found[output], thresholds));
            }
        }
        for (output, alone) in &outputs.alone {
            gates.push(batch_gate(
                &format!("{name}/{output}"),
                alone,
                &outputs.cases["opt"][output],
                thresholds,
            ));
        }
        embeddings.push((*name, reference, outputs));
    }
    // Two towers, each with one embedding of the same width.
    if let [(a_name, a_reference, a_found), (b_name, b_reference, b_found)] = embeddings.as_slice() {
        let subject = format!("{a_name} × {b_name}");
        for case in ["opt", "max"] {
            let parts = [a_reference, a_found, b_reference, b_found].map(|outputs| outputs.embedding(case));
            if let [Some(a), Some(a_found), Some(b), Some(b_found)] = parts
                && a.row_length() == b.row_length()
            {
                gates.extend(cross_modal_gates(&subject, case, (a, a_found), (b, b_found), thresholds));
            }
        }
    }
    Ok(gates)
}

/// Fails if an output is missing or has another shape than the reference's.
fn check_shapes(graph: &str, reference: &Outputs, found: &Outputs) -> Result<(), ValidateError> {
    for (case, outputs) in &reference.cases {
        for (name, expected) in outputs {
            let problem = match found.cases.get(case).and_then(|outputs| outputs.get(name)) {
                None => "is missing".to_owned(),
                Some(floats) if floats.shape != expected.shape => {
                    format!("has shape {:?}, and {:?} was expected", floats.shape, expected.shape)
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

/// Returns a folder with the files of one graph, as the profile has them.
fn lay_out(passport: &Passport, graph: &str, store: &Store) -> Result<numbers::Model, ValidateError> {
    let record = &passport.graphs[graph].lowering;
    let folder = store.work_folder()?;
    store.lay_out(&record.outputs, folder.path())?;
    let first = record.outputs.first().map(|output| folder.path().join(&output.path));
    let path = first.ok_or_else(|| ValidateError::Profile(format!("graph `{graph}` has no file")))?;
    Ok(numbers::Model { path, _folder: folder })
}

/// Returns the folder that samples of a recipe are relative to.
pub(super) fn sample_folder(recipe: &Path) -> &Path {
    recipe.parent().unwrap_or(Path::new(""))
}

//! `--replay`: runs one row again, alone, and leaves its inputs and outputs on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::ValidateError;
use super::inputs::Files;
use super::numbers::Numbers;
use super::outputs::tensor_of;
use super::profile::{check_files, gates_of, hidden_precision, lay_out, wrong_origin};
use crate::ops::assemble::{self, Assembled, AssembledState};
use crate::ops::resolve::Resolved;
use crate::ops::runners::Runners;
use crate::ops::samples::{self, BatchAxes, rows_along};
use crate::ops::workspace::Workspace;
use crate::passport::Passport;
use crate::store::Store;
use crate::validation::{GateResult, Output};
use crate::worker::npy::Tensor;
use crate::worker::protocol::Execution;

/// A row of a run, as results name it: `vision/opt/17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The graph.
    pub graph: String,
    /// Which shapes were run: `min`, `opt` or `max`.
    pub shapes: String,
    /// The row, from 0.
    pub row: usize,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected GRAPH/SHAPES/ROW, as in vision/opt/17, with min, opt or max".to_owned();
        let parts: Vec<&str> = text.split('/').collect();
        let [graph, shapes @ ("min" | "opt" | "max"), row] = parts.as_slice() else { return Err(wrong()) };
        let row = row.parse().map_err(|_| wrong())?;
        Ok(Self { graph: (*graph).into(), shapes: (*shapes).into(), row })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { graph, shapes, row } = self;
        write!(f, "{graph}/{shapes}/{row}")
    }
}

/// The result of a row.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The profile's name.
    pub name: String,
    /// What ran it.
    pub ran_on: String,
    /// The gates of the row alone.
    pub gates: Vec<GateResult>,
    /// `inputs/`, `reference/` and `found/`, each with `<index>-<name>.npy`.
    pub folder: PathBuf,
}

/// Runs one row of one profile beside the FP32 graph, alone, and writes its inputs and both outputs into `folder`.
///
/// # Errors
/// As [`super::validate`]; other than exactly one profile; a row or graph that isn't there; a graph that fails on it.
pub fn replay(
    workspace: &Workspace,
    resolved: &Resolved,
    execution: &Execution,
    place: &Place,
    folder: &Path,
) -> Result<Replay, ValidateError> {
    let wrong = |reason: String| ValidateError::Replay { place: place.to_string(), reason };
    let store = Store::look_at(&workspace.store);
    let (assembled, _in_use) = assemble::from_store_in_use(resolved, &store)?;
    let passport = only_profile(assembled, &store)?.map_err(&wrong)?;
    check_files(&passport, &store)?;
    if let Some(failure) = wrong_origin(&passport, &resolved.digests) {
        return Err(ValidateError::Profile(failure));
    }
    let mut numbers = Numbers::start(workspace, resolved)?;
    let Place { graph, shapes, row } = place;
    let files = numbers.files(graph, shapes).cloned();
    let files = files.ok_or_else(|| wrong(format!("the recipe has no graph `{graph}`")))?;
    let axes = resolved.subject(graph).batch_axes();
    let inputs = one_row(&files, &axes, *row, &folder.join("inputs")).map_err(wrong)?;
    let reference_path = numbers.reference_path(graph);
    let reference = numbers.cpu().run_on(inputs.clone(), &reference_path);
    let reference = reference.map_err(|source| numbers.reference_failed(graph, source))?;
    let mut runners = Runners::new(&resolved.backends, execution);
    runners.check().map_err(|reason| ValidateError::Provider { reason })?;
    let way = runners.for_profile(&passport);
    let hidden = way.as_ref().ok().and_then(|way| hidden_precision(&passport, way));
    let emulated = |numbers: &mut Numbers<'_>, inputs: Files| {
        let lowering = &passport.graphs[graph].lowering.document.lowering;
        let model = numbers.emulated_model(graph, lowering)?;
        let found = numbers.cpu().run_on(inputs, &model.path);
        found.map_err(|error| numbers.profile_failed(graph, error))
    };
    // What the run of the profile itself hides.
    let hides = hidden.map(|_| emulated(&mut numbers, inputs.clone())).transpose()?;
    let (found, ran_on) = match way {
        Ok(way) => {
            let model = lay_out(&passport, graph, &store)?;
            let mut worker = numbers.runtime(way, &passport);
            worker.expect(&model.path, &passport.graphs[graph].shipped().outputs);
            let lowering = &passport.graphs[graph].lowering.document.lowering;
            let inputs = samples::lowered(&inputs, lowering)
                .map_err(|source| ValidateError::Samples { graph: graph.clone(), source })?;
            let found = worker.run_on(inputs, &model.path);
            let found = found.map_err(|error| numbers.profile_failed(graph, error))?;
            (found, worker.place().map_err(|error| numbers.profile_failed(graph, error.into()))?)
        }
        Err(_) => (emulated(&mut numbers, inputs)?, numbers.reference_runtime().to_owned()),
    };
    let mut gates = Vec::new();
    let all = std::iter::once(&found).chain(&hides);
    for (found, (output, expected)) in
        all.flat_map(|found| reference.iter().map(move |expected| (found, expected)))
    {
        let subject = format!("{graph}/{output}");
        let of_profile = found.get(output).filter(|found| found.shape() == expected.shape());
        let of_profile = of_profile.ok_or_else(|| {
            ValidateError::Profile(format!(
                "output `{output}` of graph `{graph}` is missing or has a different shape"
            ))
        })?;
        gates.extend(gates_of(&subject, shapes, expected, of_profile, &resolved.recipe().validation));
    }
    keep(&reference, &folder.join("reference"))?;
    keep(&found, &folder.join("found"))?;
    if let (Some(precision), Some(hides)) = (hidden, &hides) {
        keep(hides, &folder.join(format!("emulated-{precision}")))?;
    }
    Ok(Replay { name: passport.name, ran_on, gates, folder: folder.into() })
}

/// Returns the passport of the one profile that was selected, or in words why there isn't one.
fn only_profile(profiles: Vec<Assembled>, store: &Store) -> Result<Result<Passport, String>, ValidateError> {
    let mut found = Vec::new();
    for Assembled { name, state } in profiles {
        if let AssembledState::Complete(profile) = state
            && let Some(passport) = store.passport(&profile.passport.id)?
        {
            found.push((name, passport));
        }
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(", ");
    let mut found = found.into_iter();
    Ok(match (found.next(), found.next()) {
        (Some((_, passport)), None) => Ok(passport),
        (None, _) => Err("no profile of this recipe is built: run `nimctl build`".into()),
        _ => Err(format!("select one profile with --only; the profiles are {names}")),
    })
}

/// Writes one row of every input, or in words why not.
fn one_row(files: &Files, axes: &BatchAxes, row: usize, folder: &Path) -> Result<Files, String> {
    fs_err::create_dir_all(folder).map_err(|error| error.to_string())?;
    // Absolute: the worker has another current folder.
    let folder = fs_err::canonicalize(folder).map_err(|error| error.to_string())?;
    let mut rows = Files::new();
    for (index, (input, path)) in files.iter().enumerate() {
        let tensor = Tensor::read(path).map_err(|error| error.to_string())?;
        let axis = axes.axis(input);
        let count = axis.and_then(|axis| tensor.shape().get(axis).copied()).unwrap_or(1);
        // Inputs without a batch are the same for every row.
        if row >= count && (axis.is_some() || files.keys().all(|input| axes.axis(input).is_none())) {
            return Err(format!(
                "the row does not exist: input `{input}` has rows 0 to {}",
                count.saturating_sub(1)
            ));
        }
        let path = folder.join(file_name(index, input));
        let row = axis.map_or_else(|| tensor.clone(), |axis| rows_along(&tensor, axis, row, 1));
        row.write(&path).map_err(|error| error.to_string())?;
        rows.insert(input.clone(), path);
    }
    Ok(rows)
}

fn keep(outputs: &BTreeMap<String, Output>, folder: &Path) -> Result<(), ValidateError> {
    let failed = |source| ValidateError::Io { doing: format!("writing into {}", folder.display()), source };
    fs_err::create_dir_all(folder).map_err(failed)?;
    for (index, (name, output)) in outputs.iter().enumerate() {
        let Some(tensor) = tensor_of(output) else { continue };
        tensor
            .write(&folder.join(file_name(index, name)))
            .map_err(|error| failed(std::io::Error::other(error)))?;
    }
    Ok(())
}

/// Names of tensors may hold anything; names of files may not.
fn file_name(index: usize, tensor: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    format!("{index}-{}.npy", tensor.chars().map(plain).collect::<String>())
}

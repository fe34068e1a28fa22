//! Checks an ONNX file that has no recipe: in the shapes and for the targets that `nimctl init` would propose.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Candidate, CheckError, CheckOptions, CheckReport, Target, try_all};
use crate::backend::{Backend, Builds};
use crate::onnx::{LoweringOptions, OnnxFile, Precision};
use crate::ops::event::OnEvent;
use crate::ops::init::trial::{Tools, try_in_shapes};
use crate::ops::resolve::Backends;
use crate::ops::to_lower::ToLower;
use crate::ops::workspace::Workspace;
use crate::profile::ProfilePrecision;
use crate::recipe::proposal::{DraftGraph, Trial, names};
use crate::shape_range::ShapeRange;

/// The maximum time for one run of a graph in the proposed shapes.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum time for finding shapes that the graph takes.
const SEARCH_TIME: Duration = Duration::from_secs(60);

/// Checks one ONNX file with the backend that builds ahead of time.
///
/// # Errors
/// A file that is no ONNX model; a backend that is missing; the user's stop.
pub fn check_model(
    workspace: &Workspace,
    path: &Path,
    options: &CheckOptions,
    on_event: OnEvent<'_>,
) -> Result<CheckReport, CheckError> {
    let file = OnnxFile::open(path)?;
    let backend = Backend::ahead_of_time();
    let command = Backends::new(workspace).command_of(&backend)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let name = names::of_graphs(&[&stem]).pop().unwrap_or_else(|| "model".into());
    let mut graph = DraftGraph::of(&name, &path.display().to_string(), &file);
    let tools = Tools {
        places: &workspace.places,
        search_path: &workspace.search_path,
        run_timeout: RUN_TIMEOUT,
        search_time: SEARCH_TIME,
        cancel: &workspace.cancel,
    };
    let is_dynamic = graph.inputs.iter().any(|input| input.range.is_some());
    if is_dynamic {
        graph.trial = try_in_shapes(&mut graph, &file, &tools);
    }
    if workspace.cancel.is_cancelled() {
        return Err(CheckError::Cancelled);
    }
    let shapes: BTreeMap<String, ShapeRange> = graph
        .inputs
        .iter()
        .filter_map(|input| Some((input.info.name.clone(), input.range.clone()?)))
        .collect();
    let mut capabilities = options.capabilities.clone();
    if let (true, Builds::AheadOfTime(known)) = (capabilities.is_empty(), backend.facts().builds) {
        capabilities = known.to_vec();
    }
    let mut precisions = Vec::new();
    for precision in &options.precisions {
        match precision {
            ProfilePrecision::Float(precision) => precisions.push(*precision),
            ProfilePrecision::Quantized(precision) => return Err(CheckError::NeedsRecipe(*precision)),
        }
    }
    if precisions.is_empty() {
        precisions = vec![Precision::Fp32, Precision::Fp16];
    }
    let targets: Vec<Target> = capabilities
        .into_iter()
        .map(|capability| Target {
            compute_capabilities: vec![capability],
            shape_ranges: shapes.clone(),
            workspace_mib: None,
        })
        .collect();
    let candidates = precisions
        .into_iter()
        .map(|precision| Candidate {
            graph: name.clone(),
            file: ToLower::Source(&file),
            lowering: LoweringOptions::new(
                precision,
                if precision == Precision::Fp32 { &[] } else { backend.facts().fp32_inside },
            ),
            backend: backend.clone(),
            command: command.clone(),
            targets: targets.clone(),
        })
        .collect();
    let verdicts = try_all(candidates, workspace, on_event)?;
    let notes = if is_dynamic { vec![note(&graph.trial)] } else { Vec::new() };
    Ok(CheckReport { shapes: BTreeMap::from([(name, shapes)]), notes, verdicts })
}

/// Says how good the shapes are.
fn note(trial: &Trial) -> String {
    match trial {
        Trial::Runs | Trial::Narrowed(_) => {
            "the shapes are proposals, in which ONNX Runtime runs the graph; `nimctl init` writes them into a recipe".into()
        }
        Trial::NotRun(why) => format!("the shapes are proposals that were not tried on ONNX Runtime: {why}"),
        Trial::Fails(why) => format!(
            "the shapes are proposals, but the graph fails on ONNX Runtime in every shape that was tried; write a recipe \
             with its shapes, and check that: {why}"
        ),
    }
}

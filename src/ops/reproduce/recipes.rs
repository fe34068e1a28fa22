//! What recipes say otherwise than a release was built from.

use std::path::PathBuf;

use super::error::{ReproduceError, io};
use super::released::{Released, ReleasedProfile};
use super::sources::Sources;
use crate::files::work_folder::WorkFolder;
use crate::onnx::{GraphDigest, OnnxFile, Precision, lower, other_weight};
use crate::ops::event::OnEvent;
use crate::ops::resolve::{RecipeFile, Resolved, resolve_sources};
use crate::ops::workspace::Workspace;
use crate::profile::ProfileSpec;
use crate::reproduction::{Finding, MadeFrom, Subject};
use crate::worklist::{FieldChange, changes_between};

/// Fields of a build key that say what is here, not what a recipe asks for.
const NOT_OF_RECIPES: [&str; 2] = ["lowering_version", "toolchain."];
/// Where the digests of a source graph are in a build key.
const GRAPH: &str = "graph.";

/// Recipes with their graphs.
pub(super) struct Recipes {
    resolved: Vec<Resolved>,
}

impl Recipes {
    /// Reads recipes, and fetches their graphs.
    pub(super) fn read(
        workspace: &Workspace,
        paths: &[PathBuf],
        on_event: OnEvent<'_>,
    ) -> Result<Self, ReproduceError> {
        let mut resolved = Vec::new();
        for path in paths {
            let file = RecipeFile::read(path)?;
            let graphs = resolve_sources(&file, workspace, on_event)?;
            resolved.push(Resolved::of_graphs(workspace, file.recipe, graphs));
        }
        Ok(Self { resolved })
    }

    /// Adds their graphs to those that were found.
    pub(super) fn add_to(&self, sources: &mut Sources) {
        for graph in self.resolved.iter().flat_map(|resolved| resolved.graphs.values()) {
            sources.add(graph.digest.clone(), graph.file.path());
        }
    }

    /// Returns what the recipe that asks for a profile says otherwise than what it was made from; nothing without recipes.
    pub(super) fn differences(
        &mut self,
        made_from: &MadeFrom,
        released: &Released,
        work: &WorkFolder,
    ) -> Result<Vec<Finding>, ReproduceError> {
        if self.resolved.is_empty() {
            return Ok(Vec::new());
        }
        let asks = |resolved: &&mut Resolved| {
            resolved.recipe().model.name == made_from.contents.model.name
                && resolved.recipe().profiles.iter().any(|spec| spec.name() == made_from.name)
        };
        let Some(resolved) = self.resolved.iter_mut().find(asks) else {
            let text = format!("no recipe asks for {} of {}", made_from.name, made_from.contents.model.name);
            return Ok(vec![Finding::new(Subject::Field, "profiles", text)]);
        };
        let mut findings = Vec::new();
        let (asked, recorded) = (&resolved.recipe().model.release, &made_from.contents.model.release);
        if asked != recorded {
            let change = FieldChange {
                field: "model.release".into(),
                old: Some(recorded.clone()),
                new: Some(asked.clone()),
            };
            findings.push(of_recipe(&change, None));
        }
        let Some(spec) =
            resolved.recipe().profiles.iter().find(|spec| spec.name() == made_from.name).cloned()
        else {
            return Ok(findings);
        };
        let graphs = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
        let (old, new) = (
            graphs(made_from.contents.graphs.keys().collect()),
            graphs(resolved.recipe().graphs.keys().collect()),
        );
        if old != new {
            let change = FieldChange { field: "graphs".into(), old: Some(old), new: Some(new) };
            findings.push(of_recipe(&change, None));
        }
        // The key of a graph that is shipped as ONNX has none.
        for change in changes_between(&made_from.contents.shape_ranges, &resolved.recipe().shape_ranges()) {
            let change = FieldChange { field: format!("shape_ranges.{}", change.field), ..change };
            findings.push(of_recipe(&change, None));
        }
        resolved.toolchains.insert(spec.name(), made_from.toolchain());
        let jobs = resolved.jobs_of(&[&spec])?;
        let changes = made_from.changes_to(&jobs);
        let is_said = |change: &FieldChange| change.field.starts_with("shape_ranges.");
        for (graph, change) in
            changes.iter().filter(|(_, change)| is_of_recipe(&change.field, &spec) && !is_said(change))
        {
            let finding = of_recipe(change, Some(graph));
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        let changed: std::collections::BTreeSet<&String> = changes
            .iter()
            .filter(|(_, change)| change.field.starts_with(GRAPH))
            .map(|(graph, _)| graph)
            .collect();
        for graph in changed {
            findings.push(weight(graph, resolved, made_from, released, work)?);
        }
        Ok(findings)
    }
}

/// Returns whether a field is what a recipe says itself: not what is here, and not what a build finds by running graphs.
fn is_of_recipe(field: &str, spec: &ProfileSpec) -> bool {
    let is_found = (field == "lowering.keep_nodes" && !spec.mixed_precision.is_empty())
        || field.starts_with("lowering.quantization.graph");
    !is_found && !NOT_OF_RECIPES.iter().any(|prefix| field.starts_with(prefix))
}

fn of_recipe(change: &FieldChange, graph: Option<&str>) -> Finding {
    let mut finding = Finding::of_change(Subject::Field, graph.unwrap_or_default(), change, "in the recipe");
    if graph.is_none() {
        finding.name.clone_from(&change.field);
        finding.text = finding.text.replacen("graph ``: ", "", 1);
    }
    finding
}

/// Names the first weight in which a recipe's graph differs from the one that a release was built from, as far as the release has
/// something to compare with: a profile that ships ONNX.
fn weight(
    graph: &str,
    resolved: &Resolved,
    made_from: &MadeFrom,
    released: &Released,
    work: &WorkFolder,
) -> Result<Finding, ReproduceError> {
    let nothing = |why: &str| {
        let text = format!("graph `{graph}`: which weight differs is not known: {why}");
        Ok(Finding::new(Subject::Weight, graph, text))
    };
    let Some(source) = resolved.graphs.get(graph) else { return nothing("the recipe has no such graph") };
    let Some(recorded) = made_from.contents.graphs.get(graph) else {
        return nothing("the release has no such graph");
    };
    let Some((with, released_file)) = shipped(released, graph, recorded) else {
        return nothing("no profile of the release ships this graph as ONNX");
    };
    let options = with.graphs[graph].options();
    let folder = WorkFolder::new_in(work.path(), "weight-").map_err(io("cannot make a folder"))?;
    let lowered;
    let ours = if options.precision == Precision::Fp32 {
        &source.file
    } else {
        let destination = folder.path().join(GraphDigest::MODEL_PATH);
        let made = lower::lower(&source.file, options, &destination).map_err(|error| error.to_string());
        match made.and_then(|_| OnnxFile::open(&destination).map_err(|error| error.to_string())) {
            Ok(file) => lowered = file,
            Err(why) => return nothing(&why),
        }
        &lowered
    };
    let of_release = match OnnxFile::open(&released_file) {
        Ok(file) => file,
        Err(error) => return nothing(&error.to_string()),
    };
    let lowered = match options.precision {
        Precision::Fp32 => String::new(),
        precision => format!(", lowered to {precision}"),
    };
    let other = match other_weight(&of_release, ours) {
        Ok(other) => other,
        Err(error) => return nothing(&error.to_string()),
    };
    Ok(match other {
        Some(other) => Finding::new(
            Subject::Weight,
            other.name.clone(),
            format!(
                "graph `{graph}`: weight `{}` of the recipe's graph is not that of {} in the release{lowered}: {}",
                other.name, with.name, other.what
            ),
        ),
        None => Finding::new(
            Subject::Weight,
            graph,
            format!(
                "graph `{graph}`: every weight is that of {} in the release{lowered}; the rest of the graph differs",
                with.name
            ),
        ),
    })
}

/// Returns a profile that ships a graph as ONNX, made of this source without quantization, with the model's file; FP32 if there is one.
fn shipped<'a>(released: &'a Released, graph: &str, source: &GraphDigest) -> Option<(&'a MadeFrom, PathBuf)> {
    let ships = |profile: &'a ReleasedProfile| {
        let (made_from, folder) = profile.here.as_ref()?;
        let of_graph = made_from.graphs.get(graph)?;
        let is_it = made_from.contents.backend.ships_onnx()
            && made_from.contents.graphs.get(graph) == Some(source)
            && of_graph.options().quantization.is_none();
        let file = of_graph.lowered.first().filter(|_| is_it)?;
        // Only what the contents list, whose paths stay in the folder.
        let path = format!("{graph}/{}", file.path);
        let listed = made_from.contents.files.iter().find(|listed| listed.path == path)?;
        Some((made_from, folder.join(&listed.path)))
    };
    let mut found: Vec<_> = released.profiles.iter().filter_map(ships).collect();
    found.sort_by_key(|(made_from, _)| made_from.graphs[graph].options().precision != Precision::Fp32);
    found.into_iter().next()
}

//! Checks the plans of a recipe: each graph as its profiles would have it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Answer, Candidate, CheckError, CheckOptions, CheckReport, Target, Verdict, try_all};
use crate::backend::Backend;
use crate::ops::event::OnEvent;
use crate::ops::resolve::{BackendHere, PendingSearch, Resolved};
use crate::ops::to_lower::{ToLower, ToLowerError};
use crate::ops::workspace::Workspace;
use crate::store::Store;
use crate::worklist::{Action, BuildKey, BuildKeyDocument, Job, JobState};

/// Checks the plans of a resolved recipe.
///
/// # Errors
/// A backend that is missing; nothing that fits the options; the user's stop.
pub fn check_recipe(
    workspace: &Workspace,
    resolved: &Resolved,
    options: &CheckOptions,
    on_event: OnEvent<'_>,
) -> Result<CheckReport, CheckError> {
    let mut report = CheckReport { shapes: resolved.recipe().shape_ranges(), ..CheckReport::default() };
    let mut candidates: BTreeMap<(Backend, BuildKey), Candidate<'_>> = BTreeMap::new();
    let store = Store::look_at(&workspace.store);
    let mut plans = 0;
    for (job, state) in &resolved.jobs {
        let (Action::Compile(name), Some(lowered)) = (&job.document.action, job.input) else { continue };
        plans += 1;
        if !is_wanted(job, options) {
            continue;
        }
        let built = resolved.builders.iter().find(|(backend, _)| backend.name() == name);
        let Some((backend, BackendHere::Ready(builder))) = built else { continue };
        // The rest is of the lowered graph, or identifies what builds it.
        let BuildKeyDocument {
            schema: _,
            action: _,
            graph: _,
            lowering,
            lowering_version: _,
            toolchain: _,
            compute_capabilities,
            tuned_on: _,
            shape_ranges,
            workspace_mib,
        } = &job.document;
        if let JobState::UpToDate(_) = state {
            report.verdicts.push(Verdict {
                graph: job.graph.clone(),
                backend: backend.clone(),
                precision: lowering.profile_precision(),
                compute_capabilities: compute_capabilities.clone(),
                answer: Answer::Yes { build_ms: None },
            });
            continue;
        }
        let candidate = match candidates.entry((backend.clone(), lowered)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let file = ToLower::of(&resolved.graphs[&job.graph].file, lowering, &store);
                let file = match file {
                    Ok(file) => file,
                    Err(error @ (ToLowerError::NotFound | ToLowerError::NotInStore)) => {
                        report.verdicts.push(Verdict {
                            graph: job.graph.clone(),
                            backend: backend.clone(),
                            precision: lowering.profile_precision(),
                            compute_capabilities: compute_capabilities.clone(),
                            answer: Answer::Unknown(error.to_string()),
                        });
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                new.insert(Candidate {
                    graph: job.graph.clone(),
                    file,
                    lowering: lowering.clone(),
                    backend: backend.clone(),
                    command: builder.command.clone(),
                    targets: Vec::new(),
                })
            }
        };
        candidate.targets.push(Target {
            compute_capabilities: compute_capabilities.clone(),
            shape_ranges: shape_ranges.clone(),
            workspace_mib: *workspace_mib,
        });
    }
    report.notes = notes(resolved, plans);
    report.verdicts.extend(elsewhere(resolved, options));
    let has_plans = plans > 0 || !resolved.elsewhere.is_empty();
    if has_plans && candidates.is_empty() && report.verdicts.is_empty() {
        return Err(CheckError::NothingSelected);
    }
    report.verdicts.extend(try_all(candidates.into_values().collect(), workspace, on_event)?);
    let place = |verdict: &Verdict| {
        (
            verdict.graph.clone(),
            verdict.backend.clone(),
            verdict.precision,
            verdict.compute_capabilities.clone(),
        )
    };
    report.verdicts.sort_by_key(place);
    Ok(report)
}

fn is_wanted(job: &Job, options: &CheckOptions) -> bool {
    let CheckOptions { capabilities, precisions } = options;
    let document = &job.document;
    (precisions.is_empty() || precisions.contains(&document.lowering.profile_precision()))
        && (capabilities.is_empty()
            || document.compute_capabilities.iter().any(|capability| capabilities.contains(capability)))
}

/// The profiles that can't be built on this machine: nothing is known of them.
fn elsewhere(resolved: &Resolved, options: &CheckOptions) -> Vec<Verdict> {
    let CheckOptions { capabilities, precisions } = options;
    let mut verdicts = Vec::new();
    for spec in &resolved.recipe().profiles {
        let Some(needs) = resolved.elsewhere.get(&spec.name()) else { continue };
        let compute_capabilities = spec.target.compute_capabilities();
        let wanted = (precisions.is_empty() || precisions.contains(&spec.precision()))
            && (capabilities.is_empty() || compute_capabilities.iter().any(|one| capabilities.contains(one)));
        for graph in resolved.graphs.keys().filter(|_| wanted) {
            let verdict = Verdict {
                graph: graph.clone(),
                backend: spec.backend.clone(),
                precision: spec.precision(),
                compute_capabilities: compute_capabilities.clone(),
                answer: Answer::Unknown(needs.clone()),
            };
            let is_known = |known: &Verdict| {
                (&known.graph, &known.backend, known.precision, &known.compute_capabilities)
                    == (&verdict.graph, &verdict.backend, verdict.precision, &verdict.compute_capabilities)
            };
            if !verdicts.iter().any(is_known) {
                verdicts.push(verdict);
            }
        }
    }
    verdicts
}

fn notes(resolved: &Resolved, plans: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if plans == 0 && resolved.elsewhere.is_empty() {
        notes.push("the recipe has no plans: its profiles are the ONNX graphs themselves".into());
    }
    let nodes = resolved.searches.iter().filter(|search| search.spec.quantization.is_none());
    for PendingSearch { spec, graph, key: _ } in nodes {
        notes.push(format!(
            "{}, graph `{graph}`: the nodes that stay in FP32 are determined during the build; here only those that the \
             recipe lists are",
            spec.name()
        ));
    }
    notes
}

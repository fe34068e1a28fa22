//! Finds what a recipe asks for and the store doesn't know, by running graphs: which nodes must stay in FP32, and how a graph is
//! quantized.

use crate::mixed_precision::MixedPrecisionReport;
use crate::ops::error::{JobError, PipelineError};
use crate::ops::event::{BuildEvent, OnEvent};
use crate::ops::mixed_precision::{Runner, find};
use crate::ops::quantize::{self, QuantizeError, QuantizeProgress};
use crate::ops::resolve::{PendingSearch, Resolved};
use crate::ops::workspace::Workspace;
use crate::store::{QuantizedGraph, Store};

/// Runs every search of a recipe, and keeps in the store what is found.
pub(super) fn run_all(
    workspace: &Workspace,
    resolved: &mut Resolved,
    store: &Store,
    on_event: OnEvent<'_>,
) -> Result<(), PipelineError> {
    for search in std::mem::take(&mut resolved.searches) {
        if search.spec.quantization.is_some() {
            quantized(workspace, resolved, &search, store, on_event)?;
            continue;
        }
        // Another process may have found it while we waited for the store.
        let report = match store.mixed_precision(&search.key)? {
            Some(known) => known,
            None => {
                let found = run(workspace, resolved, &search, store, on_event)?;
                store.put_mixed_precision(&search.key, &found)?;
                found
            }
        };
        resolved.lowerings.add_kept(&search.spec, &search.graph, report);
    }
    Ok(())
}

fn run(
    workspace: &Workspace,
    resolved: &Resolved,
    search: &PendingSearch,
    store: &Store,
    on_event: OnEvent<'_>,
) -> Result<MixedPrecisionReport, PipelineError> {
    let PendingSearch { spec, graph, key } = search;
    let title = format!("{graph}: nodes that must stay in FP32 for {}", spec.precision());
    on_event(BuildEvent::JobStarted { title: title.clone() });
    let (command, _) = resolved.backends.reference()?;
    let work = store.work_folder()?;
    let runner = Runner {
        command,
        work_folder: work.path().into(),
        journal: store.mixed_precision_journal(key),
        timeout: workspace.job_timeout,
        cancel: workspace.cancel.clone(),
    };
    let subject = resolved.subject_as_given(graph);
    let found = find(&subject, &spec.lowering, spec.mixed_precision, &runner, &|progress| {
        let came_to = match progress.failed {
            true => "does not run".into(),
            false => format!("min cosine {:.5}", progress.row_cosine),
        };
        let (evaluations, most, kept) = (progress.evaluations, progress.most, progress.kept);
        let stage = format!("graph {evaluations} of at most {most}: {kept} kept, {came_to}");
        on_event(BuildEvent::JobStage { title: title.clone(), stage });
    });
    let report = found.map_err(|source| {
        if workspace.cancel.is_cancelled() {
            return PipelineError::Cancelled;
        }
        PipelineError::MixedPrecision { graph: graph.clone(), source }
    })?;
    resolved.graphs[graph].check_unchanged(graph)?;
    on_event(BuildEvent::MixedPrecision { title, report: Box::new(report.clone()) });
    Ok(report)
}

/// Takes a quantized graph from the store, or finds one. Why there is none is remembered: it concerns the profile alone.
fn quantized(
    workspace: &Workspace,
    resolved: &mut Resolved,
    search: &PendingSearch,
    store: &Store,
    on_event: OnEvent<'_>,
) -> Result<(), PipelineError> {
    let PendingSearch { spec, graph, key } = search;
    // Another process may have found it, or another profile that is quantized alike.
    if let Some(known) = store.quantized_graph(key)? {
        resolved.lowerings.add_quantized(spec, graph, known);
        return Ok(());
    }
    if resolved.lowerings.failure(graph, &spec.lowering).is_some() {
        return Ok(());
    }
    let title = format!("{graph}: how to quantize to {}", spec.precision());
    on_event(BuildEvent::JobStarted { title: title.clone() });
    let stage = |stage: String| on_event(BuildEvent::JobStage { title: title.clone(), stage });
    let found = quantize::for_profile(workspace, resolved, search, store, &|progress| match progress {
        QuantizeProgress::Measured { rows, of } => stage(format!("row {rows} of {of} measured")),
        QuantizeProgress::Tried { evaluations, most, method, kept, result } => stage(format!(
            "graph {evaluations} of at most {most}: {method}, {kept} kept, min cosine {:.5}",
            result.min_row_cosine
        )),
    });
    if workspace.cancel.is_cancelled() {
        return Err(PipelineError::Cancelled);
    }
    resolved.graphs[graph].check_unchanged(graph)?;
    match found {
        Ok(found) => {
            store.put_quantized_graph(key, &found)?;
            let QuantizedGraph { record, .. } = &found;
            on_event(BuildEvent::Quantized { title, choice: Box::new(record.choice.clone()) });
            resolved.lowerings.add_quantized(spec, graph, found);
        }
        Err(QuantizeError::Pipeline(error)) => return Err(*error),
        Err(error) => {
            on_event(BuildEvent::JobFailed { title, message: error.to_string() });
            resolved.lowerings.add_failure(spec, graph, JobError::new(error.kind(), error));
        }
    }
    Ok(())
}

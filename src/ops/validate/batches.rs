//! Whether the rows of a profile depend on their batch: one gate for each output whose rows can be compared.

use std::collections::BTreeMap;

use super::inputs::Alone;
use super::outputs::Outputs;
use crate::validation::{BatchPart, BatchRuns, Demands, GateResult, Output, batch_gate};

/// Returns the gate of each output of a graph by `graph/output`, or why it has none. `outputs` are those of the reference and of
/// the profile.
pub(super) fn gates(
    graph: &str,
    alone: &BTreeMap<&'static str, Alone>,
    (reference, found): (&Outputs, &Outputs),
    demands: &Demands,
) -> Vec<(String, Result<GateResult, String>)> {
    let Some(Alone { whole, .. }) = alone.values().next() else {
        let why = "no input has a batch of more rows than its min shape, so no rows can be run alone";
        return vec![(format!("graph {graph}"), Err(why.into()))];
    };
    let one = |output: &String| {
        let subject = format!("{graph}/{output}");
        let in_batch =
            (reference.cases[whole].get(output), found.cases.get(whole).and_then(|found| found.get(output)));
        let (Some(in_reference), Some(in_profile)) = in_batch else {
            return (subject, Err(format!("the {whole} shapes were not run")));
        };
        let gate = match (runs_of(alone, reference, output), runs_of(alone, found, output)) {
            (Some(of_reference), Some(of_profile)) => batch_gate(
                &subject,
                whole,
                &BatchRuns { in_batch: in_reference, alone: &of_reference },
                &BatchRuns { in_batch: in_profile, alone: &of_profile },
                &demands.thresholds,
            ),
            _ => Err("it is missing where rows were run alone".into()),
        };
        (subject, gate)
    };
    reference.cases[whole].keys().map(one).collect()
}

/// Returns an output of each run of rows alone, with the rows that they are.
fn runs_of<'a>(
    alone: &'a BTreeMap<&'static str, Alone>,
    outputs: &'a Outputs,
    output: &str,
) -> Option<Vec<(&'a [BatchPart], &'a Output)>> {
    alone.iter().map(|(run, alone)| Some((&alone.parts[..], outputs.alone.get(run)?.get(output)?))).collect()
}

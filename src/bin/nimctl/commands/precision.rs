//! What `nimctl build` reports of its comparison of lowered graphs with their FP32 graphs.

use std::fmt::Write as _;

use nimctl::ops::precision_check::{CheckOutcome, CheckedGraph};
use nimctl::precision_check::{CheckedOutput, Parting, PartingNode, PrecisionCheck, SkippedShapes};
use serde::Serialize;

/// Returns one line for each graph that falls below the gate.
pub(super) fn warnings(checks: &[CheckedGraph]) -> Vec<String> {
    let warning = |checked: &CheckedGraph| {
        let CheckOutcome::Checked(check) = &checked.outcome else { return None };
        let CheckedOutput { shapes, output, row_cosine } =
            check.failed().min_by(|a, b| a.row_cosine.total_cmp(&b.row_cosine))?;
        Some(format!(
            "graph `{}`, {}: the min row cosine of output `{output}` against FP32 is {row_cosine:.5} ({shapes} shapes), below {}",
            checked.graph, checked.precision, check.gate
        ))
    };
    checks.iter().filter_map(warning).collect()
}

/// Returns the part of the report; empty if nothing was to be compared.
pub(super) fn text(checks: &[CheckedGraph]) -> String {
    let mut text = String::new();
    let reasons: Vec<&str> = checks
        .iter()
        .filter_map(|checked| match &checked.outcome {
            CheckOutcome::Skipped(reason) => Some(reason.as_str()),
            CheckOutcome::Checked(_) => None,
        })
        .collect();
    if let Some(reason) = reasons.first()
        && reasons.len() == checks.len()
        && reasons.iter().all(|other| other == reason)
    {
        let _ = writeln!(text, "\nnot compared with FP32: {reason}");
        return text;
    }
    if checks.is_empty() {
        return text;
    }
    text.push_str("\ncompared with FP32 (min row cosine):\n");
    for checked in checks {
        let title = checked.title.replace(": lower to ", ", ");
        match &checked.outcome {
            CheckOutcome::Skipped(reason) => {
                let _ = writeln!(text, "  {title}: not compared: {reason}");
            }
            CheckOutcome::Checked(check) => add_check(&mut text, &title, checked, check),
        }
    }
    text
}

fn add_check(text: &mut String, title: &str, checked: &CheckedGraph, check: &PrecisionCheck) {
    let PrecisionCheck { gate, outputs: _, skipped, parting } = check;
    match check.min_row_cosine() {
        None => {
            let _ = writeln!(text, "  {title}: no output of floats to compare");
        }
        Some(cosine) if cosine >= *gate => {
            let _ = writeln!(text, "  {title}: {cosine:.7}");
        }
        Some(cosine) => {
            let _ = writeln!(text, "  {title}: {cosine:.7}, below {gate}");
        }
    }
    for SkippedShapes { shapes, reason } in skipped {
        let _ = writeln!(text, "    {shapes} shapes not run: {reason}");
    }
    for CheckedOutput { shapes, output, row_cosine } in check.failed() {
        let _ = writeln!(text, "    output {output}, {shapes} shapes: {row_cosine:.7}");
    }
    let Some(parting) = parting else { return };
    for PartingNode { node, op_type, row_cosine } in &parting.nodes {
        let _ = writeln!(text, "    first differs at {node} ({op_type}): {row_cosine:.7}");
    }
    match (parting.yaml(), parting.row_cosine_then) {
        (Some(yaml), Some(then)) => {
            let _ = writeln!(
                text,
                "    in the recipe, add to `lowering` of {}; the min row cosine is {then:.7} then:",
                checked.profiles.first().map_or("the profile", String::as_str)
            );
            yaml.lines().for_each(|line| {
                let _ = writeln!(text, "      {line}");
            });
        }
        _ => {
            let why = parting.ended_because.as_deref().unwrap_or("nothing was found");
            let _ = writeln!(
                text,
                "    the search for nodes to keep in FP32 ended early: {why}; try `search: {{}}` in the recipe's `lowering`"
            );
        }
    }
}

/// A part of `nimctl.build-report/1`.
#[derive(Serialize)]
pub(super) struct CheckView<'a> {
    graph: &'a str,
    precision: String,
    profiles: &'a [String],
    /// `passed`, `warned` or `skipped`.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<f64>,
    outputs: &'a [CheckedOutput],
    skipped: &'a [SkippedShapes],
    #[serde(skip_serializing_if = "Option::is_none")]
    parting: Option<&'a Parting>,
    /// What to write under `lowering` in the recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
}

impl<'a> CheckView<'a> {
    pub(super) fn new(checked: &'a CheckedGraph) -> Self {
        let CheckedGraph { title: _, graph, precision, profiles, outcome } = checked;
        let precision = precision.to_string();
        match outcome {
            CheckOutcome::Skipped(reason) => Self {
                graph,
                precision,
                profiles,
                status: "skipped",
                reason: Some(reason),
                gate: None,
                outputs: &[],
                skipped: &[],
                parting: None,
                recipe: None,
            },
            CheckOutcome::Checked(check) => {
                let status = if check.failed().next().is_some() { "warned" } else { "passed" };
                let PrecisionCheck { gate, outputs, skipped, parting } = check;
                Self {
                    graph,
                    precision,
                    profiles,
                    status,
                    reason: None,
                    gate: Some(*gate),
                    outputs,
                    skipped,
                    parting: parting.as_ref(),
                    recipe: parting.as_ref().and_then(Parting::yaml),
                }
            }
        }
    }
}

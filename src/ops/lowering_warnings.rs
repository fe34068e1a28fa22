//! What a user should know of a lowering, in words.

use std::collections::BTreeMap;

use crate::onnx::LoweringReport;
use crate::onnx::lower::KeepReason;

/// The maximum number of names in a message; the report has all.
const MAX_NAMES: usize = 5;

/// Returns a warning for each thing that keeps a part of a graph in FP32, and that another export of it would change.
pub(super) fn lowering_warnings(report: &LoweringReport) -> Vec<String> {
    newer_operator_set(report).into_iter().chain(replaceable_weights(report)).collect()
}

fn newer_operator_set(report: &LoweringReport) -> Option<String> {
    let mut operators: BTreeMap<(&str, i64), usize> = BTreeMap::new();
    for node in &report.nodes_kept {
        if let KeepReason::NewerOperatorSet { opset } = node.reason {
            *operators.entry((&node.op_type, opset)).or_default() += 1;
        }
    }
    let opset = operators.keys().map(|(_, opset)| *opset).max()?;
    let nodes: usize = operators.values().sum();
    let names = some_of(operators.keys().map(|(op_type, opset)| format!("{op_type} from opset {opset} on")));
    let (precision, nodes) = (report.precision, counted(nodes, "node"));
    Some(format!(
        "{nodes} kept in fp32, because the operator set of the graph does not define the operator for {precision} ({names}): \
         convert the model to opset {opset} to change that"
    ))
}

fn replaceable_weights(report: &LoweringReport) -> Option<String> {
    let weights = &report.replaceable_weights;
    if weights.is_empty() {
        return None;
    }
    let names = some_of(weights.iter().map(|name| format!("`{name}`")));
    let count = counted(weights.len(), "weight");
    Some(format!(
        "{count} kept in fp32, because the graph lists them among its inputs, where a caller may replace them ({names}): \
         export the model without `keep_initializers_as_inputs` to change that"
    ))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what} is") } else { format!("{count} {what}s are") }
}

fn some_of(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    if names.len() > MAX_NAMES {
        names.truncate(MAX_NAMES);
        names.push("…".into());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Precision;
    use crate::onnx::lower::KeptNode;

    #[track_caller]
    fn check(kept: &[(&str, i64)], weights: &[&str], expected: &[&str]) {
        let node = |&(op_type, opset): &(&str, i64)| KeptNode {
            node: "n".into(),
            op_type: op_type.into(),
            reason: KeepReason::NewerOperatorSet { opset },
        };
        let report = LoweringReport {
            precision: Precision::Bf16,
            tensors_lowered: 0,
            weights_before_bytes: 0,
            weights_after_bytes: 0,
            nodes_lowered: 0,
            nodes_kept: kept.iter().map(node).collect(),
            casts_inserted: 0,
            clips_inserted: 0,
            values_clipped: 0,
            values_vanished: 0,
            largest_errors: Vec::new(),
            unmatched_keeps: Vec::new(),
            replaceable_weights: weights.iter().map(|&name| name.into()).collect(),
        };
        assert_eq!(lowering_warnings(&report), expected);
    }

    #[test]
    fn one_warning_says_what_a_newer_operator_set_would_change() {
        check(&[], &[], &[]);
        check(
            &[("Conv", 22), ("TopK", 24), ("Conv", 22)],
            &[],
            &[
                "3 nodes are kept in fp32, because the operator set of the graph does not define the operator for bf16 (Conv from \
               opset 22 on, TopK from opset 24 on): convert the model to opset 24 to change that",
            ],
        );
    }

    #[test]
    fn weights_that_a_caller_may_replace_are_named() {
        check(
            &[],
            &["a", "b", "c", "d", "e", "f"],
            &[
                "6 weights are kept in fp32, because the graph lists them among its inputs, where a caller may replace them (`a`, \
               `b`, `c`, `d`, `e`, …): export the model without `keep_initializers_as_inputs` to change that",
            ],
        );
    }
}

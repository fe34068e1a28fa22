//! What no TensorRT takes, as far as the graph alone shows it.

use std::collections::BTreeSet;

use crate::onnx::analysis::nodes;
use crate::onnx::{ElementType, OnnxFile};

/// Operators of values that are not numeric tensors.
const NOT_NUMBERS: &[&str] =
    &["Sequence", "SplitToSequence", "ConcatFromSequence", "Optional", "String", "TfIdf"];

/// Operators that run subgraphs: TensorRT takes some of them, depending on what is inside.
const CONTROL_FLOW: &[&str] = &["If", "Loop", "Scan"];

/// Returns the control flow of a graph; none if it has none, as most do.
pub(super) fn control_flow(file: &OnnxFile) -> Option<&'static str> {
    let operators: BTreeSet<&str> = nodes(file.graph()).into_iter().map(|node| node.op_type()).collect();
    CONTROL_FLOW.iter().copied().find(|operator| operators.contains(operator))
}

/// Returns why TensorRT can't build a graph, in words; `None` if no reason is known.
pub(super) fn dead_end(file: &OnnxFile) -> Option<String> {
    for info in file.inputs() {
        let name = info.name.escape_debug().to_string();
        match info.element_type {
            ElementType::String => return Some(format!("input `{name}` takes strings")),
            ElementType::Undefined => return Some(format!("input `{name}` is not a tensor")),
            _ if !info.rank_known => {
                return Some(format!("input `{name}` has no fixed number of dimensions"));
            }
            _ => {}
        }
    }
    let functions = &file.model().functions;
    nodes(file.graph()).into_iter().find_map(|node| {
        let operator = node.op_type().escape_debug().to_string();
        let is_own = matches!(node.domain(), "" | "ai.onnx");
        let is_function = functions
            .iter()
            .any(|function| function.domain() == node.domain() && function.name() == node.op_type());
        if !is_own && !is_function {
            return Some(format!(
                "operator {operator} of {} is not ONNX's own",
                node.domain().escape_debug()
            ));
        }
        (is_own && NOT_NUMBERS.iter().any(|start| node.op_type().starts_with(start)))
            .then(|| format!("operator {operator} does not work on numeric tensors"))
    })
}

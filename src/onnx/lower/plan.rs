//! Decides which nodes compute in the lower precision.

use std::collections::{BTreeMap, BTreeSet};

use super::LoweringOptions;
use super::convert::Losses;
use super::infer::Types;
use super::operators::{carries_shapes, is_own_domain, operator};
use super::report::KeepReason;
use crate::onnx::ElementType;
use crate::onnx::proto::{FunctionProto, GraphProto, NodeProto};

/// What becomes of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It has no FP32 input or output.
    Untouched,
    /// It computes in the lower precision.
    Lower,
    /// It stays as it is.
    Keep(KeepReason),
}

/// What the decisions are made from.
pub(super) struct Facts<'a> {
    pub(super) graph: &'a GraphProto,
    pub(super) functions: &'a [FunctionProto],
    pub(super) types: &'a Types,
    /// What each constant would lose, by value name.
    pub(super) losses: &'a BTreeMap<String, Losses>,
    pub(super) options: &'a LoweringOptions,
}

/// Returns a decision for each node.
pub(super) fn decide(facts: &Facts<'_>) -> Vec<Decision> {
    let exact = shape_arithmetic(facts.graph);
    let nodes = facts.graph.node.iter().enumerate();
    nodes.map(|(index, node)| decide_node(facts, node, exact.contains(&index))).collect()
}

/// Returns the names in the options that fit no node.
pub(super) fn unmatched_keeps(nodes: &[NodeProto], options: &LoweringOptions) -> Vec<String> {
    let ops = options.keep_ops.iter().filter(|op| !nodes.iter().any(|node| node.op_type() == op.as_str()));
    let names =
        options.keep_nodes.iter().filter(|name| !nodes.iter().any(|node| node.name() == name.as_str()));
    ops.chain(names).cloned().collect()
}

fn decide_node(facts: &Facts<'_>, node: &NodeProto, exact: bool) -> Decision {
    let is_float = |name: &String| facts.types.get(name) == Some(&ElementType::Float);
    if node.attribute.iter().any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty()) {
        return Decision::Keep(KeepReason::Subgraph);
    }
    if !node.input.iter().chain(&node.output).any(is_float) {
        return Decision::Untouched;
    }
    let kept = keep_reason(facts, node).or(exact.then_some(KeepReason::ShapeArithmetic));
    kept.or_else(|| overflow(facts, node)).map_or(Decision::Lower, Decision::Keep)
}

fn keep_reason(facts: &Facts<'_>, node: &NodeProto) -> Option<KeepReason> {
    if facts.options.keep_nodes.iter().any(|name| !name.is_empty() && name == node.name()) {
        return Some(KeepReason::KeptNode);
    }
    if facts.options.keep_ops.iter().any(|op| op == node.op_type()) {
        return Some(KeepReason::KeptOperator);
    }
    let is_call =
        |function: &FunctionProto| function.name() == node.op_type() && function.domain() == node.domain();
    if facts.functions.iter().any(is_call) {
        return Some(KeepReason::LocalFunction);
    }
    let Some(known) = operator(node.op_type()).filter(|_| is_own_domain(node.domain())) else {
        return Some(KeepReason::UnknownOperator);
    };
    if !known.lowerable {
        return Some(KeepReason::NeedsFp32);
    }
    let unknown = node.input.iter().find(|input| !input.is_empty() && !facts.types.contains_key(*input));
    unknown.map(|input| KeepReason::UnknownType { input: input.clone() })
}

fn overflow(facts: &Facts<'_>, node: &NodeProto) -> Option<KeepReason> {
    let fp32_inputs = operator(node.op_type())?.fp32_inputs;
    let lowered = node.input.iter().enumerate().filter(|(index, _)| !fp32_inputs.contains(index));
    // A node that makes a constant has its losses under the name of its output.
    lowered.map(|(_, name)| name).chain(&node.output).find_map(|name| {
        let values = facts.losses.get(name)?.overflowing;
        (values > 0).then(|| KeepReason::Overflow { tensor: name.clone(), values })
    })
}

/// Returns the nodes whose results end in shapes or indices.
fn shape_arithmetic(graph: &GraphProto) -> BTreeSet<usize> {
    let mut producers = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        producers.extend(node.output.iter().map(|output| (output.as_str(), index)));
    }
    let mut pending: Vec<&str> = Vec::new();
    for node in graph.node.iter().filter(|node| is_own_domain(node.domain())) {
        let shapes = operator(node.op_type()).map(|known| known.shape_inputs).unwrap_or_default();
        pending.extend(shapes.iter().filter_map(|&index| node.input.get(index)).map(String::as_str));
    }
    let mut reached = BTreeSet::new();
    while let Some(name) = pending.pop() {
        let Some(&index) = producers.get(name) else { continue };
        let node = &graph.node[index];
        if carries_shapes(node.op_type()) && reached.insert(index) {
            pending.extend(node.input.iter().map(String::as_str));
        }
    }
    reached
}

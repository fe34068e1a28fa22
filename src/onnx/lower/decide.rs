//! Decides which nodes compute in the lower precision.

use super::LoweringOptions;
use super::choice::{Body, Decision, Node};
use super::findings::Findings;
use super::policy::{depends_on_target, exact_inputs, needs_fp32};
use super::report::KeepReason;
use super::value::Values;
use crate::onnx::ElementType;
use crate::onnx::analysis::{
    Exactness, Kind, Signature, attribute, is_own_domain, later_signatures, stash_type,
};
use crate::onnx::proto::{FunctionProto, NodeProto};

/// Decides on every node of a graph and its subgraphs.
pub(super) fn decide(
    values: &Values,
    body: &mut Body<'_>,
    findings: &Findings<'_>,
    functions: &[FunctionProto],
    options: &LoweringOptions,
) {
    decide_body(values, body, findings, functions, options, None);
}

/// Returns the names in the options that fit no node.
pub(super) fn unmatched_keeps(body: &Body<'_>, options: &LoweringOptions) -> Vec<String> {
    let (mut ops, mut names) = (options.keep_ops.clone(), options.keep_nodes.clone());
    body.for_each_node(&mut |node| {
        ops.retain(|op| op != node.proto.op_type());
        names.retain(|name| name != node.label());
    });
    ops.append(&mut names);
    ops
}

fn decide_body(
    values: &Values,
    body: &mut Body<'_>,
    findings: &Findings<'_>,
    functions: &[FunctionProto],
    options: &LoweringOptions,
    outer: Option<&KeepReason>,
) {
    let scope = body.scope;
    for node in &mut body.nodes {
        let keep = outer
            .cloned()
            .or_else(|| asked_for(node, functions, options))
            .or_else(|| operator_reason(values, scope, node, findings, options))
            .or_else(|| findings.exactness(node).map(exact_reason))
            .or_else(|| findings.is_scale(node).then_some(KeepReason::NeedsFp32))
            .or_else(|| findings.is_spectrum(node).then_some(KeepReason::Spectrum))
            .or_else(|| {
                let asked = options.lower_ops.iter().any(|op| op == node.proto.op_type());
                (findings.is_sum(node) && !asked).then_some(KeepReason::Accumulation)
            });
        let mut exact_ends = None;
        let keep = match keep {
            Some(reason) => Some(reason),
            None => {
                find_low_parameters(values, scope, node, options);
                if node.is_control_flow() {
                    exact_ends = findings.keep_exact_ends(node);
                }
                losses(values, scope, node)
            }
        };
        let is_float = |name: &String| values.float(scope, name).is_some();
        let has_floats = node.proto.input.iter().chain(&node.proto.output).any(is_float);
        let is_low = node.note.low_inputs.iter().chain(&node.note.low_outputs).any(|low| *low);
        // What is kept because of what it holds has its subgraphs kept as well.
        let inside = keep.clone().filter(|_| !node.bodies.is_empty());
        node.note.decision = match keep {
            Some(reason) if has_floats || !node.bodies.is_empty() => Decision::Keep(reason),
            None if is_low => Decision::Lower,
            None if has_floats => {
                let definition = || newer_operator_set(values, scope, node, options);
                Decision::Keep(exact_ends.unwrap_or_else(definition))
            }
            Some(_) | None => Decision::Untouched,
        };
        if node.note.decision != Decision::Lower {
            node.note.low_inputs.clear();
            node.note.low_outputs.clear();
        }
        for body in &mut node.bodies {
            decide_body(values, body, findings, functions, options, inside.as_ref());
        }
    }
}

fn exact_reason(exactness: Exactness) -> KeepReason {
    match exactness {
        Exactness::Angle => KeepReason::Angle,
        Exactness::Whole => KeepReason::WholeNumbers,
        Exactness::Position => KeepReason::ShapeArithmetic,
    }
}

fn asked_for(node: &Node<'_>, functions: &[FunctionProto], options: &LoweringOptions) -> Option<KeepReason> {
    if options.keep_nodes.iter().any(|name| !name.is_empty() && name == node.label()) {
        return Some(KeepReason::KeptNode);
    }
    if options.keep_ops.iter().any(|op| op == node.proto.op_type()) {
        return Some(KeepReason::KeptOperator);
    }
    let is_call = |function: &FunctionProto| {
        function.name() == node.proto.op_type() && function.domain() == node.proto.domain()
    };
    functions.iter().any(is_call).then_some(KeepReason::LocalFunction)
}

fn operator_reason(
    values: &Values,
    scope: usize,
    node: &Node<'_>,
    findings: &Findings<'_>,
    options: &LoweringOptions,
) -> Option<KeepReason> {
    let NodeProto { input, .. } = node.proto;
    let op_type = node.proto.op_type();
    if node.is_control_flow() {
        return None;
    }
    if !node.bodies.is_empty() {
        return Some(KeepReason::Subgraph);
    }
    let Some(signature) = node.signature.filter(|_| is_own_domain(node.proto.domain())) else {
        return Some(KeepReason::UnknownOperator);
    };
    // One that says which type it gives, as of scales that have a scale, means it.
    let has_low_scales = findings.has_low_scales
        && matches!(op_type, "QuantizeLinear" | "DequantizeLinear")
        && attribute(node.proto, "output_dtype").is_none();
    if (needs_fp32(op_type) && !has_low_scales) || op_type == "Constant" || !signature.has_only_tensors() {
        return Some(KeepReason::NeedsFp32);
    }
    let asked = || options.lower_ops.iter().any(|op| op == op_type);
    if let Some(kind) = depends_on_target(op_type)
        && !options.fp32_inside.contains(&kind)
        && !asked()
    {
        return Some(KeepReason::Accumulation);
    }
    let unknown = input.iter().find(|input| !input.is_empty() && values.element_type(scope, input).is_none());
    unknown.map(|input| KeepReason::UnknownType { input: input.clone() })
}

/// Finds the FP32 inputs and outputs that the operator takes and gives in the lower precision as well.
fn find_low_parameters(values: &Values, scope: usize, node: &mut Node<'_>, options: &LoweringOptions) {
    let Some(signature) = node.signature else { return };
    (node.note.low_inputs, node.note.low_outputs) = low_parameters(values, scope, node, signature, options);
}

/// Returns which inputs and which outputs of a node an operator of this signature takes and gives in the lower precision.
fn low_parameters(
    values: &Values,
    scope: usize,
    node: &Node<'_>,
    signature: &Signature,
    options: &LoweringOptions,
) -> (Vec<bool>, Vec<bool>) {
    let can_be_low = |kind: Option<Kind>, name: &String| match kind {
        Some(Kind::Variable(variable)) => {
            variable.takes(options.precision) && values.float(scope, name).is_some()
        }
        Some(Kind::Fixed(_) | Kind::NoTensor) | None => false,
    };
    let proto = node.proto;
    let exact = exact_inputs(proto.op_type());
    let inputs = proto.input.iter().enumerate();
    let inputs =
        inputs.map(|(index, name)| !exact.contains(&index) && can_be_low(signature.input(index), name));
    let outputs = proto.output.iter().enumerate().map(|(index, name)| {
        stash_type(proto, index) != Some(ElementType::Float) && can_be_low(signature.output(index), name)
    });
    (inputs.collect(), outputs.collect())
}

/// Returns why an operator that takes nothing in the lower precision keeps its node: a later operator set may take it.
fn newer_operator_set(
    values: &Values,
    scope: usize,
    node: &Node<'_>,
    options: &LoweringOptions,
) -> KeepReason {
    let opset = node.opset;
    let mut later = later_signatures(node.proto.op_type(), opset).filter(|_| node.signature.is_some());
    let takes = later.find(|(_, signature)| {
        let (inputs, outputs) = low_parameters(values, scope, node, signature, options);
        inputs.into_iter().chain(outputs).any(|low| low)
    });
    takes.map_or(KeepReason::NeedsFp32, |(opset, _)| KeepReason::NewerOperatorSet { opset })
}

/// Returns why the constants of a node can't be lowered, if they can't.
fn losses(values: &Values, scope: usize, node: &Node<'_>) -> Option<KeepReason> {
    let inputs = node.proto.input.iter().zip(&node.note.low_inputs);
    // A node that makes a constant has its losses under the name of its output.
    let outputs = node.proto.output.iter().zip(&node.note.low_outputs);
    inputs.chain(outputs).filter(|(_, low)| **low).find_map(|(name, _)| {
        let losses = values.float(scope, name)?.note.losses;
        let tensor = name.clone();
        if losses.overflowing > 0 {
            return Some(KeepReason::Overflow { tensor, values: losses.overflowing });
        }
        losses.are_vanishing().then_some(KeepReason::Vanishing { tensor, values: losses.vanishing })
    })
}

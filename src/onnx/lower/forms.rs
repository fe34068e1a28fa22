//! For every FP32 value: in which precision it is made and read, and under which name it has each.

use std::collections::BTreeSet;

use super::choice::{Body, Decision, Node};
use super::value::{Form, Produced, Values};
use super::{Io, LoweringOptions};
use crate::onnx::ElementType;
use crate::onnx::analysis::Wires;
use crate::onnx::free_names::FreeNames;
use crate::onnx::proto::TensorProto;

/// What it means that a graph lists a weight among its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// A caller may replace it, in FP32.
    Replaceable,
    /// Nothing.
    Fixed,
}

/// Finds out the forms of all values of a graph whose weights are `tensors`, once it is decided which nodes are lowered.
/// Those that get a second name take it from `free`.
pub(super) fn find_forms(
    values: &mut Values,
    body: &Body<'_>,
    tensors: &[&TensorProto],
    weights: Weights,
    options: &LoweringOptions,
    free: &mut FreeNames,
) {
    let border = Form::low_if(options.io == Io::Lower);
    let names: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name()).collect();
    let borders = Borders {
        inputs: vec![border; body.graph.input.len()],
        outputs: vec![border; body.graph.output.len()],
    };
    find_in(values, body, tensors, &borders, &|input| names.contains(input).then_some(weights));
    let low = options.precision.as_str();
    for value in values.iter_mut().filter(|value| value.element_type == Some(ElementType::Float)) {
        let suffix = if value.carried() == Form::Full { low } else { "fp32" };
        value.note.other_name = free.take(&format!("{}_{suffix}", value.name));
    }
}

/// The forms that FP32 inputs and outputs of a graph have for the world around it.
pub(super) struct Borders {
    inputs: Vec<Form>,
    pub(super) outputs: Vec<Form>,
}

impl Borders {
    /// Returns those of a node's subgraph: what the node reads and makes in the lower precision is so inside, too.
    pub(super) fn of(node: &Node<'_>, body: &Body<'_>) -> Self {
        let wires = Wires::of(node).filter(|_| node.note.decision == Decision::Lower);
        let low = |side: &[bool], place: Option<usize>| {
            Form::low_if(place.and_then(|place| side.get(place).copied()).unwrap_or_default())
        };
        let input = |place: usize| {
            let outside = wires.and_then(|wires| wires.node_input(place));
            low(&node.note.low_inputs, outside)
        };
        let output = |place: usize| match wires.and_then(|wires| wires.next_input(place)) {
            Some(next) => input(next),
            None => low(&node.note.low_outputs, wires.and_then(|wires| wires.node_output(place))),
        };
        Self {
            inputs: (0..body.graph.input.len()).map(input).collect(),
            outputs: (0..body.graph.output.len()).map(output).collect(),
        }
    }
}

/// `default_of` says whether an input is a weight too.
fn find_in(
    values: &mut Values,
    body: &Body<'_>,
    tensors: &[&TensorProto],
    borders: &Borders,
    default_of: &dyn Fn(&str) -> Option<Weights>,
) {
    let Body { graph, scope, nodes } = body;
    for node in nodes {
        for (index, output) in node.proto.output.iter().enumerate() {
            let produced = produced(values, *scope, node, index);
            if let Some(value) = values.own_float_mut(*scope, output) {
                value.note.produced = produced;
            }
        }
    }
    for tensor in tensors {
        if let Some(value) = values.own_float_mut(*scope, tensor.name()) {
            value.note.produced = Produced::Either;
        }
    }
    for (output, border) in graph.output.iter().zip(&borders.outputs) {
        if let Some(value) = values.own_float_mut(*scope, output.name()) {
            value.note.interface = Some(*border);
        }
        if let Some(value) = values.float_mut(*scope, output.name()) {
            value.want(*border);
        }
    }
    for (input, border) in graph.input.iter().zip(&borders.inputs) {
        let form = match default_of(input.name()) {
            None => *border,
            Some(Weights::Replaceable) => Form::Full,
            Some(Weights::Fixed) => continue,
        };
        if let Some(value) = values.own_float_mut(*scope, input.name()) {
            value.note.produced = Produced::In(form);
            value.note.interface = Some(form);
        }
    }
    for node in nodes {
        for (index, input) in node.proto.input.iter().enumerate() {
            if let Some(value) = values.float_mut(*scope, input) {
                value.want(input_form(node, index));
            }
        }
        for body in &node.bodies {
            let tensors: Vec<&TensorProto> = body.graph.initializer.iter().collect();
            find_in(values, body, &tensors, &Borders::of(node, body), &|_| None);
        }
    }
}

/// Returns the form in which a node reads an input, if that is an FP32 value.
pub(super) fn input_form(node: &Node<'_>, index: usize) -> Form {
    Form::low_if(node.note.low_inputs.get(index).copied().unwrap_or_default())
}

/// Returns whether a node turns another type into FP32, so that it can as well turn it into a lower precision.
pub(super) fn is_cast_from_other_type(values: &Values, scope: usize, node: &Node<'_>) -> bool {
    let from = node.proto.input.first().and_then(|input| values.element_type(scope, input));
    node.signature.is_some()
        && node.proto.op_type() == "Cast"
        && from.is_some_and(|from| from != ElementType::Float)
}

fn produced(values: &Values, scope: usize, node: &Node<'_>, index: usize) -> Produced {
    if node.note.decision == Decision::Lower && is_cast_from_other_type(values, scope, node) {
        return Produced::Either;
    }
    Produced::In(Form::low_if(node.note.low_outputs.get(index).copied().unwrap_or_default()))
}

//! What is known of a graph before its nodes are rewritten.

use std::collections::BTreeSet;

use super::shapes::{Shape, infer};
use crate::onnx::ElementType;
use crate::onnx::analysis::{Body, Values, constant_tensor, subgraphs};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};

/// What is known of one node.
#[derive(Debug, Default)]
pub(super) struct NodeFacts {
    /// The types of its inputs.
    pub(super) types: Vec<Option<ElementType>>,
    /// The shapes of its inputs.
    pub(super) shapes: Vec<Option<Shape>>,
    /// The scales of a Resize of operator set 10, if they are constants of the same graph.
    pub(super) scales: Option<Vec<f32>>,
}

/// Returns the facts of all nodes of a graph, those of its subgraphs behind the node that has them.
pub(super) fn facts(graph: &GraphProto, opset: i64) -> Vec<NodeFacts> {
    let tensors: Vec<&TensorProto> = graph.initializer.iter().collect();
    let (mut values, body) = Values::<Option<Shape>>::read::<()>(graph, &tensors, opset);
    infer(&mut values, &body);
    let mut out = Vec::with_capacity(values.node_count());
    collect(&values, &body, &mut out);
    out
}

fn collect(values: &Values<Option<Shape>>, body: &Body<'_, ()>, out: &mut Vec<NodeFacts>) {
    for node in &body.nodes {
        let inputs = || node.proto.input.iter();
        let shape = |name: &String| values.all()[values.find(body.scope, name)?].note.clone();
        out.push(NodeFacts {
            types: inputs().map(|name| values.element_type(body.scope, name)).collect(),
            shapes: inputs().map(shape).collect(),
            scales: (node.proto.op_type() == "Resize" && node.opset == 10)
                .then(|| node.proto.input.get(1).and_then(|name| constant_floats(body.graph, name)))
                .flatten(),
        });
        node.bodies.iter().for_each(|body| collect(values, body, out));
    }
}

/// Returns the numbers of a constant of the graph; `None` if they are elsewhere, or if a caller may replace them.
fn constant_floats(graph: &GraphProto, name: &str) -> Option<Vec<f32>> {
    if graph.input.iter().any(|input| input.name() == name) {
        return None;
    }
    let weight = graph.initializer.iter().find(|tensor| tensor.name() == name);
    let of_node = || graph.node.iter().filter_map(constant_tensor).find(|tensor| tensor.name() == name);
    let tensor = weight.cloned().or_else(of_node)?;
    if tensor.data_type() != ElementType::Float.to_onnx() {
        return None;
    }
    let of_bytes = |bytes: &[u8]| {
        let (numbers, _) = bytes.as_chunks();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let numbers = tensor.raw_data.as_ref().map_or(tensor.float_data.clone(), |bytes| of_bytes(bytes));
    let [count] = tensor.dims.as_slice() else { return None };
    (numbers.len() as i64 == *count).then_some(numbers)
}

/// Returns the names that nodes take or graphs return, in all graphs and functions.
pub(super) fn used_names(model: &ModelProto) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let training = model.training_info.iter();
    let training = training.flat_map(|training| [&training.initialization, &training.algorithm]);
    for graph in model.graph.iter().chain(training.flatten()) {
        add_used(graph, &mut used);
    }
    for function in &model.functions {
        used.extend(function.output.iter().cloned());
        function.node.iter().for_each(|node| add_used_by(node, &mut used));
    }
    used
}

fn add_used(graph: &GraphProto, used: &mut BTreeSet<String>) {
    used.extend(graph.output.iter().map(|output| output.name().to_owned()));
    graph.node.iter().for_each(|node| add_used_by(node, used));
}

fn add_used_by(node: &NodeProto, used: &mut BTreeSet<String>) {
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        if !used.contains(name) {
            used.insert(name.clone());
        }
    }
    subgraphs(node).for_each(|graph| add_used(graph, used));
}

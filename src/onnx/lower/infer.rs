//! Finds the element type of every value of a graph, from its inputs on; types that don't follow are unknown.

use std::collections::BTreeMap;

use super::operators::{OutputType, is_own_domain, operator};
use crate::onnx::ElementType;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};

/// The known element types, by value name.
pub(super) type Types = BTreeMap<String, ElementType>;

/// Returns the types of the values of `graph`, whose initializers are `tensors`.
pub(super) fn infer_types(graph: &GraphProto, tensors: &[TensorProto]) -> Types {
    let mut types = Types::new();
    for value in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
        if let Some(element_type) = declared_type(value) {
            types.insert(value.name().into(), element_type);
        }
    }
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    for tensor in tensors.iter().chain(sparse) {
        if let Some(element_type) = ElementType::from_onnx(tensor.data_type()) {
            types.insert(tensor.name().into(), element_type);
        }
    }
    for node in &graph.node {
        for (index, output) in node.output.iter().enumerate() {
            // What the operator says wins over what the file declares: exporters get declarations wrong.
            if let Some(element_type) = output_type(node, index, &types) {
                types.insert(output.clone(), element_type);
            }
        }
    }
    types
}

/// Returns the attribute of this name.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

/// Returns the rule for an output of a node.
pub(super) fn output_rule(node: &NodeProto, index: usize) -> Option<OutputType> {
    let rules = operator(node.op_type()).filter(|_| is_own_domain(node.domain()))?.outputs;
    rules.get(index).or(rules.last()).copied()
}

fn output_type(node: &NodeProto, index: usize, types: &Types) -> Option<ElementType> {
    if let Some(body_type) = subgraph_output_type(node, index) {
        return Some(body_type);
    }
    let input = |index: usize| node.input.get(index).and_then(|name| types.get(name)).copied();
    let named =
        |name: &str| attribute(node, name).map(|attribute| ElementType::from_onnx(attribute.i() as i32));
    match output_rule(node, index)? {
        OutputType::Same(index) => input(index),
        OutputType::Fixed(element_type) => Some(element_type),
        OutputType::Attribute(name, default) => named(name).unwrap_or(Some(default)),
        OutputType::AttributeOrSame(name) => named(name).unwrap_or_else(|| input(0)),
        OutputType::SameOr(index, default) => input(index).or(Some(default)),
        OutputType::ValueAttribute => match attribute(node, "value").and_then(|value| value.t.as_ref()) {
            Some(tensor) => ElementType::from_onnx(tensor.data_type()),
            None => Some(ElementType::Float),
        },
    }
    .filter(|element_type| *element_type != ElementType::Undefined)
}

fn subgraph_output_type(node: &NodeProto, index: usize) -> Option<ElementType> {
    let (body, index) = match node.op_type() {
        "If" => (attribute(node, "then_branch")?, index),
        // The first output of a loop's body is whether to go on.
        "Loop" => (attribute(node, "body")?, index + 1),
        "Scan" => (attribute(node, "body")?, index),
        _ => return None,
    };
    declared_type(body.g.as_ref()?.output.get(index)?)
}

fn declared_type(value: &ValueInfoProto) -> Option<ElementType> {
    let code = match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => tensor.elem_type(),
        type_proto::Value::SparseTensorType(tensor) => tensor.elem_type(),
        _ => return None,
    };
    ElementType::from_onnx(code).filter(|element_type| *element_type != ElementType::Undefined)
}

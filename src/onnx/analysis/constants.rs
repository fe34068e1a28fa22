//! Makes the constants of a graph initializers, so that there is one kind of weight.

use bytes::Bytes;

use super::node::{is_own_domain, subgraphs_mut};
use crate::onnx::ElementType;
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// Makes the Constant nodes of numbers tensors named after their outputs: those of subgraphs become initializers there,
/// those of the graph itself are returned. A constant that is a graph's own output stays a node, and so do those of
/// subgraphs unless `in_subgraphs`.
pub(in crate::onnx) fn take_constants(graph: &mut GraphProto, in_subgraphs: bool) -> Vec<TensorProto> {
    for node in graph.node.iter_mut().filter(|_| in_subgraphs) {
        for body in subgraphs_mut(node) {
            let tensors = take_constants(body, true);
            body.initializer.extend(tensors);
        }
    }
    let outputs = &graph.output;
    let mut tensors = Vec::new();
    graph.node.retain(|node| {
        let is_output = outputs.iter().any(|output| node.output.iter().any(|name| name == output.name()));
        match constant_tensor(node).filter(|_| !is_output) {
            Some(tensor) => {
                tensors.push(tensor);
                false
            }
            None => true,
        }
    });
    tensors
}

/// Returns the tensor of numbers that a Constant node gives, under the name of its output.
pub(in crate::onnx) fn constant_tensor(node: &NodeProto) -> Option<TensorProto> {
    if node.op_type() != "Constant" || !is_own_domain(node.domain()) {
        return None;
    }
    let [output] = node.output.as_slice() else { return None };
    let [attribute] = node.attribute.as_slice() else { return None };
    let tensor = value_of(attribute)?;
    Some(TensorProto { name: Some(output.clone()), ..tensor })
}

fn value_of(attribute: &AttributeProto) -> Option<TensorProto> {
    let floats = |values: &[f32], dims| {
        raw(ElementType::Float, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    };
    let integers = |values: &[i64], dims| {
        raw(ElementType::Int64, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    };
    match attribute.name() {
        "value" => attribute.t.clone(),
        "value_float" => Some(floats(&[attribute.f?], vec![])),
        "value_floats" => Some(floats(&attribute.floats, vec![attribute.floats.len() as i64])),
        "value_int" => Some(integers(&[attribute.i?], vec![])),
        "value_ints" => Some(integers(&attribute.ints, vec![attribute.ints.len() as i64])),
        _ => None,
    }
}

fn raw(element_type: ElementType, dims: Vec<i64>, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        data_type: Some(element_type.to_onnx()),
        dims,
        raw_data: Some(Bytes::from(bytes)),
        ..TensorProto::default()
    }
}

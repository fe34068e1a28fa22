//! Makes the constants of a graph initializers, so that there is one kind of weight.

use bytes::Bytes;

use super::operators::is_own_domain;
use crate::onnx::ElementType;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};

/// Takes the Constant nodes of numbers out of `nodes` and returns them as tensors named after their outputs.
pub(super) fn take_constants(nodes: &mut Vec<NodeProto>) -> Vec<TensorProto> {
    let mut tensors = Vec::new();
    nodes.retain(|node| match as_tensor(node) {
        Some(tensor) => {
            tensors.push(tensor);
            false
        }
        None => true,
    });
    tensors
}

fn as_tensor(node: &NodeProto) -> Option<TensorProto> {
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

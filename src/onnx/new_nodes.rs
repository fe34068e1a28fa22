//! The nodes and attributes that are added to a graph.

use bytes::Bytes;

use super::free_names::FreeNames;
use crate::onnx::ElementType;
use crate::onnx::analysis::attribute;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};

// Numbers of the ONNX specification's `AttributeType`.
const FLOAT: i32 = 1;
const INT: i32 = 2;
const STRING: i32 = 3;
const TENSOR: i32 = 4;
const INTS: i32 = 7;

/// Returns a node of ONNX's own operators without attributes, with a name that is free.
pub(in crate::onnx) fn plain_node(
    free: &mut FreeNames,
    op_type: &str,
    inputs: Vec<String>,
    output: &str,
) -> NodeProto {
    NodeProto {
        name: Some(free.take(&format!("{output}_{}", op_type.to_ascii_lowercase()))),
        op_type: Some(op_type.into()),
        input: inputs,
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// Returns a cast, with a name that is free.
pub(in crate::onnx) fn cast_node(
    free: &mut FreeNames,
    input: String,
    output: &str,
    to: ElementType,
) -> NodeProto {
    NodeProto { attribute: vec![type_attribute("to", to)], ..plain_node(free, "Cast", vec![input], output) }
}

/// Returns an attribute that holds an element type.
pub(in crate::onnx) fn type_attribute(name: &str, element_type: ElementType) -> AttributeProto {
    int_attribute(name, i64::from(element_type.to_onnx()))
}

/// Returns an attribute that is an integer.
pub(in crate::onnx) fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..empty(name, INT) }
}

/// Returns an attribute that is a list of integers.
pub(in crate::onnx) fn ints_attribute(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..empty(name, INTS) }
}

/// Returns an attribute that is a number.
pub(in crate::onnx) fn float_attribute(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..empty(name, FLOAT) }
}

/// Returns an attribute that is a string.
pub(in crate::onnx) fn string_attribute(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::copy_from_slice(value.as_bytes())), ..empty(name, STRING) }
}

/// Returns an attribute that is a tensor.
pub(in crate::onnx) fn tensor_attribute(name: &str, tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..empty(name, TENSOR) }
}

fn empty(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(kind), ..AttributeProto::default() }
}

/// Gives a node an attribute, in the place of one of that name if it has one.
pub(in crate::onnx) fn set_attribute(node: &mut NodeProto, value: AttributeProto) {
    let is_new = attribute(node, value.name()).is_none();
    if is_new {
        node.attribute.push(value);
    } else if let Some(old) = node.attribute.iter_mut().find(|old| old.name() == value.name()) {
        *old = value;
    }
}

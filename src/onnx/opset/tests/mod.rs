//! Tests of raising operator sets: hand-made nodes of old forms in, new forms out.

mod inputs;
mod models;
mod sampling;
mod softmax;

use crate::onnx::analysis::constant_tensor;
use crate::onnx::opset::{OpsetProblem, raise};
use crate::onnx::proto::{
    AttributeProto, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, ValueInfoProto, dimension, type_proto,
};
use crate::onnx::test_graphs::{FLOAT, INT64, integer, node, value};

/// Returns an attribute that is a list of integers.
fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(7),
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

/// Returns an attribute that is a number.
fn number(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(1), f: Some(value), ..AttributeProto::default() }
}

/// Returns an attribute that is a string.
fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(3),
        s: Some(value.into()),
        ..AttributeProto::default()
    }
}

fn with(attributes: Vec<AttributeProto>, node: NodeProto) -> NodeProto {
    NodeProto { attribute: attributes, ..node }
}

/// Returns an input of a type and shape, in which 0 stands for a size that is not known.
fn shaped(name: &str, code: i32, sizes: &[i64]) -> ValueInfoProto {
    let mut value = value(name, code);
    if let Some(type_proto::Value::TensorType(tensor)) =
        value.r#type.as_mut().and_then(|one| one.value.as_mut())
    {
        let size = |size: &i64| Dimension {
            value: (*size > 0).then_some(dimension::Value::DimValue(*size)),
            ..Dimension::default()
        };
        tensor.shape = Some(TensorShapeProto { dim: sizes.iter().map(size).collect() });
    }
    value
}

/// Returns a model of these nodes, with an input `x` of FP32 and an output `y`.
fn model_of(opset: i64, nodes: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        input: vec![value("x", FLOAT)],
        output: vec![value("y", FLOAT)],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(opset) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// Raises a model, and returns its nodes, each as a line.
#[track_caller]
fn raised(mut model: ModelProto, to: i64) -> Vec<String> {
    raise(&mut model, to).unwrap();
    lines(model.graph.as_ref().unwrap())
}

/// Raises a model that can't be, and returns the message.
#[track_caller]
fn refused(mut model: ModelProto, to: i64) -> String {
    raise(&mut model, to).unwrap_err().to_string()
}

/// Returns the nodes of a graph, each written `Op{attributes}(inputs) -> outputs`; of a Constant node, its value.
fn lines(graph: &GraphProto) -> Vec<String> {
    graph.node.iter().map(line).collect()
}

fn line(node: &NodeProto) -> String {
    let outputs = node.output.join(", ");
    if let Some(tensor) = constant_tensor(node) {
        return format!("{outputs} = {}", constant(&tensor));
    }
    let attributes: Vec<String> = node.attribute.iter().map(said).collect();
    let attributes =
        if attributes.is_empty() { String::new() } else { format!("{{{}}}", attributes.join(", ")) };
    format!("{}{attributes}({}) -> {outputs}", node.op_type(), node.input.join(", "))
}

fn said(attribute: &AttributeProto) -> String {
    let value = match (attribute.r#type(), &attribute.s) {
        (1, _) => attribute.f().to_string(),
        (2, _) => attribute.i().to_string(),
        (3, Some(text)) => String::from_utf8_lossy(text).into_owned(),
        (5, _) => lines(attribute.g.as_deref().unwrap()).join("; "),
        _ => format!("{:?}", attribute.ints),
    };
    format!("{}={value}", attribute.name())
}

fn constant(tensor: &TensorProto) -> String {
    let raw = tensor.raw_data.as_deref().unwrap_or_default();
    let values: Vec<String> = match tensor.data_type() {
        INT64 => raw.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes).to_string()).collect(),
        FLOAT => raw.as_chunks().0.iter().map(|bytes| format!("{:?}", f32::from_le_bytes(*bytes))).collect(),
        code => vec![format!("type {code} {raw:02x?}")],
    };
    if tensor.dims.is_empty() { values.join(" ") } else { format!("[{}]", values.join(", ")) }
}

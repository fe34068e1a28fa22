//! Writes a graph that measures itself: the original one, with the largest magnitude of every value that lowering would
//! make or read in the lower precision as one more output.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use super::choice::Decision;
use super::rewrite::{plain_node, without_initializers};
use super::{Decided, LoweringOptions, Rounding, Source, embedded, unchanged};
use crate::onnx::proto::{
    AttributeProto, Dimension, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    dimension, type_proto,
};
use crate::onnx::tensor_size::tensor_size_bytes;
use crate::onnx::{DEFAULT_INLINE_LIMIT_BYTES, ElementType, OnnxError, OnnxFile, Precision, write_model};

/// The output with the magnitudes, one for each observed value.
pub const MAGNITUDES: &str = "nimctl.magnitudes";

const ATTRIBUTE_INT: i32 = 2;

/// A value whose magnitude is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedValue {
    /// Its name in the original graph.
    pub value: String,
    /// The nodes that make it or read it in the lower precision.
    pub nodes: Vec<String>,
}

/// Writes `file` to `destination` with the output [`MAGNITUDES`], and returns what its elements are of. Values inside
/// subgraphs are not observed. An empty list says that nothing is lowered, and that there is no such output.
///
/// # Errors
/// As [`lower`](super::lower).
pub fn observe(
    file: &OnnxFile,
    options: &LoweringOptions,
    destination: &Path,
) -> Result<Vec<ObservedValue>, OnnxError> {
    let source = Source::of(file, options.precision);
    let decided = Decided::new(file, &source, options)?;
    let observed = observed(&decided);

    let mut graph = without_initializers(&source.graph, source.graph.node.clone());
    if !observed.is_empty() {
        let shape = format!("{MAGNITUDES}.shape");
        graph.initializer.push(TensorProto {
            name: Some(shape.clone()),
            dims: vec![1],
            data_type: Some(ElementType::Int64.to_onnx()),
            raw_data: Some(Bytes::copy_from_slice(&1i64.to_le_bytes())),
            ..TensorProto::default()
        });
        let mut magnitudes = Vec::new();
        for (index, value) in observed.iter().enumerate() {
            let name = |step: &str| format!("{MAGNITUDES}.{index}.{step}");
            graph.node.push(plain_node("Abs", &name("abs"), vec![value.value.clone()], &name("abs")));
            graph.node.push(NodeProto {
                attribute: vec![int_attribute("keepdims", 0)],
                ..plain_node("ReduceMax", &name("max"), vec![name("abs")], &name("max"))
            });
            graph.node.push(plain_node(
                "Reshape",
                &name("one"),
                vec![name("max"), shape.clone()],
                &name("one"),
            ));
            magnitudes.push(name("one"));
        }
        graph.node.push(NodeProto {
            attribute: vec![int_attribute("axis", 0)],
            ..plain_node("Concat", MAGNITUDES, magnitudes, MAGNITUDES)
        });
        graph.output.push(vector(MAGNITUDES, observed.len()));
    }
    let mut initializers = Vec::new();
    for tensor in &decided.tensors {
        if tensor.data_type() == ElementType::String.to_onnx() {
            graph.initializer.push((*tensor).clone());
        } else {
            let size_bytes = tensor_size_bytes(file.path(), tensor)?;
            initializers.push(unchanged(file, tensor, tensor.name(), size_bytes));
        }
    }
    write_model(
        &embedded(file, graph, Precision::Fp32, Rounding::Real)?,
        initializers,
        destination,
        DEFAULT_INLINE_LIMIT_BYTES,
    )?;
    Ok(observed)
}

fn observed(decided: &Decided<'_>) -> Vec<ObservedValue> {
    let weights: BTreeSet<&str> = decided.tensors.iter().map(|tensor| tensor.name()).collect();
    let mut observed: Vec<ObservedValue> = Vec::new();
    let mut add = |value: &str, node: &str| {
        let position = observed.iter().position(|known| known.value == value);
        let known = match position {
            Some(position) => &mut observed[position],
            None => {
                observed.push(ObservedValue { value: value.into(), nodes: Vec::new() });
                observed.last_mut().expect("just pushed")
            }
        };
        if !known.nodes.iter().any(|known| known == node) {
            known.nodes.push(node.into());
        }
    };
    for node in decided.body.nodes.iter().filter(|node| node.note.decision == Decision::Lower) {
        let inputs = node.proto.input.iter().zip(&node.note.low_inputs);
        let outputs = node.proto.output.iter().zip(&node.note.low_outputs);
        for (name, _) in inputs.chain(outputs).filter(|(name, low)| **low && !name.is_empty()) {
            // Weights are measured as they are lowered.
            if !weights.contains(name.as_str()) {
                add(name, node.label());
            }
        }
    }
    observed
}

fn int_attribute(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(ATTRIBUTE_INT),
        i: Some(value),
        ..AttributeProto::default()
    }
}

fn vector(name: &str, length: usize) -> ValueInfoProto {
    let dimension =
        Dimension { value: Some(dimension::Value::DimValue(length as i64)), ..Dimension::default() };
    let tensor = type_proto::Tensor {
        elem_type: Some(ElementType::Float.to_onnx()),
        shape: Some(TensorShapeProto { dim: vec![dimension] }),
    };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

//! Writes a graph that measures itself: the original one, with the largest magnitude of every value that lowering would
//! make or read in the lower precision as one more output.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use super::choice::Decision;
use super::{Decided, LoweringOptions, Rounding, Source, finished};
use crate::onnx::model_parts::without_initializers;
use crate::onnx::new_nodes::{int_attribute, plain_node};
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::tensor_size::tensor_size_bytes;
use crate::onnx::weights::{unchanged, value_of};
use crate::onnx::{DEFAULT_INLINE_LIMIT_BYTES, ElementType, OnnxError, OnnxFile, Precision, write_model};

/// What the output with the magnitudes is called, if nothing in the graph is.
const MAGNITUDES: &str = "nimctl.magnitudes";

/// What a graph measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The name of the output with the magnitudes, one for each value.
    pub output: String,
    /// The values; if there are none, nothing is lowered, and there is no such output.
    pub values: Vec<ObservedValue>,
}

/// A value whose magnitude is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedValue {
    /// Its name in the original graph.
    pub value: String,
    /// The nodes that make it or read it in the lower precision.
    pub nodes: Vec<String>,
}

/// Writes `file` to `destination` with one more output, the magnitudes of values, and returns what its elements are of.
/// Values inside subgraphs are not observed.
///
/// # Errors
/// As [`lower`](super::lower).
pub fn observe(
    file: &OnnxFile,
    options: &LoweringOptions,
    destination: &Path,
) -> Result<Observed, OnnxError> {
    let source = Source::of(file, options.precision);
    let mut decided = Decided::new(file, &source, options)?;
    let values = observed(&decided);
    let free = &mut decided.free;

    let mut graph = without_initializers(&source.graph, source.graph.node.clone());
    let output = free.take(MAGNITUDES);
    if !values.is_empty() {
        let shape = free.take(&format!("{output}.shape"));
        graph.initializer.push(TensorProto {
            name: Some(shape.clone()),
            dims: vec![1],
            data_type: Some(ElementType::Int64.to_onnx()),
            raw_data: Some(Bytes::copy_from_slice(&1i64.to_le_bytes())),
            ..TensorProto::default()
        });
        let mut magnitudes = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let [abs, max, one] =
                ["abs", "max", "one"].map(|step| free.take(&format!("{output}.{index}.{step}")));
            graph.node.push(plain_node(free, "Abs", vec![value.value.clone()], &abs));
            graph.node.push(NodeProto {
                attribute: vec![int_attribute("keepdims", 0)],
                ..plain_node(free, "ReduceMax", vec![abs], &max)
            });
            graph.node.push(plain_node(free, "Reshape", vec![max, shape.clone()], &one));
            magnitudes.push(one);
        }
        graph.node.push(NodeProto {
            attribute: vec![int_attribute("axis", 0)],
            ..plain_node(free, "Concat", magnitudes, &output)
        });
        graph.output.push(value_of(&output, ElementType::Float.to_onnx(), &[values.len() as i64]));
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
    let model = finished(file, graph, &initializers, Precision::Fp32, Rounding::Real)?;
    write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)?;
    Ok(Observed { output, values })
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

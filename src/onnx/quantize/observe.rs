//! Writes a graph that measures the activations that quantized weights would be multiplied with.

use std::path::Path;

use bytes::Bytes;

use super::candidates::Candidates;
use super::options::QuantizationOptions;
use super::parts::Parts;
use crate::onnx::consistency;
use crate::onnx::free_names::FreeNames;
use crate::onnx::model_parts::with_graph;
use crate::onnx::new_nodes::{int_attribute, ints_attribute, plain_node};
use crate::onnx::proto::{NodeProto, TensorProto};
use crate::onnx::tensor_size::tensor_size_bytes;
use crate::onnx::weights::{list_among_inputs, unchanged, value_of, weights_are_inputs};
use crate::onnx::{DEFAULT_INLINE_LIMIT_BYTES, ElementType, OnnxError, OnnxFile, write_model};

/// Since this operator set, reductions take their axes as an input.
const AXES_ARE_INPUTS: i64 = 18;

/// What a graph measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedChannels {
    /// The output with the largest magnitude of every channel of every value, one value after the other.
    pub largest: String,
    /// The output with the sums of squares, likewise.
    pub squares: String,
    /// The values, with their numbers of channels. If there are none, there are no such outputs.
    pub values: Vec<(String, usize)>,
}

impl ObservedChannels {
    /// Returns how many channels all values have.
    pub fn count(&self) -> usize {
        self.values.iter().map(|(_, channels)| channels).sum()
    }
}

/// Writes `file` to `destination` with two more outputs, and returns what is in them.
///
/// # Errors
/// A tensor of the graph is malformed, or the destination can't be written.
pub fn observe_channels(
    file: &OnnxFile,
    options: &QuantizationOptions,
    destination: &Path,
) -> Result<ObservedChannels, OnnxError> {
    let source = Parts::of(file.model());
    let candidates = Candidates::of(&source.graph, &source.by_name(), &source.replaceable(file), options);
    let mut values: Vec<(String, usize)> = Vec::new();
    for product in candidates.products {
        if values.iter().all(|(value, _)| *value != product.input) {
            values.push((product.input, product.summed));
        }
    }
    let mut free = FreeNames::of(file.model());
    let mut graph = source.graph.clone();
    let (largest, squares) = (free.take("nimctl.largest"), free.take("nimctl.squares"));
    let axes_are_inputs = file.opset().is_some_and(|opset| opset >= AXES_ARE_INPUTS);
    let axes = free.take("nimctl.axes");
    if axes_are_inputs && !values.is_empty() {
        graph.initializer.push(integers(&axes, &[0]));
    }
    let mut parts = [Vec::new(), Vec::new()];
    for (index, (value, channels)) in values.iter().enumerate() {
        let mut name = |what: &str| free.take(&format!("nimctl.{what}.{index}"));
        let [shape, rows, abs, maximum, sum] = ["shape", "rows", "abs", "largest", "squares"].map(&mut name);
        graph.initializer.push(integers(&shape, &[-1, *channels as i64]));
        let mut reduce = |operator: &str, input: &str, output: &str| {
            let mut inputs = vec![input.to_owned()];
            let mut attributes = vec![int_attribute("keepdims", 0)];
            if axes_are_inputs {
                inputs.push(axes.clone());
            } else {
                attributes.push(ints_attribute("axes", &[0]));
            }
            NodeProto { attribute: attributes, ..plain_node(&mut free, operator, inputs, output) }
        };
        let maxima = reduce("ReduceMax", &abs, &maximum);
        let sums = reduce("ReduceSumSquare", &rows, &sum);
        graph.node.push(plain_node(&mut free, "Reshape", vec![value.clone(), shape], &rows));
        graph.node.push(plain_node(&mut free, "Abs", vec![rows], &abs));
        graph.node.extend([maxima, sums]);
        parts[0].push(maximum);
        parts[1].push(sum);
    }
    let observed = ObservedChannels { largest, squares, values };
    if !observed.values.is_empty() {
        for (parts, output) in parts.into_iter().zip([&observed.largest, &observed.squares]) {
            graph.node.push(NodeProto {
                attribute: vec![int_attribute("axis", 0)],
                ..plain_node(&mut free, "Concat", parts, output)
            });
            graph.output.push(value_of(output, ElementType::Float.to_onnx(), &[observed.count() as i64]));
        }
    }
    let mut initializers = Vec::new();
    for tensor in &source.tensors {
        if tensor.data_type() == ElementType::String.to_onnx() {
            graph.initializer.push(tensor.clone());
        } else {
            let size_bytes = tensor_size_bytes(file.path(), tensor)?;
            initializers.push(unchanged(file, tensor, tensor.name(), size_bytes));
        }
    }
    if weights_are_inputs(file) {
        list_among_inputs(&mut graph, &initializers);
    }
    let model = with_graph(file, graph);
    consistency::check(file, &model, &initializers)?;
    write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)?;
    Ok(observed)
}

/// Returns a list of integers as a weight.
pub(super) fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: vec![values.len() as i64],
        data_type: Some(ElementType::Int64.to_onnx()),
        raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Bytes>()),
        ..TensorProto::default()
    }
}

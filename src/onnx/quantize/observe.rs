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
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use crate::onnx::tensor_size::tensor_size_bytes;
use crate::onnx::weights::{list_among_inputs, unchanged, value_of, weights_are_inputs};
use crate::onnx::{DEFAULT_INLINE_LIMIT_BYTES, ElementType, OnnxError, OnnxFile, write_model};

/// Since this operator set, `Slice` takes its steps as an input.
const STEPS_ARE_INPUTS: i64 = 10;
/// Since this operator set, reductions take their axes as an input.
const AXES_ARE_INPUTS: i64 = 18;

/// What a graph measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedChannels {
    /// The output with the largest magnitude of every channel of every value, one value after the other.
    pub largest: String,
    /// The output with the sums of squares, likewise; of a convolution's activation, and of
    /// attention's, with their mean over samples and places.
    pub squares: String,
    /// The values, with their numbers of channels. If there are none, there are no such outputs.
    pub values: Vec<(String, usize)>,
    /// Where some tokens of each value are, if they were asked for.
    pub tokens: Option<ObservedTokens>,
}

/// Outputs with tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedTokens {
    /// The activations of products, with their numbers of channels.
    pub activations: Vec<(String, usize)>,
    /// The output with the tokens of every activation, one activation after the other.
    pub values: String,
    /// The output with the number of tokens of every activation, in FP32.
    pub counts: String,
}

impl ObservedChannels {
    /// Returns how many channels all values have.
    pub fn count(&self) -> usize {
        self.values.iter().map(|(_, channels)| channels).sum()
    }
}

/// A value, and its channels.
struct Observed {
    value: String,
    channels: usize,
    are: Are,
}

/// What the channels of a value are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Are {
    /// Its last dimension.
    Last,
    /// Its second.
    Second,
    /// It has but one scale, whatever its dimensions.
    None,
}

/// Writes `file` to `destination` with two more outputs, and returns what is in them. With `tokens`, two more have as many tokens of
/// each value at most, spread evenly; operator sets before 10 can't say which.
///
/// # Errors
/// A tensor of the graph is malformed, or the destination can't be written.
pub fn observe_channels(
    file: &OnnxFile,
    options: &QuantizationOptions,
    tokens: Option<usize>,
    destination: &Path,
) -> Result<ObservedChannels, OnnxError> {
    let source = Parts::of(file.model());
    let candidates = Candidates::of(&source.graph, &source.by_name(), &source.replaceable(file), options);
    let mut observed: Vec<Observed> = Vec::new();
    let of_products = candidates.products.iter().map(|product| Observed {
        value: product.input.clone(),
        channels: product.channels(),
        are: if product.convolution.is_some() { Are::Second } else { Are::Last },
    });
    let of_attention = candidates.attention.into_iter().flat_map(|attention| attention.inputs);
    let whole = of_attention.map(|value| Observed { value, channels: 1, are: Are::None });
    for one in of_products.chain(whole) {
        if observed.iter().all(|other| other.value != one.value) {
            observed.push(one);
        }
    }
    let mut free = FreeNames::of(file.model());
    let mut graph = source.graph.clone();
    let (largest, squares) = (free.take("nimctl.largest"), free.take("nimctl.squares"));
    let axes_are_inputs = file.opset().is_some_and(|opset| opset >= AXES_ARE_INPUTS);
    // Everything but the channels: of a product's activation, rows; of a convolution's, samples and places.
    let axes = [("rows", &[0][..]), ("places", &[0, 2])]
        .map(|(what, axes)| (free.take(&format!("nimctl.axes.{what}")), axes));
    if axes_are_inputs && !observed.is_empty() {
        graph.initializer.extend(axes.iter().map(|(name, axes)| integers(name, axes)));
    }
    let (mut parts, mut all_rows) = ([Vec::new(), Vec::new()], Vec::new());
    for (index, one) in observed.iter().enumerate() {
        let mut name = |what: &str| free.take(&format!("nimctl.{what}.{index}"));
        let [shape, rows, abs, maximum, squared, squares] =
            ["shape", "rows", "abs", "largest", "squared", "squares"].map(&mut name);
        let channels = one.channels as i64;
        let sides = if one.are == Are::Second { vec![0, channels, -1] } else { vec![-1, channels] };
        graph.initializer.push(integers(&shape, &sides));
        let (axes, numbers) = &axes[usize::from(one.are == Are::Second)];
        let mut reduce = |operator: &str, input: &str, output: &str| {
            let mut inputs = vec![input.to_owned()];
            let mut attributes = vec![int_attribute("keepdims", 0)];
            if axes_are_inputs {
                inputs.push(axes.clone());
            } else {
                attributes.push(ints_attribute("axes", numbers));
            }
            NodeProto { attribute: attributes, ..plain_node(&mut free, operator, inputs, output) }
        };
        let maxima = reduce("ReduceMax", &abs, &maximum);
        // Layers have different numbers of places, and are compared with each other.
        let is_mean = one.are != Are::Last;
        let sums = match is_mean {
            true => reduce("ReduceMean", &squared, &squares),
            false => reduce("ReduceSumSquare", &rows, &squares),
        };
        graph.node.push(plain_node(&mut free, "Reshape", vec![one.value.clone(), shape], &rows));
        graph.node.push(plain_node(&mut free, "Abs", vec![rows.clone()], &abs));
        if is_mean {
            graph.node.push(plain_node(&mut free, "Mul", vec![rows.clone(), rows], &squared));
        } else if one.are == Are::Last {
            all_rows.push((one.value.clone(), one.channels, rows));
        }
        graph.node.extend([maxima, sums]);
        parts[0].push(maximum);
        parts[1].push(squares);
    }
    let values = observed.into_iter().map(|one| (one.value, one.channels)).collect();
    let can_step = file.opset().is_some_and(|opset| opset >= STEPS_ARE_INPUTS);
    let tokens = tokens
        .filter(|_| can_step && !all_rows.is_empty())
        .map(|most| add_tokens(&mut graph, &mut free, all_rows, most.max(1)));
    let observed = ObservedChannels { largest, squares, values, tokens };
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

/// Adds outputs with tokens of activations, which are given with their channels and as matrices: every nth, so that they are `most`
/// at most.
fn add_tokens(
    graph: &mut GraphProto,
    free: &mut FreeNames,
    all: Vec<(String, usize, String)>,
    most: usize,
) -> ObservedTokens {
    let mut constant = |what: &str, number: i64| {
        let name = free.take(&format!("nimctl.{what}"));
        graph.initializer.push(integers(&name, &[number]));
        name
    };
    let [zero, one] = [("zero", 0), ("one", 1)].map(|(what, number)| constant(what, number));
    let [minus_one, limit] =
        [("minus_one", -1), ("most_tokens", most as i64)].map(|(what, number)| constant(what, number));
    let end = constant("end", i64::MAX);
    let mut parts = [Vec::new(), Vec::new()];
    for (index, (_, _, rows)) in all.iter().enumerate() {
        let mut add = |operator: &str, what: &str, inputs: &[&String], attributes: Vec<AttributeProto>| {
            let output = free.take(&format!("nimctl.{what}.{index}"));
            let inputs = inputs.iter().map(|&input| input.clone()).collect();
            let node = plain_node(free, operator, inputs, &output);
            graph.node.push(NodeProto { attribute: attributes, ..node });
            output
        };
        // (count - 1) / most + 1, which is 1 for none, too.
        let shape = add("Shape", "all_tokens", &[rows], Vec::new());
        let count = add("Slice", "token_count", &[&shape, &zero, &one], Vec::new());
        let fewer = add("Add", "token_step_less", &[&count, &minus_one], Vec::new());
        let step = add("Div", "token_step_less", &[&fewer, &limit], Vec::new());
        let step = add("Add", "token_step", &[&step, &one], Vec::new());
        let tokens = add("Slice", "tokens", &[rows, &zero, &end, &zero, &step], Vec::new());
        let shape = add("Shape", "tokens_shape", &[&tokens], Vec::new());
        let count = add("Slice", "tokens_count", &[&shape, &zero, &one], Vec::new());
        let to_float = vec![int_attribute("to", i64::from(ElementType::Float.to_onnx()))];
        parts[1].push(add("Cast", "tokens_count", &[&count], to_float));
        parts[0].push(add("Reshape", "flat_tokens", &[&tokens, &minus_one], Vec::new()));
    }
    let [values, counts] = parts.map(|parts| {
        let output = free.take("nimctl.tokens");
        let concat = plain_node(free, "Concat", parts, &output);
        graph.node.push(NodeProto { attribute: vec![int_attribute("axis", 0)], ..concat });
        output
    });
    graph.output.push(value_of(&counts, ElementType::Float.to_onnx(), &[all.len() as i64]));
    // As many as there are.
    let mut some = value_of(&values, ElementType::Float.to_onnx(), &[1]);
    forget_lengths(&mut some);
    graph.output.push(some);
    let activations = all.into_iter().map(|(input, channels, _)| (input, channels)).collect();
    ObservedTokens { activations, values, counts }
}

/// Makes all dimensions of a tensor unknown.
fn forget_lengths(value: &mut ValueInfoProto) {
    let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind
        && let Some(shape) = &mut tensor.shape
    {
        shape.dim.iter_mut().for_each(|dimension| dimension.value = None);
    }
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

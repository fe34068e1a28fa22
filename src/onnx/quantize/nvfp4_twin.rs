//! The twin of an NVFP4 graph: standard operators in FP32 that give what TensorRT's operators give on a GPU.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;

use super::number_formats::e2m1_value;
use super::nvfp4::{BLOCK, BlockScales, DOMAIN, DYNAMIC_QUANTIZE, LARGEST};
use super::parts::Parts;
use super::rewrite::header;
use crate::onnx::consistency;
use crate::onnx::free_names::FreeNames;
use crate::onnx::model_parts::{take_in_external, with_graph, without_initializers};
use crate::onnx::new_nodes::{int_attribute, plain_node};
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::tensor_size::tensor_size_bytes;
use crate::onnx::weights::unchanged;
use crate::onnx::write::{DEFAULT_INLINE_LIMIT_BYTES, Initializer, write_model};
use crate::onnx::{ElementType, OnnxError, OnnxFile};

/// A small weight.
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) element_type: ElementType,
    pub(super) bytes: Bytes,
}

/// What stands for a quantized and dequantized activation.
pub(super) struct Twin {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) constants: Vec<Constant>,
    /// All nodes but the last: they must stay in FP32.
    pub(super) exact_nodes: Vec<String>,
}

/// Returns the nodes that round `value` as a GPU does, whose block scales are multiples of the value `global`, and give `back`. Names
/// begin with `name`.
pub(super) fn twin_nodes(free: &mut FreeNames, name: &str, value: &str, global: &str, back: &str) -> Twin {
    let mut constants = Vec::new();
    let mut constant = |free: &mut FreeNames, what: &str, shape: &[usize], element_type, bytes: &[u8]| {
        let name = free.take(&format!("{name}.{what}"));
        let (shape, bytes) = (shape.to_vec(), Bytes::copy_from_slice(bytes));
        constants.push(Constant { name: name.clone(), shape, element_type, bytes });
        name
    };
    let integers = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let in_blocks = constant(free, "in_blocks", &[2], ElementType::Int64, &integers(&[-1, BLOCK as i64]));
    let last = constant(free, "last_axis", &[1], ElementType::Int64, &integers(&[-1]));
    let scale_zero = constant(free, "zero_point", &[], ElementType::Float8e4m3fn, &[0]);
    let mut number =
        |what: &str, value: f32| constant(free, what, &[], ElementType::Float, &value.to_le_bytes());
    let largest = number("largest", LARGEST);
    let [zero, half, one, two, four] =
        [("zero", 0.0), ("half", 0.5), ("one", 1.0), ("two", 2.0), ("four", 4.0)]
            .map(|(what, value)| number(what, value));
    // Where a block's scale is 0, anything: it is multiplied by 0.
    let least = number("least", f32::MIN_POSITIVE);
    let mut nodes = Vec::new();
    let mut add = |operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>| {
        let output = free.take(&format!("{name}.fp4"));
        let inputs = inputs.iter().map(|input| (*input).to_owned()).collect();
        nodes.push(NodeProto { attribute: attributes, ..plain_node(free, operator, inputs, &output) });
        output
    };
    let shape = add("Shape", &[value], vec![]);
    let x = add("Reshape", &[value, &in_blocks], vec![]);
    let magnitude = add("Abs", &[&x], vec![]);
    // The scale of each block, in E4M3.
    let most = add("ReduceMax", &[&magnitude, &last], vec![int_attribute("keepdims", 1)]);
    let wanted = add("Div", &[&most, &largest], vec![]);
    let scales = add("QuantizeLinear", &[&wanted, global, &scale_zero], vec![]);
    let scales = add("DequantizeLinear", &[&scales, global, &scale_zero], vec![]);
    // The grid has steps of 0.5 below 2, of 1 below 4, and of 2 up to 6; ties go to what is even in steps, as in E2M1.
    let divisor = add("Max", &[&scales, &least], vec![]);
    let over = add("Div", &[&magnitude, &divisor], vec![]);
    let clipped = add("Clip", &[&over, &zero, &largest], vec![]);
    let from_two = add("GreaterOrEqual", &[&clipped, &two], vec![]);
    let from_four = add("GreaterOrEqual", &[&clipped, &four], vec![]);
    let step = add("Where", &[&from_two, &one, &half], vec![]);
    let step = add("Where", &[&from_four, &two, &step], vec![]);
    let steps = add("Div", &[&clipped, &step], vec![]);
    let steps = add("Round", &[&steps], vec![]);
    let rounded = add("Mul", &[&steps, &step], vec![]);
    let sign = add("Sign", &[&x], vec![]);
    let signed = add("Mul", &[&rounded, &sign], vec![]);
    let scaled = add("Mul", &[&signed, &scales], vec![]);
    let exact_nodes = nodes.iter().map(|node| node.name().to_owned()).collect();
    nodes.push(plain_node(free, "Reshape", vec![scaled, shape], back));
    Twin { nodes, constants, exact_nodes }
}

/// Writes the twin of a quantized graph that is not lowered yet, and returns the nodes that must not be lowered. `None`, and nothing is
/// written, if it is no NVFP4 graph.
///
/// # Errors
/// A tensor of the graph is malformed, or the destination can't be written.
pub fn write_twin(file: &OnnxFile, destination: &Path) -> Result<Option<Vec<String>>, OnnxError> {
    let source = Parts::of(file.model());
    let is_quantize = |node: &NodeProto| node.domain() == DOMAIN && node.op_type() == DYNAMIC_QUANTIZE;
    if !source.graph.node.iter().any(is_quantize) {
        return Ok(None);
    }
    let tensors = source.by_name();
    let maker: BTreeMap<&str, &NodeProto> = (source.graph.node.iter())
        .flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)))
        .collect();
    let input = |node: &NodeProto, place: usize| node.input.get(place).cloned().unwrap_or_default();
    let mut free = FreeNames::of(file.model());
    let (mut nodes, mut exact_nodes) = (Vec::new(), Vec::new());
    let mut initializers: Vec<Initializer<'_>> = Vec::new();
    // Nodes and tensors that the twin has something else for.
    let mut gone: BTreeSet<String> = BTreeSet::new();
    for node in &source.graph.node {
        let [quantized, scales, ..] = node.input.as_slice() else {
            nodes.push(node.clone());
            continue;
        };
        // The scales of a weight's or an activation's blocks, in E4M3, and their scale.
        let of_scales = maker.get(scales.as_str()).copied().filter(|_| node.op_type() == "DequantizeLinear");
        let stored = tensors.get(quantized.as_str()).copied();
        let is_weight = stored.is_some_and(|one| one.data_type() == ElementType::Float4e2m1.to_onnx());
        let quantize = maker.get(quantized.as_str()).copied().filter(|maker| is_quantize(maker));
        let back = node.output.first().cloned().unwrap_or_default();
        match (of_scales, stored, quantize) {
            (Some(of_scales), Some(weight), _) if is_weight => {
                initializers.push(dequantized(file, &tensors, weight, of_scales, &back)?);
                gone.extend([quantized.clone(), input(of_scales, 0), input(of_scales, 1), scales.clone()]);
            }
            (Some(of_scales), _, Some(quantize)) => {
                let value = input(quantize, 0);
                let twin = twin_nodes(&mut free, &value, &value, &input(quantize, 1), &back);
                nodes.extend(twin.nodes);
                exact_nodes.extend(twin.exact_nodes);
                for Constant { name, shape, element_type, bytes } in twin.constants {
                    initializers.push(Initializer {
                        header: header(&name, &shape, element_type),
                        size_bytes: bytes.len() as u64,
                        produce: Box::new(move |out| out.write_all(&bytes)),
                    });
                }
                gone.extend([quantized.clone(), input(of_scales, 0), scales.clone()]);
            }
            _ => nodes.push(node.clone()),
        }
    }
    nodes.retain(|node| !node.output.iter().any(|output| gone.contains(output)));
    let mut graph = without_initializers(&source.graph, nodes);
    graph.value_info.retain(|value| !gone.contains(value.name()));
    for tensor in source.tensors.iter().filter(|tensor| !gone.contains(tensor.name())) {
        if tensor.data_type() == ElementType::String.to_onnx() {
            graph.initializer.push(tensor.clone());
        } else {
            let size_bytes = tensor_size_bytes(file.path(), tensor)?;
            initializers.push(unchanged(file, tensor, tensor.name(), size_bytes));
        }
    }
    let mut model = with_graph(file, graph);
    model.opset_import.retain(|opset| opset.domain() != DOMAIN);
    consistency::check(file, &model, &initializers)?;
    take_in_external(file, &mut model)?;
    write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)?;
    Ok(Some(exact_nodes))
}

/// Returns what a stored weight stands for.
fn dequantized<'a>(
    file: &'a OnnxFile,
    tensors: &BTreeMap<&str, &'a TensorProto>,
    weight: &'a TensorProto,
    of_scales: &NodeProto,
    name: &str,
) -> Result<Initializer<'a>, OnnxError> {
    let bytes = |place: usize| -> Result<Bytes, OnnxError> {
        let name = of_scales.input.get(place).map_or("", String::as_str);
        tensors.get(name).map_or(Ok(Bytes::new()), |tensor| file.tensor_bytes(tensor))
    };
    let (codes, global) = (bytes(0)?, bytes(1)?);
    let global = global.first_chunk::<4>().map_or(0.0, |four| f32::from_le_bytes(*four));
    let scales = BlockScales { global, codes: codes.to_vec() };
    let shape: Vec<usize> = weight.dims.iter().map(|&side| side as usize).collect();
    let (count, width) = (shape.iter().product::<usize>(), shape.last().copied().unwrap_or(1));
    let is_along_row = is_last(tensors, of_scales, width);
    let block = move |index: usize| {
        if is_along_row { index / BLOCK } else { index / width / BLOCK * width + index % width }
    };
    let packed = file.tensor_bytes(weight)?;
    Ok(Initializer {
        header: header(name, &shape, ElementType::Float),
        size_bytes: (count * size_of::<f32>()) as u64,
        produce: Box::new(move |out| {
            for (place, byte) in packed.iter().enumerate() {
                for (half, bits) in [byte & 15, byte >> 4].into_iter().enumerate() {
                    let index = place * 2 + half;
                    if index < count {
                        out.write_all(&(e2m1_value(bits) * scales.of(block(index))).to_le_bytes())?;
                    }
                }
            }
            Ok(())
        }),
    })
}

/// Returns whether scales have fewer columns than the weight: a block is a part of a row.
fn is_last(tensors: &BTreeMap<&str, &TensorProto>, of_scales: &NodeProto, width: usize) -> bool {
    let scales = of_scales.input.first().and_then(|name| tensors.get(name.as_str()));
    scales.and_then(|scales| scales.dims.last()).is_some_and(|&columns| (columns as usize) < width)
}

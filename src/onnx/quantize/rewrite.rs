//! Writes the quantized graph.
//!
//! | format | in place of `MatMul(x, w)` |
//! | --- | --- |
//! | `int8`, `fp8` | `Mul(MatMul(DQ(Q(x, sx), sx), DQ(w, s)), r)`: one scale `s` for all weights that read `x`; the rest `r` of each column's own scale stands behind the product, so that a compiler multiplies sums with `sx * s` while they are still in FP32, and none overflows half precision |
//! | `int8-weights` | `MatMul(x, DQ(w, s))`, a scale a column |
//! | `int4` | `MatMul(x, DQ(w, s, block))`, a scale a block |
//! | `nvfp4` | `MatMul(DQ(Q(x)), DQ(w, DQ(s, g), block))`: see `nvfp4` |
//!
//! A Gemm becomes a product and a sum. A Conv is treated as a product is: its scales and its bias stand behind it, too. Smoothing multiplies `x` first; where everything that reads `x` is smoothed, and a
//! normalization makes it, the factors are in the normalization's weights instead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::candidates::{Product, Readers, Table};
use super::dequantized::{Dequantized, Scales};
use super::gptq::tokens::copy_rounded;
use super::groups::{Group, Ingredients, Scaled};
use super::number_formats::scale_of;
use super::options::{Embeddings, QuantizationOptions, QuantizedPrecision};
use super::weights::Matrix;
use crate::onnx::analysis::is_own_domain;
use crate::onnx::analysis::label;
use crate::onnx::free_names::FreeNames;
use crate::onnx::new_nodes::{int_attribute, plain_node};
use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::write::{Initializer, Produce};
use crate::onnx::{ElementType, OnnxError};

/// How a weight is stored.
struct Stored<'a> {
    precision: QuantizedPrecision,
    shape: Vec<usize>,
    stands_for: Scales,
    scale_shape: Vec<usize>,
    /// Of the node that dequantizes it.
    attributes: Vec<AttributeProto>,
    matrix: Matrix<'a>,
}

/// A graph being rewritten.
pub(super) struct Rewrite<'a> {
    pub(super) ingredients: &'a Ingredients<'a>,
    pub(super) free: FreeNames,
    /// New weights.
    pub(super) initializers: Vec<Initializer<'a>>,
    /// What replaces or precedes a node, by its place.
    pub(super) before: BTreeMap<usize, Vec<NodeProto>>,
    instead: BTreeMap<usize, Vec<NodeProto>>,
    /// Inputs of nodes that are replaced: by place of the node and of the input.
    pub(super) inputs: BTreeMap<(usize, usize), String>,
    /// Write the twin that ONNX Runtime's CPU runs in its place.
    pub(super) is_twin: bool,
    /// Nodes that compute in FP32 what the hardware computes exactly.
    pub(super) exact_nodes: Vec<String>,
    /// The types of values that an operator of TensorRT's own makes.
    pub(super) value_info: Vec<ValueInfoProto>,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(ingredients: &'a Ingredients<'a>, free: FreeNames, is_twin: bool) -> Self {
        Self {
            ingredients,
            free,
            initializers: Vec::new(),
            before: BTreeMap::new(),
            instead: BTreeMap::new(),
            inputs: BTreeMap::new(),
            is_twin,
            exact_nodes: Vec::new(),
            value_info: Vec::new(),
        }
    }

    /// Returns the nodes of the graph, rewritten.
    pub(super) fn nodes(self, graph: &GraphProto) -> (Vec<NodeProto>, Vec<Initializer<'a>>) {
        let Self { initializers, mut before, mut instead, inputs, .. } = self;
        let mut nodes = Vec::new();
        for (index, node) in graph.node.iter().enumerate() {
            nodes.extend(before.remove(&index).unwrap_or_default());
            match instead.remove(&index) {
                Some(new) => nodes.extend(new),
                None => {
                    let mut node = node.clone();
                    if inputs.range((index, 0)..(index + 1, 0)).next().is_some() {
                        // Plans and reports call it so.
                        node.name = Some(label(&node).into());
                    }
                    for (place, input) in node.input.iter_mut().enumerate() {
                        if let Some(other) = inputs.get(&(index, place)) {
                            *input = other.clone();
                        }
                    }
                    nodes.push(node);
                }
            }
        }
        (nodes, initializers)
    }

    /// Quantizes the products that read one activation.
    pub(super) fn group(
        &mut self,
        graph: &GraphProto,
        readers: &Readers<'_>,
        group: Group,
    ) -> Result<(), OnnxError> {
        let first = group.products.iter().map(|one| one.product.index).min().unwrap_or_default();
        let mut nodes = Vec::new();
        let mut x = group.input.clone();
        if group.is_smoothed() && !self.fold(graph, readers, &group)? {
            let factors = self.floats(
                &format!("{x}.smoothing"),
                &[group.inverse_factors.len()],
                &group.inverse_factors,
            );
            let smoothed = self.free.take(&format!("{x}.smoothed"));
            nodes.push(plain_node(&mut self.free, "Mul", vec![x, factors], &smoothed));
            x = smoothed;
        }
        let Group { input, inverse_factors: _, factors, activation_scale, shared_scale, products } = group;
        if let Some(scale) = activation_scale {
            if self.ingredients.options.precision == QuantizedPrecision::Nvfp4 {
                let (quantize, back) = self.nvfp4_activation(&input, &x, scale);
                nodes.extend(quantize);
                x = back;
            } else {
                let (pair, back) = self.quantized(&input, &x, scale);
                nodes.extend(pair);
                x = back;
            }
        }
        self.before.entry(first).or_default().append(&mut nodes);
        let factors = Arc::new(factors);
        for one in products {
            self.product(graph, &x, shared_scale, &factors, one)?;
        }
        Ok(())
    }

    /// Returns the nodes that quantize a value, called after `name`, and what they make of it.
    pub(super) fn quantized(&mut self, name: &str, value: &str, scale: f32) -> ([NodeProto; 2], String) {
        let scale = self.floats(&format!("{name}.scale"), &[], &[scale]);
        let zero = self.zero(&format!("{name}.zero_point"));
        let [quantized, back] =
            ["quantized", "dequantized"].map(|what| self.free.take(&format!("{name}.{what}")));
        let parameters = |of: &str| vec![of.to_owned(), scale.clone(), zero.clone()];
        let pair = [
            plain_node(&mut self.free, "QuantizeLinear", parameters(value), &quantized),
            plain_node(&mut self.free, "DequantizeLinear", parameters(&quantized), &back),
        ];
        (pair, back)
    }

    /// Adds a weight, and returns the nodes that dequantize it and what they make of it.
    fn stored_weight(
        &mut self,
        product: &Product,
        shared_scale: f32,
        factors: &Arc<Vec<f32>>,
        scales: Vec<f32>,
        rounded: Option<PathBuf>,
    ) -> (Vec<NodeProto>, String) {
        let QuantizationOptions { precision, block, .. } = *self.ingredients.options;
        let shape = match (&product.convolution, product.is_transposed) {
            (Some(convolution), _) => convolution.shape.clone(),
            (None, false) => vec![product.summed, product.columns],
            (None, true) => vec![product.columns, product.summed],
        };
        let column_axis = if product.is_transposed { 0 } else { 1 };
        let (stands_for, scale_shape, attributes) = match precision {
            QuantizedPrecision::Int8 | QuantizedPrecision::Fp8 | QuantizedPrecision::Nvfp4 => {
                (Scales::Shared(shared_scale), Vec::new(), Vec::new())
            }
            QuantizedPrecision::Int8Weights => {
                let attributes = vec![int_attribute("axis", column_axis)];
                (Scales::Columns(scales.clone()), vec![scales.len()], attributes)
            }
            QuantizedPrecision::Int4 => {
                let mut shape = shape.clone();
                shape[1 - column_axis as usize] /= block as usize;
                let attributes = vec![
                    int_attribute("axis", 1 - column_axis),
                    int_attribute("block_size", i64::from(block)),
                ];
                (Scales::Blocks(block as usize, scales.clone()), shape, attributes)
            }
        };
        let matrix = self.ingredients.matrix(product);
        let stored = Stored { precision, shape, stands_for, scale_shape, attributes, matrix };
        let factors = Arc::clone(factors);
        self.stored(
            &product.weight,
            stored,
            Box::new(move |out| match (&rounded, precision) {
                (Some(path), _) => copy_rounded(path, out),
                (None, QuantizedPrecision::Int4) => {
                    matrix.write_4_bits(block as usize, &factors, &scales, out)
                }
                (None, _) => matrix.write_8_bits(precision, &factors, &scales, out),
            }),
        )
    }

    /// Adds a weight whose codes `produce` writes, and returns the nodes that dequantize it and what they make of it; of the twin, what
    /// the weight stands for.
    fn stored(&mut self, name: &str, stored: Stored<'a>, produce: Produce<'a>) -> (Vec<NodeProto>, String) {
        let Stored { precision, shape, stands_for, scale_shape, attributes, matrix } = stored;
        if self.is_twin {
            let produce: Produce<'a> = Box::new(move |out| {
                let (is_transposed, width) = (matrix.is_transposed, matrix.stored_width());
                produce(&mut Dequantized::new(out, precision, &stands_for, is_transposed, width))
            });
            return (Vec::new(), self.weight(name, &shape, ElementType::Float, produce));
        }
        let scales = match &stands_for {
            Scales::Shared(scale) => std::slice::from_ref(scale),
            Scales::Columns(scales) | Scales::Blocks(_, scales) => scales,
        };
        let scale = self.floats(&format!("{name}.scale"), &scale_shape, scales);
        let weight = self.weight(name, &shape, precision.element_type(), produce);
        let back = self.free.take(&format!("{name}.dequantized"));
        let dequantize = NodeProto {
            attribute: attributes,
            ..plain_node(&mut self.free, "DequantizeLinear", vec![weight, scale], &back)
        };
        (vec![dequantize], back)
    }

    fn product(
        &mut self,
        graph: &GraphProto,
        x: &str,
        shared_scale: f32,
        factors: &Arc<Vec<f32>>,
        scaled: Scaled,
    ) -> Result<(), OnnxError> {
        let Scaled { product, scales, ratios, blocks, rounded } = scaled;
        let node = &graph.node[product.index];
        let name = product.weight.clone();
        let convolution = product.convolution.as_ref();
        let (mut nodes, mut w) = match blocks {
            Some(blocks) => self.nvfp4_weight(&product, factors, blocks),
            None => self.stored_weight(&product, shared_scale, factors, scales, rounded),
        };
        if product.is_transposed && convolution.is_none() {
            let turned = self.free.take(&format!("{name}.turned"));
            nodes.push(plain_node(&mut self.free, "Transpose", vec![w], &turned));
            w = turned;
        }
        // Of one value for each column of the product, which are the second dimension of a convolution's.
        let of_columns: Vec<usize> = match convolution {
            Some(convolution) => [vec![product.columns], vec![1; convolution.shape.len() - 2]].concat(),
            None => vec![product.columns],
        };
        // What is done to the product, from the inside to the outside; the last value has the name that the node's had.
        let output = node.output.first().cloned().unwrap_or_default();
        let mut steps: Vec<(&str, String)> = Vec::new();
        let ratios: Vec<f32> = match (ratios.is_empty(), product.factor == 1.0) {
            (true, true) => Vec::new(),
            (true, false) => vec![product.factor; product.columns],
            (false, _) => ratios.iter().map(|ratio| ratio * product.factor).collect(),
        };
        if !ratios.is_empty() {
            steps.push(("Mul", self.floats(&format!("{name}.rest_of_scale"), &of_columns, &ratios)));
        }
        if let Some(bias) = &product.bias {
            let bias = match convolution {
                Some(_) => {
                    let bytes =
                        self.ingredients.file.tensor_bytes(self.ingredients.tensors[bias.as_str()])?;
                    self.bytes(&format!("{bias}.of_channels"), &of_columns, ElementType::Float, bytes)
                }
                None => bias.clone(),
            };
            steps.push(("Add", bias));
        }
        let mut value =
            if steps.is_empty() { output.clone() } else { self.free.take(&format!("{output}.product")) };
        let (operator, attribute) = match convolution {
            Some(_) => ("Conv", node.attribute.clone()),
            None => ("MatMul", Vec::new()),
        };
        nodes.push(NodeProto {
            attribute,
            name: Some(label(node).into()),
            doc_string: node.doc_string.clone(),
            metadata_props: node.metadata_props.clone(),
            ..plain_node(&mut self.free, operator, vec![x.to_owned(), w], &value)
        });
        let count = steps.len();
        for (index, (operator, other)) in steps.into_iter().enumerate() {
            let is_last = index + 1 == count;
            let made = if is_last { output.clone() } else { self.free.take(&format!("{output}.scaled")) };
            nodes.push(plain_node(&mut self.free, operator, vec![value, other], &made));
            value = made;
        }
        self.instead.insert(product.index, nodes);
        Ok(())
    }

    /// Quantizes a table.
    pub(super) fn table(&mut self, table: Table) -> Result<(), OnnxError> {
        let QuantizationOptions { base, block, embeddings, .. } = *self.ingredients.options;
        let Table { index, weight: name, rows, columns } = table;
        let ingredients = self.ingredients;
        let matrix = Matrix {
            file: ingredients.file,
            tensor: ingredients.tensors[name.as_str()],
            is_transposed: true,
            summed: columns,
            columns: rows,
        };
        let read = OnnxError::io("read", ingredients.file.path());
        let ones = vec![1.0; columns];
        let round = |scale: f32| scale_of(base, scale);
        let (scales, precision) = if embeddings == Embeddings::Int4 {
            let scales = matrix.block_scales(block as usize, &ones, None, &round).map_err(read)?;
            (scales, QuantizedPrecision::Int4)
        } else {
            let precision = QuantizedPrecision::Int8Weights;
            let maxima = matrix.maxima(&ones).map_err(read)?;
            let scales = maxima.columns.iter().map(|most| round(most / precision.largest())).collect();
            (scales, precision)
        };
        let (stands_for, scale_shape, attributes) = if precision == QuantizedPrecision::Int4 {
            let attributes = vec![int_attribute("axis", 1), int_attribute("block_size", i64::from(block))];
            (Scales::Blocks(block as usize, scales.clone()), vec![rows, columns / block as usize], attributes)
        } else {
            (Scales::Columns(scales.clone()), vec![rows], vec![int_attribute("axis", 0)])
        };
        let shape = vec![rows, columns];
        let stored = Stored { precision, shape, stands_for, scale_shape, attributes, matrix };
        let (dequantize, back) = self.stored(
            &name,
            stored,
            Box::new(move |out| match precision {
                QuantizedPrecision::Int4 => matrix.write_4_bits(block as usize, &ones, &scales, out),
                _ => matrix.write_8_bits(precision, &ones, &scales, out),
            }),
        );
        self.before.entry(index).or_default().extend(dequantize);
        // Tables are of Gather nodes alone, whose first input they are.
        self.inputs.insert((index, 0), back);
        Ok(())
    }

    /// Puts smoothing factors into the normalization that makes the activation, if only the group reads it.
    fn fold(&mut self, graph: &GraphProto, readers: &Readers<'_>, group: &Group) -> Result<bool, OnnxError> {
        let Group { input, inverse_factors, products, .. } = group;
        let are_all = readers
            .of_nodes(input)
            .iter()
            .all(|reader| products.iter().any(|one| one.product.index == *reader));
        if !are_all || readers.is_output(input) {
            return Ok(false);
        }
        let maker = |value: &str| {
            let mut makers = graph.node.iter().enumerate();
            makers.find(|(_, node)| node.output.iter().any(|output| output == value))
        };
        let Some((index, node)) = maker(input) else { return Ok(false) };
        if !is_own_domain(node.domain()) {
            return Ok(false);
        }
        let mut places = Vec::new();
        match node.op_type() {
            "LayerNormalization" => {
                let parameters = node.input.iter().enumerate().skip(1);
                places
                    .extend(parameters.filter(|(_, name)| !name.is_empty()).map(|(place, _)| (index, place)));
            }
            "Add" => {
                let is_weight = |name: &String| self.ingredients.tensors.contains_key(name.as_str());
                let Some(shift) = node.input.iter().position(is_weight) else { return Ok(false) };
                let Some(product) = node.input.get(1 - shift.min(1)) else { return Ok(false) };
                let Some((inner, multiply)) = maker(product) else { return Ok(false) };
                let is_only = readers.of_nodes(product) == [index] && !readers.is_output(product);
                let is_product = multiply.op_type() == "Mul" && is_own_domain(multiply.domain());
                let scale = multiply.input.iter().position(is_weight);
                let Some(scale) = scale.filter(|_| is_only && is_product) else { return Ok(false) };
                places.extend([(inner, scale), (index, shift)]);
            }
            _ => return Ok(false),
        }
        let mut folded = Vec::new();
        for &(node, place) in &places {
            let name = &graph.node[node].input[place];
            let Some(tensor) = self.ingredients.tensors.get(name.as_str()) else { return Ok(false) };
            let is_vector = tensor.dims.as_slice() == [inverse_factors.len() as i64];
            if !is_vector || tensor.data_type() != ElementType::Float.to_onnx() {
                return Ok(false);
            }
            let bytes = self.ingredients.file.tensor_bytes(tensor)?;
            let values = bytes.as_chunks::<4>().0.iter().zip(inverse_factors);
            let values: Vec<f32> = values.map(|(four, factor)| f32::from_le_bytes(*four) * factor).collect();
            folded.push((node, place, name.clone(), values));
        }
        for (node, place, name, values) in folded {
            let name = self.floats(&format!("{name}.smoothed"), &[values.len()], &values);
            self.inputs.insert((node, place), name);
        }
        Ok(true)
    }

    /// Adds a weight of FP32 numbers, and returns its name.
    pub(super) fn floats(&mut self, wish: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes: Bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(wish, shape, ElementType::Float, bytes)
    }

    /// Adds the zero of the quantized type, which says what that is.
    fn zero(&mut self, wish: &str) -> String {
        self.bytes(wish, &[], self.ingredients.options.precision.element_type(), Bytes::from_static(&[0]))
    }

    pub(super) fn bytes(
        &mut self,
        wish: &str,
        shape: &[usize],
        element_type: ElementType,
        bytes: Bytes,
    ) -> String {
        let name = self.free.take(wish);
        self.initializers.push(Initializer {
            header: header(&name, shape, element_type),
            size_bytes: bytes.len() as u64,
            produce: Box::new(move |out| out.write_all(&bytes)),
        });
        name
    }

    /// Adds a quantized weight, and returns its name.
    pub(super) fn weight(
        &mut self,
        original: &str,
        shape: &[usize],
        element_type: ElementType,
        produce: Produce<'a>,
    ) -> String {
        let name = self.free.take(&format!("{original}.quantized"));
        let count = shape.iter().product::<usize>() as u64;
        let size_bytes = (count * element_type.size_bits()).div_ceil(8);
        self.initializers.push(Initializer {
            header: header(&name, shape, element_type),
            size_bytes,
            produce,
        });
        name
    }
}

pub(super) fn header(name: &str, shape: &[usize], element_type: ElementType) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: shape.iter().map(|&length| length as i64).collect(),
        data_type: Some(element_type.to_onnx()),
        ..TensorProto::default()
    }
}

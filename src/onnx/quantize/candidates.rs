//! Finds what can be quantized: products and convolutions with constant weights, and tables that indices select rows of.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attention::{self, Attention};
use super::options::{Embeddings, QuantizationOptions, QuantizedPrecision, Treatment};
use crate::onnx::ElementType;
use crate::onnx::analysis::{attribute, is_own_domain, label, subgraphs};
use crate::onnx::proto::{GraphProto, NodeProto, TensorProto};

/// Smaller sides of a weight gain nothing: the work around the product is as large as the product.
const MIN_SIDE: i64 = 64;
/// What tensor cores multiply at once along the summed side; other lengths are not computed in 8 bits.
const SUMMED_MULTIPLE: i64 = 16;
/// A convolution that sums over fewer channels stays: over those of an image's colours, for which not all formats have kernels,
/// and over one each, where few weights are saved and much is lost.
const MIN_CHANNELS: usize = 16;
/// Smaller tables are not worth a scale.
const MIN_TABLE_ELEMENTS: i64 = 1 << 16;

/// A product or a convolution with a constant weight.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Product {
    /// The place of its node in the graph.
    pub(super) index: usize,
    /// The activation.
    pub(super) input: String,
    /// The weight.
    pub(super) weight: String,
    /// Whether the weight is stored as [columns, summed].
    pub(super) is_transposed: bool,
    /// The side that is summed up; of a convolution, the input channels of a group times the places of its kernel.
    pub(super) summed: usize,
    /// The other side; of a convolution, its output channels.
    pub(super) columns: usize,
    /// What it is, if it is no product.
    pub(super) convolution: Option<Convolution>,
    /// What is added to it, of a Gemm or a Conv.
    pub(super) bias: Option<String>,
    /// What it is multiplied with, of a Gemm.
    pub(super) factor: f32,
}

/// What a convolution has beyond a product.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Convolution {
    /// The input channels, of all groups.
    pub(super) channels: usize,
    /// The shape of the weight: output channels, input channels of a group, the kernel's sides.
    pub(super) shape: Vec<usize>,
}

impl Product {
    /// Returns the number of channels that its activation has: its last dimension, or, of a convolution, its second.
    pub(super) fn channels(&self) -> usize {
        self.convolution.as_ref().map_or(self.summed, |convolution| convolution.channels)
    }
}

/// A table that a Gather selects rows of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// The place of its node in the graph.
    pub(super) index: usize,
    /// The table.
    pub(super) weight: String,
    /// Its sides: rows, columns.
    pub(super) rows: usize,
    /// Its columns.
    pub(super) columns: usize,
}

/// Why a product or a table stays in the base precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhyKept {
    /// The options name it, or the search kept it.
    KeptNode,
    /// Both factors are computed, as in attention, which is quantized only if the options say so.
    NoConstantWeight,
    /// The weight is not FP32, or a caller may replace it.
    OtherWeight,
    /// A side of the weight is shorter than 64.
    Small,
    /// The summed side is no multiple of 16, or of the block; in NVFP4, or the other is odd.
    Length,
    /// The weight has other dimensions than a product's or a convolution's, or the node other attributes or inputs.
    Form,
    /// A convolution that has no kernels in the format, or that the options keep.
    Convolution,
    /// A convolution that sums over fewer than 16 channels: over those of an image, or of a small group.
    FewChannels,
    /// The weight has values that are not finite.
    NotFinite,
    /// The samples never reached it, or only with zeros.
    NoActivation,
}

/// Everything of a graph that could be quantized.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) products: Vec<Product>,
    pub(super) tables: Vec<Table>,
    pub(super) attention: Vec<Attention>,
    /// Activations that no factor may stand before.
    pub(super) unsmoothed: BTreeSet<String>,
    /// Products and tables that stay, by their node's place.
    pub(super) kept: BTreeMap<usize, WhyKept>,
}

impl Candidates {
    /// Finds them in a graph whose weights are `tensors`.
    pub(super) fn of(
        graph: &GraphProto,
        tensors: &BTreeMap<&str, &TensorProto>,
        replaceable: &BTreeSet<&str>,
        options: &QuantizationOptions,
    ) -> Self {
        let mut found = Self::default();
        let kept: BTreeSet<&str> = options.keep_nodes.iter().map(String::as_str).collect();
        let weight = |name: &str| -> Result<&TensorProto, WhyKept> {
            let tensor = tensors.get(name).copied().ok_or(WhyKept::NoConstantWeight)?;
            let is_float = tensor.data_type() == ElementType::Float.to_onnx();
            if is_float && !replaceable.contains(name) { Ok(tensor) } else { Err(WhyKept::OtherWeight) }
        };
        for (index, node) in graph.node.iter().enumerate().filter(|(_, node)| is_own_domain(node.domain())) {
            let verdict = match node.op_type() {
                "MatMul" | "Gemm" => product(index, node, &weight, options).map(|product| {
                    found.products.push(product);
                }),
                "Conv" => {
                    convolution(index, node, &weight, options).map(|product| found.products.push(product))
                }
                "ConvTranspose" => Err(WhyKept::Convolution),
                "Gather" if options.embeddings != Embeddings::Keep => {
                    match table(index, node, &weight, options) {
                        Some(table) => {
                            found.tables.push(table);
                            Ok(())
                        }
                        None => continue,
                    }
                }
                _ => continue,
            };
            if let Err(why) = verdict {
                found.kept.insert(index, why);
            } else if kept.contains(label(node)) {
                found.products.retain(|product| product.index != index);
                found.tables.retain(|table| table.index != index);
                found.kept.insert(index, WhyKept::KeptNode);
            }
        }
        // Channels are measured along one dimension of a value.
        let by_products: BTreeSet<&str> = (found.products.iter())
            .filter(|product| product.convolution.is_none())
            .map(|product| product.input.as_str())
            .collect();
        let is_other =
            |product: &Product| product.convolution.is_some() && by_products.contains(product.input.as_str());
        let others: Vec<usize> =
            found.products.iter().filter(|product| is_other(product)).map(|product| product.index).collect();
        found.products.retain(|product| !others.contains(&product.index));
        found.kept.extend(others.into_iter().map(|index| (index, WhyKept::Form)));
        attention::find(graph, options, &mut found);
        // A table that something else reads too would be stored twice.
        let reads = Readers::of(graph);
        found.tables.retain(|table| reads.of_nodes(&table.weight).len() == 1);
        found
    }
}

fn product<'t>(
    index: usize,
    node: &NodeProto,
    weight: &impl Fn(&str) -> Result<&'t TensorProto, WhyKept>,
    options: &QuantizationOptions,
) -> Result<Product, WhyKept> {
    let [input, name, rest @ ..] = node.input.as_slice() else { return Err(WhyKept::Form) };
    let tensor = weight(name)?;
    // Both constant: nothing to compute when it runs.
    if weight(input).is_ok() {
        return Err(WhyKept::Form);
    }
    let is_gemm = node.op_type() == "Gemm";
    let integer = |name: &str| attribute(node, name).map_or(0, |attribute| attribute.i());
    let number = |name: &str| attribute(node, name).map_or(1.0, |attribute| attribute.f());
    let is_transposed = is_gemm && integer("transB") != 0;
    let bias = rest.first().filter(|name| !name.is_empty()).cloned();
    if is_gemm && (integer("transA") != 0 || (bias.is_some() && number("beta") != 1.0)) {
        return Err(WhyKept::Form);
    }
    let [first, second] = *tensor.dims.as_slice() else { return Err(WhyKept::Form) };
    let (summed, columns) = if is_transposed { (second, first) } else { (first, second) };
    if summed < MIN_SIDE || columns < MIN_SIDE {
        return Err(WhyKept::Small);
    }
    let is_blocked = options.precision == QuantizedPrecision::Int4;
    let multiple = if is_blocked { i64::from(options.block) } else { SUMMED_MULTIPLE };
    // Two 4-bit numbers are a byte: TensorRT for RTX has no kernel for an odd number of columns.
    let is_odd = options.precision == QuantizedPrecision::Nvfp4 && columns % 2 != 0;
    if summed % multiple != 0 || is_odd {
        return Err(WhyKept::Length);
    }
    Ok(Product {
        index,
        input: input.clone(),
        weight: name.clone(),
        is_transposed,
        summed: usize::try_from(summed).map_err(|_| WhyKept::Form)?,
        columns: usize::try_from(columns).map_err(|_| WhyKept::Form)?,
        convolution: None,
        bias,
        factor: if is_gemm { number("alpha") } else { 1.0 },
    })
}

fn convolution<'t>(
    index: usize,
    node: &NodeProto,
    weight: &impl Fn(&str) -> Result<&'t TensorProto, WhyKept>,
    options: &QuantizationOptions,
) -> Result<Product, WhyKept> {
    let [input, name, rest @ ..] = node.input.as_slice() else { return Err(WhyKept::Form) };
    let tensor = weight(name)?;
    if options.convolutions == Treatment::Keep || !options.precision.has_fixed_scales() {
        return Err(WhyKept::Convolution);
    }
    let sides = tensor.dims.iter().map(|&side| usize::try_from(side).ok().filter(|&side| side > 0));
    let shape: Vec<usize> = sides.collect::<Option<_>>().ok_or(WhyKept::Form)?;
    let [columns, of_group, _, ..] = *shape.as_slice() else { return Err(WhyKept::Form) };
    let groups = attribute(node, "group").map_or(1, |attribute| attribute.i());
    let channels =
        tensor.dims[1].checked_mul(groups).filter(|&channels| channels > 0).ok_or(WhyKept::Form)?;
    if of_group < MIN_CHANNELS {
        return Err(WhyKept::FewChannels);
    }
    let bias = rest.first().filter(|name| !name.is_empty()).cloned();
    let is_vector = |name: &String| weight(name).is_ok_and(|bias| bias.dims == [tensor.dims[0]]);
    if weight(input).is_ok() || !bias.as_ref().is_none_or(is_vector) {
        return Err(WhyKept::Form);
    }
    Ok(Product {
        index,
        input: input.clone(),
        weight: name.clone(),
        is_transposed: true,
        summed: of_group * shape[2..].iter().product::<usize>(),
        columns,
        convolution: Some(Convolution {
            channels: usize::try_from(channels).map_err(|_| WhyKept::Form)?,
            shape,
        }),
        bias,
        factor: 1.0,
    })
}

fn table<'t>(
    index: usize,
    node: &NodeProto,
    weight: &impl Fn(&str) -> Result<&'t TensorProto, WhyKept>,
    options: &QuantizationOptions,
) -> Option<Table> {
    let [name, _] = node.input.as_slice() else { return None };
    let tensor = weight(name).ok()?;
    let [rows, columns] = *tensor.dims.as_slice() else { return None };
    let axis = attribute(node, "axis").map_or(0, |attribute| attribute.i());
    let is_blocked = options.embeddings == Embeddings::Int4;
    let fits = columns >= MIN_SIDE && (!is_blocked || columns % i64::from(options.block) == 0);
    let is_large = rows.checked_mul(columns).is_some_and(|count| count >= MIN_TABLE_ELEMENTS);
    if axis != 0 || !fits || !is_large {
        return None;
    }
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    Some(Table { index, weight: name.clone(), rows, columns })
}

/// Who reads each value of a graph.
pub(super) struct Readers<'g> {
    nodes: BTreeMap<&'g str, Vec<usize>>,
    outputs: BTreeSet<&'g str>,
}

impl<'g> Readers<'g> {
    pub(super) fn of(graph: &'g GraphProto) -> Self {
        let mut nodes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            let mut add = |name: &'g str| {
                let readers = nodes.entry(name).or_default();
                if readers.last() != Some(&index) {
                    readers.push(index);
                }
            };
            reads(node, &mut add);
        }
        Self { nodes, outputs: graph.output.iter().map(|output| output.name()).collect() }
    }

    /// Returns the nodes that read a value, those whose subgraphs do included.
    pub(super) fn of_nodes(&self, value: &str) -> &[usize] {
        self.nodes.get(value).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a value is an output of the graph.
    pub(super) fn is_output(&self, value: &str) -> bool {
        self.outputs.contains(value)
    }
}

/// Calls `add` for every name that a node or its subgraphs read.
fn reads<'g>(node: &'g NodeProto, add: &mut impl FnMut(&'g str)) {
    node.input.iter().filter(|name| !name.is_empty()).for_each(|name| add(name));
    for graph in subgraphs(node) {
        graph.node.iter().for_each(|node| reads(node, add));
        graph.output.iter().for_each(|output| add(output.name()));
    }
}

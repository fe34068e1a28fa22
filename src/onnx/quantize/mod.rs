//! Quantizes an FP32 graph to 8 or 4 bits.
//!
//! Compilers take quantization from the graph alone: QuantizeLinear and DequantizeLinear nodes around what they are to compute in
//! few bits. The result is still an FP32 graph, in a newer operator set if the old one lacks those nodes, that computes in FP32
//! what the quantized products would; [`lower()`](super::lower::lower) turns the rest of it into the base precision. The steps, a
//! module each: `candidates` finds products with constant weights; `observe` writes a graph that measures their activations,
//! and `statistics` holds what came of it; `groups` finds the scales, those of blocks with `block_scales`; `gptq` rounds weights by the
//! activations; `rewrite` puts the nodes in; `weights` reads and writes weights where they lie.
//!
//! Which method is best for a graph can't be told from the graph: [`crate::ops::quantize`] tries several.

mod attention;
mod block_scales;
mod candidates;
mod dequantized;
mod gptq;
mod groups;
mod number_formats;
mod nvfp4;
mod nvfp4_twin;
mod observe;
mod options;
mod parts;
mod report;
mod rewrite;
mod statistics;
mod weights;

use std::collections::BTreeSet;
use std::path::Path;

pub use candidates::WhyKept;
pub use gptq::gptq_obstacle;
pub use gptq::tokens::SampleTokens;
pub use nvfp4_twin::write_twin;
pub use observe::{ObservedChannels, ObservedTokens, observe_channels};
pub use options::{
    BLOCKS, Embeddings, Method, QuantizationOptions, QuantizedPrecision, Treatment, UnknownMethod,
    UnknownQuantizedPrecision,
};
pub use report::{QuantizationReport, QuantizedNode, UnquantizedNode};
pub use statistics::{Channels, Statistics};

use self::candidates::{Candidates, Readers};
use self::groups::Ingredients;
use self::parts::Parts;
use self::rewrite::Rewrite;
use super::analysis::label;
use super::consistency;
use super::element_type::ElementType;
use super::error::OnnxError;
use super::file::OnnxFile;
use super::free_names::FreeNames;
use super::model_parts::{take_in_external, with_graph, without_initializers};
use super::opset;
use super::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use super::tensor_size::tensor_size_bytes;
use super::weights::unchanged;
use super::write::{DEFAULT_INLINE_LIMIT_BYTES, WrittenFile, write_model};

/// Raised whenever equal arguments start to give other bytes.
pub const QUANTIZATION_VERSION: u32 = 2;

/// The property by which a quantized model is known: its scales are numbers of the base precision, and may be lowered.
pub(super) const PROPERTY: &str = "nimctl.quantization";

/// A quantized graph on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The files written, the model first.
    pub files: Vec<WrittenFile>,
    /// What was done.
    pub report: QuantizationReport,
    /// Nodes that must not be lowered: they stand for what the hardware computes exactly.
    pub exact_nodes: Vec<String>,
}

/// A node that could be quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizableNode {
    /// Its name; that of its first output where it has none.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// The activation that its weight is multiplied with.
    pub input: String,
    /// The bytes of its weight in FP32; none of attention's, which both products are kept with.
    pub weight_bytes: u64,
}

/// Returns the products and convolutions that [`quantize`] would quantize, in the graph's order.
pub fn quantizable_nodes(file: &OnnxFile, options: &QuantizationOptions) -> Vec<QuantizableNode> {
    let source = Parts::of(file.model());
    let candidates = Candidates::of(&source.graph, &source.by_name(), &source.replaceable(file), options);
    let node = |product: &candidates::Product| {
        let node = &source.graph.node[product.index];
        QuantizableNode {
            node: label(node).into(),
            op_type: node.op_type().into(),
            input: product.input.clone(),
            weight_bytes: (product.summed * product.columns * 4) as u64,
        }
    };
    let of_attention = |attention: &attention::Attention| {
        let node = &source.graph.node[attention.scores];
        let [queries, _, _] = &attention.inputs;
        let (node, op_type) = (label(node).into(), node.op_type().into());
        QuantizableNode { node, op_type, input: queries.clone(), weight_bytes: 0 }
    };
    candidates.products.iter().map(node).chain(candidates.attention.iter().map(of_attention)).collect()
}

/// Quantizes `file` and writes the result to `destination`, with an external data file beside it where it is large.
///
/// # Errors
/// A tensor of the graph is malformed, the operator set can't be raised, or the destination can't be written.
pub fn quantize(
    file: &OnnxFile,
    options: &QuantizationOptions,
    method: Method,
    statistics: &Statistics,
    destination: &Path,
) -> Result<Quantized, OnnxError> {
    write(file, options, method, statistics, false, destination)
}

/// Writes a graph that gives what that of [`quantize`] gives, and that ONNX Runtime's CPU can run: its weights are those in FP32 that
/// the quantized ones stand for, so that they are in memory once, and NVFP4's activations are rounded by standard operators.
///
/// # Errors
/// As of [`quantize`].
pub fn quantize_for_cpu(
    file: &OnnxFile,
    options: &QuantizationOptions,
    method: Method,
    statistics: &Statistics,
    destination: &Path,
) -> Result<Quantized, OnnxError> {
    write(file, options, method, statistics, true, destination)
}

fn write(
    file: &OnnxFile,
    options: &QuantizationOptions,
    method: Method,
    statistics: &Statistics,
    is_twin: bool,
    destination: &Path,
) -> Result<Quantized, OnnxError> {
    let raised = raised(file, options)?;
    let source = Parts::of(&raised);
    let (tensors, replaceable) = (source.by_name(), source.replaceable(file));
    let mut candidates = Candidates::of(&source.graph, &tensors, &replaceable, options);
    let ingredients = Ingredients { file, tensors: &tensors, options, method, statistics };
    let groups = ingredients.groups(&mut candidates)?;
    let mut report = report::empty(options, method);
    let mut rewrite = Rewrite::new(&ingredients, FreeNames::of(&raised), is_twin);
    let readers = Readers::of(&source.graph);
    for group in groups {
        report.add_group(&source.graph, &group);
        rewrite.group(&source.graph, &readers, group)?;
    }
    for table in std::mem::take(&mut candidates.tables) {
        report.add_table(&source.graph, &table);
        rewrite.table(table)?;
    }
    for one in ingredients.attention(&mut candidates) {
        report.add_attention(&source.graph, &one);
        rewrite.attention(one);
    }
    report.add_kept(&source.graph, &candidates.kept);
    let exact_nodes = std::mem::take(&mut rewrite.exact_nodes);
    let value_info = std::mem::take(&mut rewrite.value_info);
    let (nodes, mut initializers) = rewrite.nodes(&source.graph);
    report.weights_after_bytes = initializers.iter().map(|one| one.size_bytes).sum();
    let mut graph = without_initializers(&source.graph, nodes);
    let still_read: BTreeSet<String> = {
        let readers = Readers::of(&graph);
        let is_read = |name: &str| !readers.of_nodes(name).is_empty() || readers.is_output(name);
        source
            .tensors
            .iter()
            .map(|tensor| tensor.name())
            .filter(|name| is_read(name))
            .map(Into::into)
            .collect()
    };
    graph.input.retain(|input| !tensors.contains_key(input.name()) || still_read.contains(input.name()));
    for tensor in source.tensors.iter().filter(|tensor| still_read.contains(tensor.name())) {
        if tensor.data_type() == ElementType::String.to_onnx() {
            graph.initializer.push(tensor.clone());
        } else {
            let size_bytes = tensor_size_bytes(file.path(), tensor)?;
            initializers.push(unchanged(file, tensor, tensor.name(), size_bytes));
        }
    }
    let uses_domain = !value_info.is_empty();
    graph.value_info.extend(value_info);
    let mut model = ModelProto { graph: None, ..raised.clone() };
    if uses_domain && model.opset_import.iter().all(|opset| opset.domain() != nvfp4::DOMAIN) {
        let (domain, version) = (Some(nvfp4::DOMAIN.into()), Some(nvfp4::DOMAIN_VERSION));
        model.opset_import.push(OperatorSetIdProto { domain, version });
    }
    model = ModelProto { graph: with_graph(file, graph).graph, ..model };
    model.metadata_props.push(StringStringEntryProto {
        key: Some(PROPERTY.into()),
        value: Some(format!("{} on {} version {QUANTIZATION_VERSION}", options.precision, options.base)),
    });
    consistency::check(file, &model, &initializers)?;
    take_in_external(file, &mut model)?;
    let files = write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)?;
    Ok(Quantized { files, report, exact_nodes })
}

/// Returns the model in an operator set that has what the format needs.
fn raised(file: &OnnxFile, options: &QuantizationOptions) -> Result<ModelProto, OnnxError> {
    let needed = match options.embeddings {
        Embeddings::Int4 => QuantizedPrecision::Int4.needed_opset(),
        Embeddings::Keep | Embeddings::Int8 => options.precision.needed_opset(),
    };
    let mut model = file.model().clone();
    match opset::raise(&mut model, needed) {
        Ok(_) => Ok(model),
        Err(problem) => Err(OnnxError::Opset { path: file.path().into(), problem }),
    }
}

#[cfg(test)]
mod tests;

//! Lowers an FP32 graph to FP16 or BF16.
//!
//! Strongly typed compilers compute in the precision that the graph says, so the graph is where precision is
//! decided. The steps, a module each: `constants` makes all constants initializers; `infer` finds the type of every
//! value; `operators` is the table that both know operators by; `plan` decides which nodes are lowered; `rewrite`
//! renames, casts and changes types; `convert` rounds the weights while they are written.
//!
//! Lowered and kept parts meet at Cast nodes and nowhere else. Names of inputs and outputs never change. Subgraphs
//! and local functions are left as they are.

mod constants;
mod convert;
mod infer;
mod operators;
mod plan;
mod report;
mod rewrite;
mod subgraph;
mod values;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use report::{KeepReason, KeptNode, LoweringReport};

use self::constants::take_constants;
use self::convert::{Losses, write_rounded};
use self::infer::infer_types;
use self::plan::{Decision, Facts, decide, unmatched_keeps};
use self::rewrite::{retype, rewrite_nodes};
use self::values::{Form, Produced, Values};
use super::element_type::ElementType;
use super::error::OnnxError;
use super::external_data::is_external;
use super::file::OnnxFile;
use super::graph_digest::WrittenFiles;
use super::precision::Precision;
use super::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use super::tensor_size::tensor_size_bytes;
use super::visit::change_tensors;
use super::write::{DEFAULT_INLINE_LIMIT_BYTES, Initializer, write_model};

/// Raised whenever equal arguments start to give other bytes.
pub const LOWERING_VERSION: u32 = 1;

/// What to lower, and what to leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoweringOptions {
    /// The precision to lower to; `fp32` writes the graph as it is.
    pub precision: Precision,
    /// Operators whose nodes stay in FP32.
    pub keep_ops: Vec<String>,
    /// Exact names of nodes that stay in FP32.
    pub keep_nodes: Vec<String>,
    /// Whether the graph's inputs and outputs stay in FP32.
    pub io: Io,
}

/// What becomes of the types of a graph's inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// They stay as they are; casts are inside the graph.
    Keep,
    /// FP32 inputs and outputs become lowered ones.
    Lower,
}

/// A lowered graph on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The files written.
    pub files: WrittenFiles,
    /// What was done.
    pub report: LoweringReport,
}

/// Lowers `file` and writes the result to `destination`, with an external data file beside it where it is large.
///
/// # Errors
/// A tensor of the graph is malformed, the operator set is too old for the precision, or the destination can't be
/// written.
pub fn lower(file: &OnnxFile, options: &LoweringOptions, destination: &Path) -> Result<Lowered, OnnxError> {
    let precision = options.precision;
    check_opset(file, precision)?;
    let original = file.graph();
    let mut graph = without_initializers(original);
    let mut tensors = original.initializer.clone();
    if precision != Precision::Fp32 {
        tensors.extend(take_constants(&mut graph.node));
    }
    let losses = losses(file, &graph, &tensors, precision)?;
    let types = infer_types(&graph, &tensors);
    let facts =
        Facts { graph: &graph, functions: &file.model().functions, types: &types, losses: &losses, options };
    let (decisions, values) = match precision {
        Precision::Fp32 => {
            let decisions = vec![Decision::Untouched; graph.node.len()];
            let keep = LoweringOptions { io: Io::Keep, ..options.clone() };
            let values = Values::new(&graph, &tensors, &types, &decisions, &keep);
            (decisions, values)
        }
        Precision::Fp16 | Precision::Bf16 => {
            let decisions = decide(&facts);
            let values = Values::new(&graph, &tensors, &types, &decisions, options);
            (decisions, values)
        }
    };
    let fill = |node: &NodeProto| fill_of(file, node).unwrap_or(0.0);
    // Since this operator set, Clip takes its limits as inputs.
    let can_clip = file.opset().is_some_and(|opset| opset >= 11);
    let rewritten = rewrite_nodes(&graph, &decisions, &values, &types, precision, can_clip, &fill);

    let mut report = LoweringReport {
        precision,
        tensors_lowered: 0,
        weights_before_bytes: 0,
        weights_after_bytes: 0,
        nodes_lowered: decisions.iter().filter(|decision| **decision == Decision::Lower).count() as u64,
        nodes_kept: kept_nodes(&graph.node, &decisions),
        casts_inserted: rewritten.casts_inserted,
        clips_inserted: rewritten.clips_inserted,
        values_clipped: clipped(&decisions),
        values_vanished: 0,
        epsilons_raised: 0,
        unmatched_keeps: unmatched_keeps(&graph.node, options),
    };
    graph.node = rewritten.nodes;
    graph.initializer = rewritten.limits;
    for declared in [&mut graph.input, &mut graph.output, &mut graph.value_info] {
        retype(declared, &values, precision);
    }
    let mut initializers = Vec::new();
    for tensor in &tensors {
        if tensor.data_type() == ElementType::String.to_onnx() {
            graph.initializer.push(tensor.clone());
            continue;
        }
        let size_bytes = tensor_size_bytes(file.path(), tensor)?;
        report.weights_before_bytes += size_bytes;
        let (full, low) = forms(&values, tensor);
        if full {
            let name = values.name(tensor.name(), Form::Full);
            initializers.push(unchanged(file, tensor, name, size_bytes));
            report.weights_after_bytes += size_bytes;
        }
        if low {
            let name = values.name(tensor.name(), Form::Low);
            let vanishing = losses.get(tensor.name()).map_or(0, |losses| losses.vanishing);
            if vanishing > 0 && size_bytes == 4 {
                initializers.push(least(file, tensor, name, precision));
                report.epsilons_raised += 1;
            } else {
                initializers.push(rounded(file, tensor, name, size_bytes / 2, precision));
                report.values_vanished += vanishing;
            }
            report.weights_after_bytes += size_bytes / 2;
            report.tensors_lowered += 1;
        }
    }
    let model = embedded(file, graph, precision)?;
    let files = write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)?;
    Ok(Lowered { files, report })
}

fn check_opset(file: &OnnxFile, precision: Precision) -> Result<(), OnnxError> {
    // The first operator set whose Cast knows the type.
    let needed = if precision == Precision::Bf16 { 13 } else { 1 };
    match file.opset() {
        Some(opset) if opset < needed => Err(OnnxError::OpsetTooOld {
            path: file.path().into(),
            opset,
            needed,
            precision: precision.as_str(),
        }),
        _ => Ok(()),
    }
}

/// Returns the graph without its weights, which are many and may be copies.
fn without_initializers(graph: &GraphProto) -> GraphProto {
    let GraphProto {
        node,
        name,
        initializer: _, // Streamed instead.
        doc_string,
        input,
        output,
        value_info,
        quantization_annotation,
        sparse_initializer,
        metadata_props,
    } = graph;
    GraphProto {
        node: node.clone(),
        name: name.clone(),
        initializer: Vec::new(),
        doc_string: doc_string.clone(),
        input: input.clone(),
        output: output.clone(),
        value_info: value_info.clone(),
        quantization_annotation: quantization_annotation.clone(),
        sparse_initializer: sparse_initializer.clone(),
        metadata_props: metadata_props.clone(),
    }
}

/// Checks every tensor's payload and returns what each FP32 constant would lose.
fn losses(
    file: &OnnxFile,
    graph: &GraphProto,
    tensors: &[TensorProto],
    precision: Precision,
) -> Result<BTreeMap<String, Losses>, OnnxError> {
    let mut all = BTreeMap::new();
    for tensor in tensors.iter().filter(|tensor| tensor.data_type() != ElementType::String.to_onnx()) {
        let bytes = file.tensor_bytes(tensor)?;
        if tensor.data_type() == ElementType::Float.to_onnx() {
            all.insert(tensor.name().to_string(), convert::losses(&bytes, precision));
        }
    }
    for node in graph.node.iter().filter(|node| node.op_type() == "ConstantOfShape") {
        if let (Some(fill), Some(output)) = (fill_of(file, node), node.output.first()) {
            all.insert(output.clone(), convert::losses(&fill.to_le_bytes(), precision));
        }
    }
    Ok(all)
}

/// Returns the FP32 value that a ConstantOfShape node fills with; none if it is of another type, or the default 0.
fn fill_of(file: &OnnxFile, node: &NodeProto) -> Option<f32> {
    let tensor = infer::attribute(node, "value")?.t.as_ref()?;
    let bytes = file.tensor_bytes(tensor).ok()?;
    let is_float = tensor.data_type() == ElementType::Float.to_onnx();
    bytes.first_chunk::<4>().filter(|_| is_float).map(|bytes| f32::from_le_bytes(*bytes))
}

fn kept_nodes(nodes: &[NodeProto], decisions: &[Decision]) -> Vec<KeptNode> {
    let kept = nodes.iter().zip(decisions).filter_map(|(node, decision)| {
        let Decision::Keep(reason) = decision else { return None };
        let unnamed = node.output.first().map(String::as_str).unwrap_or_default();
        let name = if node.name().is_empty() { unnamed } else { node.name() };
        Some(KeptNode { node: name.into(), op_type: node.op_type().into(), reason: reason.clone() })
    });
    kept.collect()
}

fn clipped(decisions: &[Decision]) -> u64 {
    let by_tensor: BTreeMap<&str, u64> = decisions
        .iter()
        .filter_map(|decision| match decision {
            Decision::Keep(KeepReason::Overflow { tensor, values }) => Some((tensor.as_str(), *values)),
            _ => None,
        })
        .collect();
    by_tensor.values().sum()
}

/// Returns whether a weight is needed as it was, and whether it is needed lowered.
fn forms(values: &Values, tensor: &TensorProto) -> (bool, bool) {
    match values.get(tensor.name()) {
        Some(value) if value.produced == Produced::Either => {
            let low = value.wants(Form::Low);
            (value.wants(Form::Full) || !low, low)
        }
        _ => (true, false),
    }
}

fn unchanged<'a>(
    file: &'a OnnxFile,
    tensor: &'a TensorProto,
    name: &str,
    size_bytes: u64,
) -> Initializer<'a> {
    let produce = move |writer: &mut dyn io::Write| writer.write_all(&payload(file, tensor)?);
    Initializer { header: header(tensor, name, tensor.data_type()), size_bytes, produce: Box::new(produce) }
}

fn rounded<'a>(
    file: &'a OnnxFile,
    tensor: &'a TensorProto,
    name: &str,
    size_bytes: u64,
    precision: Precision,
) -> Initializer<'a> {
    let produce = move |writer: &mut dyn io::Write| write_rounded(&payload(file, tensor)?, precision, writer);
    let data_type = precision.element_type().to_onnx();
    Initializer { header: header(tensor, name, data_type), size_bytes, produce: Box::new(produce) }
}

fn least<'a>(
    file: &'a OnnxFile,
    tensor: &'a TensorProto,
    name: &str,
    precision: Precision,
) -> Initializer<'a> {
    let produce = move |writer: &mut dyn io::Write| {
        let sign = payload(file, tensor)?.last().map_or(0, |byte| byte & 0x80);
        // The least positive number has the same bits in both 16-bit formats.
        writer.write_all(&[1, sign])
    };
    let data_type = precision.element_type().to_onnx();
    Initializer { header: header(tensor, name, data_type), size_bytes: 2, produce: Box::new(produce) }
}

fn payload(file: &OnnxFile, tensor: &TensorProto) -> io::Result<Bytes> {
    file.tensor_bytes(tensor).map_err(io::Error::other)
}

fn header(tensor: &TensorProto, name: &str, data_type: i32) -> TensorProto {
    TensorProto {
        dims: tensor.dims.clone(),
        data_type: Some(data_type),
        name: Some(name.into()),
        doc_string: tensor.doc_string.clone(),
        metadata_props: tensor.metadata_props.clone(),
        ..TensorProto::default()
    }
}

/// Returns the model with its new graph, with the external tensors that are no initializers taken in.
fn embedded(file: &OnnxFile, graph: GraphProto, precision: Precision) -> Result<ModelProto, OnnxError> {
    let ModelProto {
        ir_version,
        producer_name,
        producer_version,
        domain,
        model_version,
        doc_string,
        graph: _, // Replaced.
        opset_import,
        metadata_props,
        training_info,
        functions,
        configuration,
    } = file.model();
    let mut model = ModelProto {
        ir_version: *ir_version,
        producer_name: producer_name.clone(),
        producer_version: producer_version.clone(),
        domain: domain.clone(),
        model_version: *model_version,
        doc_string: doc_string.clone(),
        graph: Some(graph),
        opset_import: opset_import.clone(),
        metadata_props: metadata_props.clone(),
        training_info: training_info.clone(),
        functions: functions.clone(),
        configuration: configuration.clone(),
    };
    if precision != Precision::Fp32 {
        model.metadata_props.push(StringStringEntryProto {
            key: Some("nimctl.lowering".into()),
            value: Some(format!("{precision} version {LOWERING_VERSION}")),
        });
    }
    change_tensors(&mut model, &mut |tensor| {
        if is_external(tensor) {
            tensor.raw_data = Some(file.tensor_bytes(tensor)?);
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        Ok(())
    })?;
    Ok(model)
}

#[cfg(test)]
mod tests;

//! Lowers an FP32 graph to FP16 or BF16.
//!
//! Strongly typed compilers compute in the precision that the graph says, so the graph is where precision is
//! decided. [`analysis`](super::analysis) says what is known of every value and node. The steps, a module each: `findings`
//! are what the analysis says for one precision, `sums` and `spectrum` where values are summed up; `decide` decides which nodes are
//! lowered, by those and by what `policy` knows of operators, and notes a `choice` for each;
//! `forms` finds where the precisions meet, and notes it of each `value`; `rewrite` renames, casts and changes types;
//! `convert` rounds the weights while they are written.
//!
//! Lowered and kept parts meet at Cast nodes and nowhere else. Names of inputs and outputs never change. Subgraphs of
//! If, Loop and Scan are lowered as the graph around them; local functions are left as they are.

mod choice;
mod convert;
mod decide;
mod emulate;
mod findings;
mod forms;
mod observe;
mod options;
mod policy;
mod report;
mod rewrite;
mod scales;
mod spectrum;
mod sums;
mod type_attributes;
mod value;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

pub use emulate::emulate_with_outputs;
pub use observe::{Observed, ObservedValue, observe};
pub use options::{Io, LoweringOptions, Quantization, kept_by_target};
pub use policy::Fp32Inside;
pub use report::{KeepReason, KeptNode, LoweringReport, RoundingError};

use self::choice::{Body, Decision};
use self::convert::{Conversion, Losses};
use self::decide::{decide, unmatched_keeps};
use self::emulate::Rounding;
use self::findings::Findings;
use self::forms::{Weights, find_forms};

use self::rewrite::{Rewrite, clipped, fill_of, wanted_forms};
use self::value::{Form, Produced, Values};
use self::weights::{LargestError, rounded};
use super::analysis::{ConstantFacts, constant_tensor, take_constants};
use super::consistency;
use super::dimension_name::remove_placeholders;
use super::element_type::ElementType;
use super::error::OnnxError;
use super::file::OnnxFile;
use super::free_names::FreeNames;
use super::model_parts::{take_in_external, with_graph, without_initializers};
use super::parallel;
use super::precision::Precision;
use super::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use super::tensor_size::tensor_size_bytes;
use super::weights::{list_among_inputs, unchanged, weights_are_inputs};
use super::write::{DEFAULT_INLINE_LIMIT_BYTES, Initializer, WrittenFile, write_model};

/// Raised whenever equal arguments start to give other bytes.
pub const LOWERING_VERSION: u32 = 3;

/// A lowered graph on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered {
    /// The files written, the model first.
    pub files: Vec<WrittenFile>,
    /// What was done.
    pub report: LoweringReport,
}

/// Lowers `file` and writes the result to `destination`, with an external data file beside it where it is large.
///
/// # Errors
/// A tensor of the graph is malformed, the operator set is too old for the precision, or the destination can't be
/// written.
pub fn lower(file: &OnnxFile, options: &LoweringOptions, destination: &Path) -> Result<Lowered, OnnxError> {
    write(file, options, Rounding::Real, destination)
}

/// Writes an FP32 graph that computes what the lowered one would, rounding where that rounds, for runtimes that don't
/// compute in the lower precision. Inputs and outputs stay in FP32.
///
/// # Errors
/// As [`lower`].
pub fn emulate(file: &OnnxFile, options: &LoweringOptions, destination: &Path) -> Result<Lowered, OnnxError> {
    let options = LoweringOptions { io: Io::Keep, ..options.clone() };
    write(file, &options, Rounding::Emulated, destination)
}

/// Reports what [`lower`] would do, and writes nothing.
///
/// # Errors
/// As [`lower`], but for the destination.
pub fn report(file: &OnnxFile, options: &LoweringOptions) -> Result<LoweringReport, OnnxError> {
    let source = Source::of(file, options.precision);
    let decided = Decided::new(file, &source, options)?;
    let lowered = decided.finish(options, Rounding::Real)?;
    parallel::for_each(&lowered.initializers, |one| {
        (one.produce)(&mut io::sink()).map_err(OnnxError::io("read", file.path()))
    })?;
    Ok(lowered.report.with_errors(&lowered.errors))
}

/// A node that lowering would lower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoweredNode {
    /// Its name; the name of its first output where it has none.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// The bytes of the FP32 weights that it would take lowered.
    pub weight_bytes: u64,
}

/// Returns the nodes that [`lower`] would lower, in the graph's order; nodes of one name once.
///
/// # Errors
/// As [`lower`], but for the destination.
pub fn lowered_nodes(file: &OnnxFile, options: &LoweringOptions) -> Result<Vec<LoweredNode>, OnnxError> {
    let source = Source::of(file, options.precision);
    let decided = Decided::new(file, &source, options)?;
    let mut sizes = BTreeMap::new();
    for tensor in decided.tensors.iter().filter(|tensor| tensor.data_type() == ElementType::Float.to_onnx()) {
        sizes.insert(tensor.name(), tensor_size_bytes(file.path(), tensor)?);
    }
    let mut nodes: Vec<LoweredNode> = Vec::new();
    let mut names = BTreeSet::new();
    decided.body.for_each_node(&mut |node| {
        if node.note.decision == Decision::Lower && names.insert(node.label()) {
            let low = node.proto.input.iter().zip(&node.note.low_inputs).filter(|(_, low)| **low);
            nodes.push(LoweredNode {
                node: node.label().into(),
                op_type: node.proto.op_type().into(),
                weight_bytes: low.filter_map(|(name, _)| sizes.get(name.as_str())).sum(),
            });
        }
    });
    Ok(nodes)
}

fn write(
    file: &OnnxFile,
    options: &LoweringOptions,
    rounding: Rounding,
    destination: &Path,
) -> Result<Lowered, OnnxError> {
    write_source(file, &Source::of(file, options.precision), options, rounding, destination)
}

fn write_source(
    file: &OnnxFile,
    source: &Source,
    options: &LoweringOptions,
    rounding: Rounding,
    destination: &Path,
) -> Result<Lowered, OnnxError> {
    let decided = Decided::new(file, source, options)?;
    let LoweredModel { model, initializers, report, errors } = decided.finish(options, rounding)?;
    let files = write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)?;
    Ok(Lowered { files, report: report.with_errors(&errors) })
}

/// A graph without its weights, and those of its constants that are weights now.
struct Source {
    graph: GraphProto,
    constants: Vec<TensorProto>,
}

impl Source {
    fn of(file: &OnnxFile, precision: Precision) -> Self {
        let mut graph = without_initializers(file.graph(), file.graph().node.clone());
        let constants = match precision {
            Precision::Fp32 => Vec::new(),
            // What had to be an input as well would be one of a branch, which has none.
            Precision::Fp16 | Precision::Bf16 => take_constants(&mut graph, !weights_are_inputs(file)),
        };
        Self { graph, constants }
    }
}

/// What is known and decided of a graph.
struct Decided<'g> {
    file: &'g OnnxFile,
    tensors: Vec<&'g TensorProto>,
    values: Values,
    body: Body<'g>,
    free: FreeNames,
}

/// The lowered model, its weights yet to be produced.
struct LoweredModel<'a> {
    model: ModelProto,
    initializers: Vec<Initializer<'a>>,
    report: LoweringReport,
    errors: Vec<(String, LargestError)>,
}

impl<'g> Decided<'g> {
    fn new(file: &'g OnnxFile, source: &'g Source, options: &LoweringOptions) -> Result<Self, OnnxError> {
        check_opset(file, options.precision)?;
        if options.quantization.is_some() && !findings::is_quantized(file) {
            return Err(OnnxError::NotQuantized { path: file.path().into() });
        }
        let tensors: Vec<&TensorProto> = file.graph().initializer.iter().chain(&source.constants).collect();
        let opset = file.opset().unwrap_or_default();
        let (mut values, mut body) = Values::read(&source.graph, &tensors, opset);
        find_losses(file, &mut values, &body, &tensors, options.precision)?;
        let options = match options.precision {
            Precision::Fp32 => &LoweringOptions { io: Io::Keep, ..options.clone() },
            Precision::Fp16 | Precision::Bf16 => {
                let findings = Findings::of(file, &values, &body, options.precision);
                decide(&values, &mut body, &findings, &file.model().functions, options);
                options
            }
        };
        let mut free = FreeNames::of(file.model());
        let weights = if weights_are_inputs(file) { Weights::Fixed } else { Weights::Replaceable };
        find_forms(&mut values, &body, &tensors, weights, options, &mut free);
        Ok(Self { file, tensors, values, body, free })
    }

    fn finish(self, options: &LoweringOptions, rounding: Rounding) -> Result<LoweredModel<'g>, OnnxError> {
        let Self { file, tensors, values, body, free } = self;
        let precision = options.precision;
        let mut rewrite = Rewrite {
            file,
            values: &values,
            free,
            precision,
            rounding,
            // Since this operator set, Clip takes its limits as inputs.
            limits_are_inputs: file.opset().is_some_and(|opset| opset >= 11),
            casts_inserted: 0,
            clips_inserted: 0,
            clipped: BTreeMap::new(),
            limits: None,
        };
        let mut graph = rewrite.graph(&body)?;
        graph.initializer = rewrite.limit_tensors();
        let mut report = LoweringReport {
            precision,
            tensors_lowered: 0,
            weights_before_bytes: 0,
            weights_after_bytes: 0,
            nodes_lowered: 0,
            nodes_kept: Vec::new(),
            casts_inserted: rewrite.casts_inserted,
            clips_inserted: rewrite.clips_inserted,
            values_clipped: 0,
            values_vanished: 0,
            largest_errors: Vec::new(),
            unmatched_keeps: unmatched_keeps(&body, options),
            replaceable_weights: replaceable_weights(file, &values, &body),
        };
        let mut too_large = report.count_nodes(&body);
        let (mut initializers, mut errors) = (Vec::new(), Vec::new());
        for tensor in tensors {
            if tensor.data_type() == ElementType::String.to_onnx() {
                graph.initializer.push(tensor.clone());
                continue;
            }
            let size_bytes = tensor_size_bytes(file.path(), tensor)?;
            report.weights_before_bytes += size_bytes;
            // Of a name that a broken model gives to tensors of several types, only those of FP32 are meant.
            let value = values
                .float(body.scope, tensor.name())
                .filter(|_| tensor.data_type() == ElementType::Float.to_onnx());
            let (full, low) = match value {
                Some(value) if value.note.produced == Produced::Either => wanted_forms(value),
                _ => (true, false),
            };
            let name = |form| value.map_or(tensor.name(), |value| value.name_of(form));
            if full {
                initializers.push(unchanged(file, tensor, name(Form::Full), size_bytes));
                report.weights_after_bytes += size_bytes;
            }
            if low {
                let clips = value.and_then(clipped);
                let conversion = Conversion { precision, rounding, clips: clips.is_some() };
                rewrite.clipped.extend(clips);
                let lowered_bytes = size_bytes / 2;
                let (one, error) = rounded(file, tensor, name(Form::Low), conversion, size_bytes);
                initializers.push(one);
                errors.push((tensor.name().to_owned(), error));
                report.values_vanished += value.map_or(0, |value| value.note.losses.vanishing);
                report.weights_after_bytes += lowered_bytes;
                report.tensors_lowered += 1;
            }
        }
        too_large.append(&mut rewrite.clipped);
        report.values_clipped = too_large.values().sum();
        let model = finished(file, graph, &initializers, precision, rounding)?;
        Ok(LoweredModel { model, initializers, report, errors })
    }
}

fn check_opset(file: &OnnxFile, precision: Precision) -> Result<(), OnnxError> {
    // The first operator set whose Cast knows the type.
    let needed = if precision == Precision::Bf16 { 13 } else { 6 };
    match file.opset() {
        Some(opset) if precision != Precision::Fp32 && opset < needed => Err(OnnxError::OpsetTooOld {
            path: file.path().into(),
            opset,
            needed,
            precision: precision.as_str(),
        }),
        _ => Ok(()),
    }
}

/// Checks every tensor's payload and finds what is known of each constant, and what those of FP32 would lose.
fn find_losses(
    file: &OnnxFile,
    values: &mut Values,
    body: &Body<'_>,
    tensors: &[&TensorProto],
    precision: Precision,
) -> Result<(), OnnxError> {
    type Found = OnceLock<(Losses, Option<ConstantFacts>)>;
    let tensors: Vec<(&TensorProto, Found)> = tensors
        .iter()
        .filter(|tensor| tensor.data_type() != ElementType::String.to_onnx())
        .map(|tensor| (*tensor, OnceLock::new()))
        .collect();
    parallel::for_each(&tensors, |(tensor, found)| {
        let bytes = file.tensor_bytes(tensor)?;
        let element_type = ElementType::from_onnx(tensor.data_type());
        let facts = element_type.and_then(|element_type| ConstantFacts::of(element_type, &bytes));
        let losses = if element_type == Some(ElementType::Float) {
            convert::losses(&bytes, precision, &|part| file.release(part))
        } else {
            // Whole numbers are read to their end: quantized weights are as large as the model.
            file.release(&bytes);
            Losses::default()
        };
        let _ = found.set((losses, facts));
        Ok(())
    })?;
    // What a caller may replace is no constant.
    let can_be_replaced =
        |name: &str| !weights_are_inputs(file) && body.graph.input.iter().any(|input| input.name() == name);
    for (tensor, found) in tensors {
        let Some((losses, facts)) = found.into_inner() else { continue };
        let element_type = ElementType::from_onnx(tensor.data_type());
        let value = values.own_mut(body.scope, tensor.name());
        if let Some(value) = value.filter(|value| value.element_type == element_type) {
            value.note.losses = losses;
            value.note.facts = facts.filter(|_| !can_be_replaced(tensor.name()));
        }
    }
    for node in &body.nodes {
        if let (Some(constant), Some(output)) = (constant_of(file, node.proto)?, node.proto.output.first())
            && let Some(value) = values.own_float_mut(body.scope, output)
        {
            value.note.losses = convert::losses(&constant, precision, &|_| {});
        }
        for body in &node.bodies {
            let tensors: Vec<&TensorProto> = body.graph.initializer.iter().collect();
            find_losses(file, values, body, &tensors, precision)?;
        }
    }
    Ok(())
}

/// Returns the FP32 numbers, as little-endian bytes, that a node makes out of nothing.
fn constant_of(file: &OnnxFile, node: &NodeProto) -> Result<Option<bytes::Bytes>, OnnxError> {
    if node.op_type() == "ConstantOfShape" {
        let fill = fill_of(file, node);
        return Ok(fill.map(|fill| bytes::Bytes::copy_from_slice(&fill.to_le_bytes())));
    }
    let tensor = constant_tensor(node).filter(|tensor| tensor.data_type() == ElementType::Float.to_onnx());
    tensor.map(|tensor| file.tensor_bytes(&tensor)).transpose()
}

/// Returns the FP32 weights that are needed lowered, but that a caller may replace.
fn replaceable_weights(file: &OnnxFile, values: &Values, body: &Body<'_>) -> Vec<String> {
    if weights_are_inputs(file) {
        return Vec::new();
    }
    let weights: BTreeSet<&str> = file.graph().initializer.iter().map(|tensor| tensor.name()).collect();
    let inputs = file.graph().input.iter().map(|input| input.name()).filter(|name| weights.contains(name));
    let is_cast = |name: &&str| values.float(body.scope, name).is_some_and(|value| value.wants(Form::Low));
    inputs.filter(is_cast).map(Into::into).collect()
}

/// Returns the model with its new graph and weights, checked, and with the external tensors that are no initializers taken
/// in.
fn finished(
    file: &OnnxFile,
    mut graph: GraphProto,
    initializers: &[Initializer<'_>],
    precision: Precision,
    rounding: Rounding,
) -> Result<ModelProto, OnnxError> {
    if weights_are_inputs(file) {
        list_among_inputs(&mut graph, initializers);
    }
    remove_placeholders(&mut graph);
    let mut model = with_graph(file, graph);
    if precision != Precision::Fp32 {
        model.metadata_props.push(StringStringEntryProto {
            key: Some("nimctl.lowering".into()),
            value: Some(match rounding {
                Rounding::Real => format!("{precision} version {LOWERING_VERSION}"),
                Rounding::Emulated => format!("{precision} version {LOWERING_VERSION}, emulated"),
            }),
        });
    }
    consistency::check(file, &model, initializers)?;
    take_in_external(file, &mut model)?;
    Ok(model)
}

#[cfg(test)]
mod tests;

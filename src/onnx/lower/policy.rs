//! What we know of operators beyond their types: which ones keep FP32, and where exact numbers matter.
//!
//! | operators | in FP32 | why |
//! | --- | --- | --- |
//! | positions, boxes, windows, spectra, random numbers, quantization | always | half precision has 11 bits: indices above 2048 and scales lose their meaning |
//! | sums and norms ([`is_accumulation`]) and the arithmetic of a normalization that was taken apart | always | squares overflow, long sums lose their small terms; the operators' definitions promise no wider sum |
//! | [`Fp32Inside`]: normalizations, softmax | where the target doesn't promise it | see [`crate::backend::Facts`] |
//! | products and convolutions | no | all targets sum FP16 products in FP32 |

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::onnx::analysis::{attribute, is_own_domain, producers};
use crate::onnx::proto::{GraphProto, NodeProto};

/// A kind of operator that a target computes in FP32 inside, whatever its input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fp32Inside {
    /// Layer, group and instance normalization: their statistics.
    Normalization,
    /// RMS normalization.
    RmsNormalization,
    /// Softmax and its logarithm: the sum of its exponentials.
    Softmax,
}

/// Returns the kind of an operator whose target decides.
pub(super) fn depends_on_target(op_type: &str) -> Option<Fp32Inside> {
    match op_type {
        "LayerNormalization" | "GroupNormalization" | "InstanceNormalization" => {
            Some(Fp32Inside::Normalization)
        }
        "RMSNormalization" => Some(Fp32Inside::RmsNormalization),
        "Softmax" | "LogSoftmax" => Some(Fp32Inside::Softmax),
        _ => None,
    }
}

/// Returns whether an operator loses its meaning in less than FP32.
pub(super) fn needs_fp32(op_type: &str) -> bool {
    matches!(
        op_type,
        // Positions and boxes.
        "AffineGrid" | "MaxRoiPool" | "MaxUnpool" | "NonMaxSuppression" | "Range" | "RoiAlign"
        // Spectra and windows.
        | "BlackmanWindow" | "DFT" | "HammingWindow" | "HannWindow" | "MelWeightMatrix" | "STFT"
        // Random numbers: another type gives other numbers.
        | "Bernoulli" | "Multinomial" | "RandomNormal" | "RandomNormalLike" | "RandomUniform"
        | "RandomUniformLike"
        // Scales and zero points.
        | "DequantizeLinear" | "DynamicQuantizeLinear" | "QLinearConv" | "QLinearMatMul" | "QuantizeLinear"
        // A matrix of ones and zeros, which ONNX Runtime makes in FP32 only.
        | "EyeLike"
        // Bits, pivots, equality.
        | "BitCast" | "Det" | "Unique" | "ImageDecoder" | "StringNormalizer"
    )
}

/// Returns whether a node sums up many values.
pub(super) fn is_accumulation(node: &NodeProto) -> bool {
    if matches!(node.op_type(), "ScatterElements" | "ScatterND") {
        // Values are added up only where it says so.
        let reduction = attribute(node, "reduction").and_then(|reduction| reduction.s.as_deref());
        return reduction.is_some_and(|reduction| reduction != b"none");
    }
    matches!(
        node.op_type(),
        "CumProd"
            | "CumSum"
            | "GlobalLpPool"
            | "LRN"
            | "LpNormalization"
            | "LpPool"
            | "MeanVarianceNormalization"
            | "ReduceL1"
            | "ReduceL2"
            | "ReduceLogSum"
            | "ReduceLogSumExp"
            | "ReduceMean"
            | "ReduceProd"
            | "ReduceSum"
            | "ReduceSumSquare"
    )
}

/// Returns the inputs of an operator that stay in FP32 in a lowered node, although its types would allow less.
pub(super) fn exact_inputs(op_type: &str) -> &'static [usize] {
    match op_type {
        "Dropout" => &[1],
        "Resize" => &[1, 2],
        "Upsample" => &[1],
        _ => &[],
    }
}

/// Returns the nodes of normalizations that were taken apart: what squares and shifts values before they are summed,
/// and what becomes of the sum until values are divided by it.
pub(super) fn around_accumulations(graph: &GraphProto) -> BTreeSet<usize> {
    let producers = producers(graph);
    let mut consumers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for input in &node.input {
            consumers.entry(input).or_default().push(index);
        }
    }
    let sums = graph.node.iter().filter(|node| is_own_domain(node.domain()) && is_accumulation(node));
    let (mut before, mut after): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for node in sums {
        before.extend(node.input.first().map(String::as_str));
        after.extend(node.output.first().map(String::as_str));
    }
    let mut around = BTreeSet::new();
    while let Some(name) = before.pop() {
        let Some(&index) = producers.get(name) else { continue };
        let node = &graph.node[index];
        let is_square = node.op_type() == "Mul" && node.input.first() == node.input.get(1);
        if (is_square || matches!(node.op_type(), "Pow" | "Abs" | "Exp" | "Sub")) && around.insert(index) {
            before.extend(node.input.iter().map(String::as_str));
        }
    }
    while let Some(name) = after.pop() {
        for &index in consumers.get(name).into_iter().flatten() {
            let node = &graph.node[index];
            let goes_on = matches!(
                node.op_type(),
                "Add"
                    | "Clip"
                    | "Expand"
                    | "Log"
                    | "Max"
                    | "Pow"
                    | "Reciprocal"
                    | "Reshape"
                    | "Sqrt"
                    | "Squeeze"
                    | "Unsqueeze"
            ) && !joins_large(node, &producers);
            if goes_on && around.insert(index) {
                after.extend(node.output.first().map(String::as_str));
            } else if matches!(node.op_type(), "Div" | "Mul" | "Sub") {
                around.insert(index);
            }
        }
    }
    around
}

/// Returns whether a node joins a sum with something else that nodes compute: a residual, not an epsilon.
fn joins_large(node: &NodeProto, producers: &BTreeMap<&str, usize>) -> bool {
    matches!(node.op_type(), "Add" | "Max")
        && node.input.iter().filter(|input| producers.contains_key(input.as_str())).count() > 1
}

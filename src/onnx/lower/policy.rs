//! What we know of operators beyond their types: which ones keep FP32, and where exact numbers matter.
//!
//! | operators | in FP32 | why |
//! | --- | --- | --- |
//! | positions, boxes, windows, spectra, random numbers, quantization | always | half precision has 11 bits: indices above 2048 and scales lose their meaning |
//! | sums and norms ([`is_accumulation`]), and what goes into them and comes of them (`sums`) | always | squares overflow, long sums lose their small terms; the operators' definitions promise no wider sum |
//! | [`Fp32Inside`]: normalizations, softmax | where the target doesn't promise it | see [`crate::backend::Facts`] |
//! | products and convolutions | no | all targets sum FP16 products in FP32 |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::onnx::analysis::attribute;
use crate::onnx::proto::NodeProto;

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

/// Fewer summands than this lose nothing that their own rounding doesn't lose.
pub(super) const MIN_SUMMED: i64 = 16;

/// Returns whether a node sums up many values.
pub(super) fn is_accumulation(node: &NodeProto) -> bool {
    if matches!(node.op_type(), "ScatterElements" | "ScatterND") {
        // Values are added up only where it says so.
        let reduction = attribute(node, "reduction").and_then(|reduction| reduction.s.as_deref());
        return reduction.is_some_and(|reduction| reduction != b"none");
    }
    if node.op_type() == "AveragePool" {
        let kernel = attribute(node, "kernel_shape").map_or(&[][..], |kernel| &kernel.ints);
        return kernel.iter().product::<i64>() >= MIN_SUMMED;
    }
    matches!(
        node.op_type(),
        "CumProd"
            | "CumSum"
            | "GlobalAveragePool"
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
        "GridSample" => &[1],
        "Resize" => &[1, 2],
        "Upsample" => &[1],
        _ => &[],
    }
}

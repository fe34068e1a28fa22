//! What a user can say about lowering.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::policy::Fp32Inside;
use crate::onnx::quantize::QuantizationOptions;
use crate::onnx::{GraphDigest, Precision};

/// What to lower, and what to leave alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoweringOptions {
    /// The precision to lower to; `fp32` writes the graph as it is.
    pub precision: Precision,
    /// Operators whose nodes stay in FP32.
    pub keep_ops: Vec<String>,
    /// Names of nodes that stay in FP32; a node without a name has that of its first output.
    pub keep_nodes: Vec<String>,
    /// Operators that are lowered although they would stay in FP32 because they sum up many values.
    pub lower_ops: Vec<String>,
    /// What the target computes in FP32 inside, so that it is lowered ([`crate::backend::Facts`]).
    pub fp32_inside: BTreeSet<Fp32Inside>,
    /// Whether the graph's inputs and outputs stay in FP32.
    pub io: Io,
    /// How the graph is quantized before it is lowered; absent for one that isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Box<Quantization>>,
}

/// How a graph is quantized before it is lowered. [`lower()`](super::lower) takes the quantized graph.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// What is quantized.
    pub options: QuantizationOptions,
    /// The quantized graph: absent until it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphDigest>,
}

impl LoweringOptions {
    /// Returns options that keep only what the target needs.
    pub fn new(precision: Precision, fp32_inside: &[Fp32Inside]) -> Self {
        Self {
            precision,
            keep_ops: Vec::new(),
            keep_nodes: Vec::new(),
            lower_ops: Vec::new(),
            fp32_inside: fp32_inside.iter().copied().collect(),
            io: Io::Keep,
            quantization: None,
        }
    }
}

/// What becomes of the types of a graph's inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// They stay as they are; casts are inside the graph.
    Keep,
    /// FP32 inputs and outputs become lowered ones.
    Lower,
}

/// Returns what stays in FP32 because the target isn't known to compute it in FP32 inside.
pub fn kept_by_target(options: &LoweringOptions) -> impl Iterator<Item = &'static str> {
    let all = [
        (Fp32Inside::Normalization, "normalization"),
        (Fp32Inside::RmsNormalization, "RMS normalization"),
        (Fp32Inside::Softmax, "softmax"),
    ];
    let lowers = options.precision != Precision::Fp32;
    all.into_iter()
        .filter(move |(kind, _)| lowers && !options.fp32_inside.contains(kind))
        .map(|(_, name)| name)
}

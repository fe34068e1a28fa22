//! Compares what a plan computes with what its graph asked for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::{GemmFacts, GemmKind, PlanLayers, TensorType, WeightPath};
use super::header::PlanHeader;
use crate::compute_capability::ComputeCapability;

/// The only compute capability whose convolutions are never quantized.
const WITHOUT_LOW_BIT_CONV: ComputeCapability = ComputeCapability::new(7, 5);
/// With fewer input channels than this, some convolutions compute in the base precision: those of 3 channels do.
const FEW_CHANNELS: u64 = 4;

/// A node that was quantized, and what the plan should do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizedNode {
    /// Its name as plans have it; see [`QuantizedNode::name_in_plans`].
    pub name: String,
    /// What the plan should do.
    pub expected: Expected,
}

impl QuantizedNode {
    /// Returns the name that the compiler gives to a node: its own, or one made of its first output if it has none.
    pub fn name_in_plans(name: &str, first_output: &str) -> String {
        if name.is_empty() { format!("node_of_{first_output}") } else { name.to_owned() }
    }
}

/// What a plan should do for a quantized node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Multiply numbers of this type: both operands are quantized.
    Multiplies(TensorType),
    /// Store the weights in this type, and turn them into the base precision where they are read: only weights are quantized.
    Stores(TensorType),
}

/// What a plan does for a quantized node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeVerdict {
    /// What was expected.
    AsExpected,
    /// Something else, which costs time or space.
    FellBack {
        /// The type that it multiplies; unknown for a node that multiplies nothing.
        computes_in: TensorType,
        /// Why, as far as the plan shows it.
        reason: Fallback,
    },
    /// The plan does not say: it does not name the node, or not its types.
    Unknown,
}

/// Why a quantized node computes in something else than expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// The weights have a scale for every index of the dimension that is summed over.
    ScaleAlongK,
    /// Convolutions are not quantized on compute capability 7.5.
    #[serde(rename = "conv_on_7.5")]
    ConvOn75,
    /// A convolution of 3 channels, such as that of patches.
    FewChannels,
    /// The weights are turned into another type by a kernel of their own, at every inference.
    SeparateKernel,
    /// The weights are stored in another type.
    StoredOtherwise,
    /// The plan does not show why.
    Unknown,
}

impl fmt::Display for Fallback {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ScaleAlongK => "the weights' scales lie along the dimension that is summed over (K)",
            Self::ConvOn75 => "convolutions are not quantized on compute capability 7.5",
            Self::FewChannels => "a convolution of 3 channels is not quantized in this type",
            Self::SeparateKernel => "a separate kernel converts the weights at every inference",
            Self::StoredOtherwise => "the weights are stored in another type",
            Self::Unknown => "reason unknown",
        })
    }
}

/// Returns what a plan does for each of some nodes, in their order.
pub fn check_nodes(header: &PlanHeader, layers: &PlanLayers, nodes: &[QuantizedNode]) -> Vec<NodeVerdict> {
    nodes.iter().map(|node| check_node(header, layers, node)).collect()
}

fn check_node(header: &PlanHeader, layers: &PlanLayers, node: &QuantizedNode) -> NodeVerdict {
    let is_in = |nodes: &[String]| nodes.contains(&node.name);
    let (Expected::Multiplies(expected) | Expected::Stores(expected)) = node.expected;
    let products = layers.gemms.iter().filter(|gemm| is_in(&gemm.nodes)).map(|gemm| match node.expected {
        Expected::Multiplies(_) => multiplies(header, gemm, expected),
        Expected::Stores(_) => stores(gemm, expected),
    });
    let attention = layers.attention.iter().filter(|attention| is_in(&attention.nodes)).map(|attention| {
        let one = attention.inputs.first().copied().unwrap_or(TensorType::Unknown);
        let computes_in =
            if attention.inputs.iter().all(|&input| input == one) { one } else { TensorType::Unknown };
        verdict(computes_in == expected, computes_in, Fallback::Unknown)
    });
    let tables = layers.low_bit_lookups.iter().filter(|kernel| is_in(&kernel.nodes)).map(|kernel| {
        if kernel.stored == expected {
            NodeVerdict::AsExpected
        } else {
            NodeVerdict::FellBack { computes_in: TensorType::Unknown, reason: Fallback::StoredOtherwise }
        }
    });
    // A node may be in several kernels, for different shapes: the worst counts.
    products
        .chain(attention)
        .chain(tables)
        .max_by_key(|verdict| match verdict {
            NodeVerdict::AsExpected => 0,
            NodeVerdict::Unknown => 1,
            NodeVerdict::FellBack { .. } => 2,
        })
        .unwrap_or(NodeVerdict::Unknown)
}

fn multiplies(header: &PlanHeader, gemm: &GemmFacts, expected: TensorType) -> NodeVerdict {
    let computes_in = gemm.computes_in();
    let is_converted = gemm.weights.as_ref().is_some_and(|weights| weights.path == WeightPath::Kernel);
    let is_expected = computes_in == expected && !is_converted;
    verdict(is_expected, computes_in, reason(header, gemm, expected))
}

fn stores(gemm: &GemmFacts, expected: TensorType) -> NodeVerdict {
    let Some(weights) = &gemm.weights else { return NodeVerdict::Unknown };
    let is_expected = weights.stored == expected && weights.path != WeightPath::Kernel;
    let reason =
        if weights.stored == expected { Fallback::SeparateKernel } else { Fallback::StoredOtherwise };
    match (weights.stored, gemm.computes_in()) {
        (TensorType::Unknown, _) => NodeVerdict::Unknown,
        (_, _) if is_expected => NodeVerdict::AsExpected,
        (_, computes_in) => NodeVerdict::FellBack { computes_in, reason },
    }
}

fn verdict(is_expected: bool, computes_in: TensorType, reason: Fallback) -> NodeVerdict {
    match computes_in {
        _ if is_expected => NodeVerdict::AsExpected,
        TensorType::Unknown => NodeVerdict::Unknown,
        computes_in => NodeVerdict::FellBack { computes_in, reason },
    }
}

pub(super) fn reason(header: &PlanHeader, gemm: &GemmFacts, expected: TensorType) -> Fallback {
    let Some(weights) = &gemm.weights else { return Fallback::Unknown };
    if weights.stored != expected {
        return Fallback::StoredOtherwise;
    }
    // Weights are [K, N] or [N, K]; those of a convolution [output channels, input channels, …].
    let summed = match gemm.kind {
        GemmKind::Gemm => usize::from(weights.is_transposed),
        GemmKind::Conv => 1,
    };
    let is_along_k = weights.scales.get(summed).is_some_and(|&count| count > 1);
    let is_along_others = weights.scales.iter().enumerate().any(|(axis, &count)| axis != summed && count > 1);
    if is_along_k && !is_along_others {
        return Fallback::ScaleAlongK;
    }
    if gemm.kind == GemmKind::Conv {
        if header.compute_capabilities.contains(&WITHOUT_LOW_BIT_CONV) {
            return Fallback::ConvOn75;
        }
        if weights.shape.get(1).is_some_and(|&channels| channels < FEW_CHANNELS) {
            return Fallback::FewChannels;
        }
    }
    if weights.path == WeightPath::Kernel { Fallback::SeparateKernel } else { Fallback::Unknown }
}

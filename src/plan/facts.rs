//! What is reported of the layers of a plan.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the compiler made of a graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanLayers {
    /// The number of kernels that run for one inference, conditional ones included.
    pub kernels: u64,
    /// The products of matrices and the convolutions outside of fused attention, in the order in which they run.
    pub gemms: Vec<GemmFacts>,
    /// The kernels that compute attention as a whole.
    pub attention: Vec<FusedAttention>,
    /// Kernels that turn stored weights into another type at every inference, before the kernel that needs them.
    pub dequantize_kernels: Vec<KernelFacts>,
    /// Kernels other than the above that read stored weights of 8 or 4 bits: embedding tables.
    pub low_bit_lookups: Vec<KernelFacts>,
    /// Bytes of constants, by element type. Constants that share their bytes count once.
    pub weight_bytes_by_type: BTreeMap<TensorType, u64>,
    /// Operations of a kind that this version does not know, with their number. What they compute is in no field above.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown_operations: BTreeMap<String, u64>,
}

impl PlanLayers {
    /// Returns how many products compute in each type, those with weights alone.
    pub fn products_by_type(&self) -> BTreeMap<TensorType, u64> {
        let mut counts = BTreeMap::new();
        for gemm in self.gemms.iter().filter(|gemm| gemm.weights.is_some()) {
            *counts.entry(gemm.computes_in()).or_default() += 1;
        }
        counts
    }

    /// Returns the number of products of two computed tensors outside of fused attention, such as those of attention that was
    /// not fused.
    pub fn products_of_computed_tensors(&self) -> u64 {
        self.gemms.iter().filter(|gemm| gemm.weights.is_none()).count() as u64
    }
}

/// A product of matrices or a convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GemmFacts {
    /// The ONNX nodes whose product it is: several where the compiler merged them, as it does with q, k and v; none if the
    /// plan does not name them.
    pub nodes: Vec<String>,
    /// Whether it is a product or a convolution.
    pub kind: GemmKind,
    /// The types that are multiplied: of the data, then of the weights.
    pub operands: [TensorType; 2],
    /// The type of the result.
    pub output: TensorType,
    /// What the result is multiplied by before it is written; absent where the plan does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f32>,
    /// Its weights; absent for a product of two computed tensors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFacts>,
}

impl GemmFacts {
    /// Returns the type that is multiplied; unknown if the two operands differ.
    pub fn computes_in(&self) -> TensorType {
        let [data, weights] = self.operands;
        if data == weights { data } else { TensorType::Unknown }
    }
}

/// Whether it is a product of matrices or a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GemmKind {
    /// `MatMul` or `Gemm`.
    Gemm,
    /// `Conv`.
    Conv,
}

/// The weights of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WeightFacts {
    /// The type that they are stored in.
    pub stored: TensorType,
    /// Their shape as stored; empty if unknown.
    pub shape: Vec<u64>,
    /// How they get to the product.
    pub path: WeightPath,
    /// The shape of the scales that they are multiplied by on the way; empty for none, or for one scale.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<u64>,
    /// Whether they are stored as [N, K] instead of [K, N]; always false for a convolution.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_transposed: bool,
}

/// How stored weights get to the product that reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightPath {
    /// As they are.
    Direct,
    /// Turned into another type inside the product's kernel.
    Fused,
    /// Turned into another type by a kernel of its own, at every inference.
    Kernel,
}

/// A kernel that computes attention as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FusedAttention {
    /// The ONNX nodes that it computes.
    pub nodes: Vec<String>,
    /// The types of q, k and v.
    pub inputs: Vec<TensorType>,
    /// The type of the result.
    pub output: TensorType,
}

/// A kernel that reads stored weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelFacts {
    /// The ONNX nodes that it computes.
    pub nodes: Vec<String>,
    /// The type that the weights are stored in.
    pub stored: TensorType,
    /// The type of the result.
    pub output: TensorType,
    /// The bytes of those weights.
    pub size_bytes: u64,
}

/// The type of an element in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TensorType {
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary16.
    Fp16,
    /// The upper half of a binary32.
    Bf16,
    /// FP8 E4M3.
    Fp8,
    /// FP4 E2M1.
    Fp4,
    /// 8-bit integer.
    Int8,
    /// 4-bit integer.
    Int4,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Truth value.
    Bool,
    /// Any other, or not said.
    Unknown,
}

impl TensorType {
    /// Reads the plan's own word.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "float" => Self::Fp32,
            "half" => Self::Fp16,
            "bf16" => Self::Bf16,
            "fp8_e4m3" => Self::Fp8,
            "fp4_e2m1" => Self::Fp4,
            "int8" => Self::Int8,
            "int4" => Self::Int4,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "bool" => Self::Bool,
            _ => Self::Unknown,
        }
    }

    /// Whether weights of this type are quantized.
    pub fn is_low_bit(self) -> bool {
        matches!(self, Self::Fp8 | Self::Fp4 | Self::Int8 | Self::Int4)
    }

    /// Returns its word: `fp16`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Fp4 => "fp4",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Bool => "bool",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

//! What lowering did, and what it left alone and why.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choice::{Body, Decision};
use super::weights::LargestError;
use crate::onnx::Precision;

/// How many weights with large rounding errors the report names.
const LARGEST_ERRORS: usize = 10;

/// What was lowered in one graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoweringReport {
    /// The requested precision.
    pub precision: Precision,
    /// Initializers and constants that are now in that precision.
    pub tensors_lowered: u64,
    /// Bytes of all initializers and constants before.
    pub weights_before_bytes: u64,
    /// Bytes of all initializers and constants after.
    pub weights_after_bytes: u64,
    /// Nodes with a floating-point input or output that now compute in that precision.
    pub nodes_lowered: u64,
    /// Nodes with a floating-point input or output that still compute in FP32.
    pub nodes_kept: Vec<KeptNode>,
    /// Cast nodes between lowered and kept parts.
    pub casts_inserted: u64,
    /// Clip nodes before casts that could otherwise give infinities.
    pub clips_inserted: u64,
    /// Values of weights that are too large for the precision. The nodes that use them are kept; where an output of the
    /// graph or of a subgraph is lowered, they become the largest number.
    pub values_clipped: u64,
    /// Values of lowered weights that are not zero, and became zero.
    pub values_vanished: u64,
    /// The weights with the largest rounding errors, largest first; at most 10.
    pub largest_errors: Vec<RoundingError>,
    /// Names in the options that no node has.
    pub unmatched_keeps: Vec<String>,
    /// Weights that stay in FP32, with a cast behind each, because the graph lists them among its inputs, where a caller
    /// may replace them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaceable_weights: Vec<String>,
}

impl LoweringReport {
    /// Counts the nodes, and returns the values of weights that are too large for their nodes, by weight.
    pub(super) fn count_nodes(&mut self, body: &Body<'_>) -> BTreeMap<String, u64> {
        let mut too_large = BTreeMap::new();
        body.for_each_node(&mut |node| match &node.note.decision {
            Decision::Untouched => {}
            Decision::Lower => self.nodes_lowered += 1,
            Decision::Keep(reason) => {
                if let KeepReason::Overflow { tensor, values } = reason {
                    too_large.insert(tensor.clone(), *values);
                }
                self.nodes_kept.push(KeptNode {
                    node: node.label().into(),
                    op_type: node.proto.op_type().into(),
                    reason: reason.clone(),
                });
            }
        });
        too_large
    }

    /// Adds the rounding errors, once the weights were produced.
    pub(super) fn with_errors(mut self, errors: &[(String, LargestError)]) -> Self {
        let error = |(tensor, error): &(String, LargestError)| RoundingError {
            tensor: tensor.clone(),
            largest_error: f32::from_bits(error.load(Ordering::Relaxed)),
        };
        self.largest_errors = errors.iter().map(error).filter(|error| error.largest_error > 0.0).collect();
        let by_size = |a: &RoundingError, b: &RoundingError| {
            b.largest_error.total_cmp(&a.largest_error).then_with(|| a.tensor.cmp(&b.tensor))
        };
        self.largest_errors.sort_by(by_size);
        self.largest_errors.truncate(LARGEST_ERRORS);
        self
    }
}

/// How far the values of a weight are from what they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundingError {
    /// The weight.
    pub tensor: String,
    /// The largest difference between a value before and after.
    pub largest_error: f32,
}

/// A node that still computes in FP32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptNode {
    /// The node's name; its first output's name where it has none.
    pub node: String,
    /// The operator.
    pub op_type: String,
    /// Why it was kept.
    pub reason: KeepReason,
}

/// Why a node still computes in FP32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeepReason {
    /// The options keep all nodes of this operator.
    KeptOperator,
    /// The options keep this node.
    KeptNode,
    /// The operator takes FP32 only, in this operator set, or loses its meaning in less.
    NeedsFp32,
    /// ONNX defines the operator for the precision only from a newer operator set on.
    NewerOperatorSet {
        /// That operator set.
        opset: i64,
    },
    /// It sums up many values, or is a part of a normalization that does, and the target promises no wider sum.
    Accumulation,
    /// Its result ends as a shape, an index, a position or another whole number, or in a comparison for equality.
    ShapeArithmetic,
    /// It makes or reads whole numbers (ids, lengths, positions) that may be too large to stay exact in the precision.
    WholeNumbers,
    /// It is between a signal and the root or logarithm of its spectrum, where rounding would fill the quiet bands with noise.
    Spectrum,
    /// Its result ends as an angle, whose fraction counts however large it is.
    Angle,
    /// It runs a subgraph (If, Loop, Scan), which is left as it was.
    Subgraph,
    /// It calls a model-local function, which is left as it was.
    LocalFunction,
    /// The operator is not one whose types we know.
    UnknownOperator,
    /// The type of one of its inputs could not be found out.
    UnknownType {
        /// The input.
        input: String,
    },
    /// One of its weights has values too large for the precision.
    Overflow {
        /// The weight.
        tensor: String,
        /// How many of its values are too large.
        values: u64,
    },
    /// One of its weights loses too many values to zero.
    Vanishing {
        /// The weight.
        tensor: String,
        /// How many of its values would become zero.
        values: u64,
    },
}

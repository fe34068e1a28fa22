//! Mixed precision: which nodes of a lowered graph must stay in FP32 for its numbers to hold.
//!
//! A recipe asks for it (`calibrate`, `search`); [`crate::ops::mixed_precision`] runs the graphs. Here is what needs no
//! runtime: what is asked, the measure ([`similarity`]), the search ([`search`]), and the report.

pub mod search;
pub mod similarity;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a recipe asks for, beyond fixed lists of operators and nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MixedPrecision {
    /// Keep nodes in FP32 whose values leave the precision's range on the samples.
    pub calibrate: Option<Calibrate>,
    /// Keep the fewest nodes in FP32 with which the gate holds on the samples.
    pub search: Option<Search>,
}

impl MixedPrecision {
    /// Returns whether nothing is requested.
    pub fn is_empty(&self) -> bool {
        let Self { calibrate, search } = self;
        calibrate.is_none() && search.is_none()
    }
}

/// How calibration judges values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibrate {
    /// A value may grow by this factor beyond the largest one seen before it overflows; at least 1. Samples are few, and
    /// other inputs give larger values.
    #[serde(default = "Calibrate::default_headroom")]
    pub headroom: f64,
}

/// What a search must reach, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// The gate: the min cosine between a row of an output in FP32 and the same row lowered.
    #[serde(default = "Search::default_gate")]
    pub min_row_cosine: f64,
    /// Most graphs that are run.
    #[serde(default = "Search::default_evaluations")]
    pub evaluations: u32,
}

impl Calibrate {
    fn default_headroom() -> f64 {
        2.0
    }
}

impl Search {
    /// The default gate of FP16 embeddings.
    fn default_gate() -> f64 {
        0.999
    }

    fn default_evaluations() -> u32 {
        100
    }
}

/// What calibration and search found for one graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixedPrecisionReport {
    /// The largest magnitude that calibration allowed; absent without calibration.
    pub largest_allowed: Option<f64>,
    /// The values that went beyond it.
    pub out_of_range: Vec<OutOfRange>,
    /// The gate of the search; absent without search.
    pub min_row_cosine: Option<f64>,
    /// The min row cosine with nothing kept beyond what the recipe's lists and the policy keep; absent without
    /// search. -1 stands for a row that is not finite, and for a graph that fails.
    pub row_cosine_before: Option<f64>,
    /// The min row cosine with the nodes of `kept`; absent without search.
    pub row_cosine_after: Option<f64>,
    /// The nodes that stay in FP32 because of this.
    pub kept: Vec<KeptForAccuracy>,
    /// How many graphs were run.
    pub evaluations: u32,
    /// Whether the search ended by itself: no node of `kept` can be lowered with the gate still holding. Otherwise it
    /// ran out of evaluations, and fewer nodes might do.
    pub complete: bool,
}

/// A value that left the range of the precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutOfRange {
    /// The value.
    pub value: String,
    /// Its largest magnitude on the samples; absent if it is not finite.
    pub largest: Option<f64>,
    /// The nodes that make it or take it in the lower precision.
    pub nodes: Vec<String>,
}

/// A node that stays in FP32 so that the numbers hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeptForAccuracy {
    /// The node.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// What lowering it alone would cost: the min row cosine then; absent without search.
    pub row_cosine_if_lowered: Option<f64>,
    /// What keeping it costs: the bytes of its weights that stay in FP32.
    pub weight_bytes: u64,
}

//! Whether a profile's outputs match the FP32 graph's: gates over outputs, and the record that a passport keeps.
//!
//! An output is compared row by row, where a row is one index of the first dimension. Sums are in double precision.
//! [`output_gates`] has the gates of an output by itself: floating-point numbers have to be finite and close, integers and
//! booleans equal. [`cross_modal_gates`] are for a two-tower model: users compute the cosine of every image with every text.
//!
//! | gate | compares | default | source |
//! | --- | --- | --- | --- |
//! | `finite` | every value is a number | all | |
//! | `row_cosine` | the min cosine of a row with the reference's row; 1 − e² / 2 for a row of one number with the relative error e | ≥ 0.999 | half precision keeps 11 bits; NV-CLIP's towers lose some 1e-5 |
//! | `norm_ratio` | the max relative deviation of a row's length from the reference's; the relative error of a row of one number | ≤ 0.01 | users who don't normalize see lengths |
//! | `equal` | the fraction of integers or booleans that are equal to the reference's | all | a class or an index that differs is another answer |
//! | `cross_modal` | the max difference of a cosine between image and text | ≤ 0.01 | it moves a zero-shot probability by at most one part in a hundred |
//! | `top_1` | the fraction of rows whose nearest row of the other tower is the reference's | ≥ 0.99 | |
//! | `top_10` | the fraction of the ten nearest that are the reference's | ≥ 0.99 | |
//! | `tolerance` | the max difference of a value, as a fraction of the allowed one, for outputs that the recipe names | ≤ 1 | the recipe |
//! | `zero_shot` | the fraction of a labelled set that is assigned its own class | the reference's − 0.01 | NV-CLIP's own FP16 engines lose 0.0096 |
//! | `batch_invariance` | the min cosine of rows run alone with the same rows in a batch | ≥ 0.999 | kernels differ by batch, answers must not |
//!
//! Quantized profiles have thresholds of their own ([`Thresholds::of_quantized`]).
//!
//! Rankings count ties as equal: a row that the reference ranks at most [`TIE`] behind its own choice counts as
//! agreeing, since rounding alone can swap the two.

mod batch;
mod by_precision;
mod demands;
mod gates;
mod output;
mod zero_shot;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;
use crate::onnx::Precision;

pub use batch::{BatchPart, BatchRuns, batch_gate};
pub use by_precision::ThresholdChanges;
pub use demands::{CLASS_IN_PROMPT, DemandProblem, Demands, Tolerance, ZeroShot};
pub use gates::{cross_modal_gates, output_gates};
pub use output::{Array, Floats, Output};
pub use zero_shot::{LabelledSet, zero_shot_gate};

/// Cosines that differ by at most this are tied.
pub const TIE: f64 = 1e-3;

/// The thresholds of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Min cosine of a row with the reference's.
    pub row_cosine: f64,
    /// Max deviation of the ratio of lengths from 1.
    pub norm_ratio: f64,
    /// Min fraction of integers or booleans that are equal to the reference's.
    pub equal: f64,
    /// Max difference of a cosine between image and text.
    pub cross_modal: f64,
    /// Min fraction of rows whose nearest row is the reference's.
    pub top_1: f64,
    /// Min fraction of the ten nearest rows that are the reference's.
    pub top_10: f64,
    /// Min cosine of a row run alone with the same row in a batch.
    pub batch_invariance: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            row_cosine: 0.999,
            norm_ratio: 0.01,
            equal: 1.0,
            cross_modal: 0.01,
            top_1: 0.99,
            top_10: 0.99,
            batch_invariance: 0.999,
        }
    }
}

/// The result of one gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateResult {
    /// The gate: `row_cosine`.
    pub gate: String,
    /// What it compared: `vision/LOGITS_PER_IMAGE`, `vision × text`.
    pub subject: String,
    /// Which shapes were run: `min`, `opt` or `max`; `labelled` for the set of `zero_shot`.
    pub shapes: String,
    /// The value; `None` if it is not finite.
    pub value: Option<f64>,
    /// The threshold.
    pub threshold: f64,
    /// Whether it passed.
    pub passed: bool,
    /// The worst row, for a gate that compares rows.
    pub worst_row: Option<usize>,
}

/// Returns whether a gate's value must be at most its threshold; values of other gates must be at least theirs.
pub fn gate_is_bound_above(gate: &str) -> bool {
    matches!(gate, "norm_ratio" | "cross_modal" | "tolerance")
}

/// How a profile was validated, and the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validation {
    /// Whether every gate passed.
    pub passed: bool,
    /// What ran it: `ONNX Runtime 1.32.0 on the CPU`.
    pub ran_on: String,
    /// The compute capability of the GPU that ran it; absent for the CPU, and in passports of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<ComputeCapability>,
    /// Why the profile itself was not executed, if it was not.
    pub not_executed_because: Option<String>,
    /// What failed before outputs could be compared.
    pub failure: Option<String>,
    /// Every gate, in the order of graphs, shapes and gates.
    pub gates: Vec<GateResult>,
    /// What has no gate although others of its kind do, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
    /// What the run above hides: absent for a profile that was computed in its own precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emulated: Option<Emulated>,
}

/// A profile that was executed in a higher precision than its own, and was therefore also run with its own precision emulated: ONNX
/// Runtime computes FP16 graphs in FP32 on the CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Emulated {
    /// The precision that the profile itself was computed in.
    pub executed_in: Precision,
    /// The profile's own precision, to which every value of the lowered graph was rounded.
    pub precision: Precision,
    /// The same gates, of the emulated graphs.
    pub gates: Vec<GateResult>,
    /// Graphs and shapes that were not emulated because it would take too long: `vision/max`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Validation {
    /// Returns the gates that failed.
    pub fn failed(&self) -> impl Iterator<Item = &GateResult> {
        self.all_gates().filter(|gate| !gate.passed)
    }

    /// Returns the gates of the profile itself, and those of what was emulated.
    pub fn all_gates(&self) -> impl Iterator<Item = &GateResult> {
        self.gates.iter().chain(self.emulated.iter().flat_map(|emulated| &emulated.gates))
    }

    /// Returns whether the profile was computed in its own precision: what it passed, it passed as it is.
    pub fn is_in_own_precision(&self) -> bool {
        self.emulated.is_none()
    }
}

//! Whether a profile's numbers are those of the FP32 graph: gates over outputs, and the record that a passport keeps.
//!
//! An output is compared row by row, where a row is all that the first dimension doesn't count. Sums are in double
//! precision. The gates of an output with two dimensions of floats, an embedding, are those of [`embedding_gates`];
//! every other output has to be finite and close by cosine. [`cross_modal_gates`] are for a model of two towers: what
//! users compute with both is the cosine of every image with every text.
//!
//! | gate | compares | default | source |
//! | --- | --- | --- | --- |
//! | `finite` | every value is a number | all | |
//! | `row_cosine` | the least cosine of a row with the reference's row | ≥ 0.999 | half precision keeps 11 bits; NV-CLIP's towers lose some 1e-5 |
//! | `norm_ratio` | the farthest that a row's length is from the reference's | ≤ 0.01 | users that don't normalize see lengths |
//! | `cross_modal` | the largest difference of a cosine between image and text | ≤ 0.01 | it moves a zero-shot probability by one part in a hundred at most |
//! | `top_1` | the part of rows whose nearest row of the other tower is the reference's | ≥ 0.99 | |
//! | `top_10` | the part of the ten nearest that are the reference's | ≥ 0.99 | |
//! | `tolerance` | the largest difference of a value, as a part of what is allowed, for outputs the recipe names | ≤ 1 | the recipe |
//! | `zero_shot` | the part of a labelled set that is given its own class | the reference's − 0.01 | NV-CLIP's own FP16 engines lose 0.0096 |
//! | `batch_invariance` | the least cosine of rows run alone with the same rows in a batch | ≥ 0.999 | kernels differ by batch, answers must not |
//!
//! Rankings count ties as equal: a row that the reference ranks behind its own choice by no more than
//! [`TIE`] is no disagreement, since rounding alone can swap the two.

mod demands;
mod gates;
mod zero_shot;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use demands::{CLASS_IN_PROMPT, Demands, Tolerance, ZeroShot};
pub use gates::{Floats, batch_gate, cross_modal_gates, embedding_gates, output_gates, tolerance_gates};
pub use zero_shot::{LabelledSet, zero_shot_gate};

/// Two cosines that differ by no more are one rank.
pub const TIE: f64 = 1e-3;

/// What is demanded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// The least cosine of a row with the reference's.
    pub row_cosine: f64,
    /// The farthest that the ratio of lengths may be from 1.
    pub norm_ratio: f64,
    /// The largest difference of a cosine between image and text.
    pub cross_modal: f64,
    /// The least part of rows whose nearest is the reference's.
    pub top_1: f64,
    /// The least part of the ten nearest that are the reference's.
    pub top_10: f64,
    /// The least cosine of a row run alone with the same row in a batch.
    pub batch_invariance: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            row_cosine: 0.999,
            norm_ratio: 0.01,
            cross_modal: 0.01,
            top_1: 0.99,
            top_10: 0.99,
            batch_invariance: 0.999,
        }
    }
}

/// What one gate found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateResult {
    /// The gate: `row_cosine`.
    pub gate: String,
    /// What it was held against: `vision/LOGITS_PER_IMAGE`, `vision × text`.
    pub subject: String,
    /// Which shapes were run: `min`, `opt` or `max`; `labelled` for the set of `zero_shot`.
    pub shapes: String,
    /// What was found; nothing where it can't be said, of values that are not finite.
    pub value: Option<f64>,
    /// What was demanded.
    pub threshold: f64,
    /// Whether it holds.
    pub passed: bool,
    /// The row that is worst, for a gate that looks at rows.
    pub worst_row: Option<usize>,
}

/// Returns whether a gate's value has to stay below its threshold; those of the others have to reach it.
pub fn gate_is_bound_above(gate: &str) -> bool {
    matches!(gate, "norm_ratio" | "cross_modal" | "tolerance")
}

/// What was done to validate a profile, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Validation {
    /// Whether every gate holds.
    pub passed: bool,
    /// What ran it: `ONNX Runtime 1.32.0 on the CPU`.
    pub ran_on: String,
    /// Why it was not executed itself, for one that was not.
    pub not_executed_because: Option<String>,
    /// What went wrong before a number could be compared.
    pub failure: Option<String>,
    /// Every gate, in the order of graphs, shapes and gates.
    pub gates: Vec<GateResult>,
}

impl Validation {
    /// Returns the gates that don't hold.
    pub fn failed(&self) -> impl Iterator<Item = &GateResult> {
        self.gates.iter().filter(|gate| !gate.passed)
    }
}

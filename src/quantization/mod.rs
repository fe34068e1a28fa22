//! Quantization as recipes ask for it and as records remember it: data alone. [`crate::onnx::quantize`] writes quantized graphs;
//! [`crate::ops::quantize`] runs them to find how.

mod in_plan;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use in_plan::{InPlan, NotAllQuantized};

use crate::mixed_precision::similarity::NOT_FINITE;
use crate::onnx::quantize::{Method, QuantizationReport};

/// What a recipe demands of its quantized profiles, beyond what is quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizationDemands {
    /// Which methods are tried.
    pub wanted: Wanted,
    /// What must be reached.
    pub gate: Gate,
    /// What a plan must make of the quantized nodes.
    pub require: Require,
}

/// What a search must reach, and how long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The min cosine between a row of an output in FP32 and the same row quantized.
    pub min_row_cosine: f64,
    /// Most graphs that are run.
    pub evaluations: u32,
}

impl Gate {
    /// The number of graphs that a search runs at most if nothing else is said.
    pub const EVALUATIONS: u32 = 60;
}

/// Which methods are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Those of [`Method::grid`]; the best one is taken.
    Auto,
    /// One.
    Only(Method),
}

/// What a plan must make of the nodes that were quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// All of them compute, or are stored, in the precision that was asked for; otherwise the build of the profile fails.
    #[default]
    All,
    /// Nothing: nodes that fall back to the base precision are warned of.
    Nothing,
}

/// What was found for one graph: how, and what it came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationChoice {
    /// How scales are found.
    pub method: Method,
    /// The nodes that stay in the base precision, beyond those that the options name.
    pub kept: Vec<String>,
    /// The share of the candidates' weight bytes that stays, 0 to 1.
    pub kept_share: f64,
    /// What came of it on the rows that judge.
    pub result: Trial,
    /// Each method that was tried, and what came of it with nothing kept.
    pub tried: Vec<TriedMethod>,
    /// Why no method with GPTQ was tried, where some would have been.
    #[serde(default)]
    pub no_gptq: Option<String>,
    /// How many rows calibrated.
    pub calibration_rows: usize,
    /// How many rows judged.
    pub judged_rows: usize,
    /// How many graphs were run.
    pub evaluations: u32,
    /// Whether no node of `kept` can be quantized with the gate still holding; otherwise the search ran out of evaluations.
    pub complete: bool,
}

/// A method and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriedMethod {
    /// The method.
    pub method: Method,
    /// What came of it.
    pub result: Trial,
}

/// How near a quantized graph is to its FP32 graph.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// The least cosine of any row of any output; -1 stands for a row that is not finite, and for a graph that fails.
    pub min_row_cosine: f64,
    /// The mean over rows of the least cosine of any output.
    pub mean_row_cosine: f64,
}

impl Trial {
    /// A graph that fails.
    pub const UNUSABLE: Self = Self { min_row_cosine: NOT_FINITE, mean_row_cosine: NOT_FINITE };

    /// Puts the results of several sets of rows together, each with its number of rows.
    pub fn of_all(results: &[(Self, usize)]) -> Self {
        let rows: usize = results.iter().map(|(_, rows)| rows).sum();
        let sum: f64 = results.iter().map(|(result, rows)| result.mean_row_cosine * *rows as f64).sum();
        Self {
            min_row_cosine: results.iter().map(|(result, _)| result.min_row_cosine).fold(1.0, f64::min),
            mean_row_cosine: sum / rows.max(1) as f64,
        }
    }

    /// Returns how far the worst row is from its reference.
    pub fn loss(&self) -> f64 {
        1.0 - self.min_row_cosine
    }
}

/// A quantized graph as the record of its lowering has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationRecord {
    /// How it was found, and what it came to.
    pub choice: QuantizationChoice,
    /// What was quantized, and what was not.
    pub report: QuantizationReport,
}

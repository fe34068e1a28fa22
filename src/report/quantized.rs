//! How a profile's graphs were quantized.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::passport::Passport;
use crate::quantization::{InPlan, QuantizationRecord};

/// One quantized graph of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuantizedGraphFacts {
    /// The graph.
    pub graph: String,
    /// How scales were found: `smoothing=0.8`.
    pub method: String,
    /// How many products and tables were quantized.
    pub quantized: u64,
    /// Bytes of their weights, before in FP32 and now.
    pub weights_bytes: (u64, u64),
    /// Nodes that the search kept in the base precision.
    pub kept: Vec<String>,
    /// The share of weight bytes that they are, 0 to 1.
    pub kept_share: f64,
    /// The min and the mean row cosine on calibration rows.
    pub on_calibration: (f64, f64),
    /// How many rows calibrated.
    pub calibration_rows: u64,
    /// Every method that was tried, with its min row cosine and nothing kept.
    pub tried: Vec<(String, f64)>,
    /// Quantized nodes that the plan computes as they were quantized, of all; absent without a plan.
    pub in_plan: Option<(u64, u64)>,
}

/// Returns how a profile was quantized, by the order of its graphs.
pub(crate) fn of(passport: &Passport) -> Vec<QuantizedGraphFacts> {
    let graphs = passport.graphs.iter().filter_map(|(graph, built)| {
        let QuantizationRecord { choice, report } = built.lowering.quantization.as_ref()?;
        let options = &built.lowering.document.lowering.quantization.as_ref()?.options;
        let in_plan = built.compilation.as_ref().map(|record| {
            let plan = record.plan.as_ref().zip(record.plan_layers.as_ref());
            let found = InPlan::of(options, report, plan);
            (found.as_expected as u64, found.count() as u64)
        });
        let tried = choice.tried.iter().map(|tried| (tried.method.to_string(), tried.result.min_row_cosine));
        Some(QuantizedGraphFacts {
            graph: graph.clone(),
            method: choice.method.to_string(),
            quantized: report.quantized.len() as u64,
            weights_bytes: (report.weights_before_bytes, report.weights_after_bytes),
            kept: choice.kept.clone(),
            kept_share: choice.kept_share,
            on_calibration: (choice.result.min_row_cosine, choice.result.mean_row_cosine),
            calibration_rows: choice.calibration_rows as u64,
            tried: tried.collect(),
            in_plan,
        })
    });
    graphs.collect()
}

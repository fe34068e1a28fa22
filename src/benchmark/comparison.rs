//! Whether one measurement is slower than another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Case;
use super::metric::Metric;
use crate::stats::{Pairing, ratio_interval};

/// The confidence at which a difference is called real: one in 100 comparisons of equal measurements is wrong.
pub const CONFIDENCE: f64 = 0.99;

/// One quantity of one case, before and now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The profile that was measured.
    pub profile: String,
    /// What it is compared with.
    pub baseline: String,
    /// The graph.
    pub graph: String,
    /// The first dimension of its inputs.
    pub batch: u64,
    /// Concurrent callers.
    pub streams: u32,
    /// The quantity.
    pub metric: Metric,
    /// The baseline's value, the geometric mean of its rounds.
    pub baseline_value: f64,
    /// The value that was measured.
    pub value: f64,
    /// `value` over `baseline_value`.
    pub ratio: f64,
    /// The lower end of the ratio's interval at [`CONFIDENCE`]; `None` with too few rounds.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
    /// The verdict.
    pub verdict: Verdict,
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval contains 1.
    NoDifference,
    /// It is slower, and the difference is real.
    Slower,
    /// It is faster, and the difference is real.
    Faster,
    /// Too few rounds to tell.
    TooFewRounds,
}

impl Verdict {
    /// Returns it in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoDifference => "no difference",
            Self::Slower => "slower",
            Self::Faster => "faster",
            Self::TooFewRounds => "too few rounds to tell",
        }
    }
}

/// Compares a case with the same one of a baseline, in every metric; `None` if a round has a value that is not positive.
pub(super) fn compare_case(
    (baseline, before): (&str, &Case),
    (name, now): (&str, &Case),
    pairing: Pairing,
) -> Option<Vec<Comparison>> {
    let one = |metric: Metric| {
        let values = |case: &Case| -> Vec<f64> { case.rounds.iter().map(metric.of_round()).collect() };
        let (before, values) = (values(before), values(now));
        let found = ratio_interval(&before, &values, pairing, CONFIDENCE)?;
        let verdict = match (found.low, found.is_real(), found.ratio > 1.0) {
            (None, _, _) => Verdict::TooFewRounds,
            (Some(_), false, _) => Verdict::NoDifference,
            (Some(_), true, more) if more == metric.more_is_worse() => Verdict::Slower,
            (Some(_), true, _) => Verdict::Faster,
        };
        Some(Comparison {
            profile: name.into(),
            baseline: baseline.into(),
            graph: now.graph.clone(),
            batch: now.batch,
            streams: now.streams,
            metric,
            baseline_value: geometric_mean(&before),
            value: geometric_mean(&values),
            ratio: found.ratio,
            low: found.low,
            high: found.high,
            verdict,
        })
    };
    Metric::ALL.into_iter().map(one).collect()
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len().max(1) as f64).exp()
}

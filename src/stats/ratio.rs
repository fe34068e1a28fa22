//! Whether one measurement is larger than another, and by how much.

use super::quantile::quantile;
use super::tail_share;

const RESAMPLES: usize = 20_000;
/// Min rounds for an interval: with fewer, draws stay inside the few values, and chance would look real.
pub const MIN_PAIRS: usize = 8;
const SEED: u64 = 21;

/// How the rounds of two measurements relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// They alternated, so that drift affects both equally.
    Interleaved,
    /// They were measured at different times.
    Separate,
}

/// The ratio of a measurement to a baseline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatioInterval {
    /// The ratio of geometric means over rounds.
    pub ratio: f64,
    /// The lower end; `None` with fewer than [`MIN_PAIRS`] rounds.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

impl RatioInterval {
    /// Returns whether the difference is real: the interval excludes 1.
    pub fn is_real(&self) -> bool {
        self.low.is_some_and(|low| low > 1.0) || self.high.is_some_and(|high| high < 1.0)
    }
}

/// Compares a measurement with a baseline; each value is that of one round, such as its median latency. `None` without
/// rounds, or if a value is not positive.
pub fn ratio_interval(
    baseline: &[f64],
    measured: &[f64],
    pairing: Pairing,
    confidence: f64,
) -> Option<RatioInterval> {
    let logs = |values: &[f64]| -> Option<Vec<f64>> {
        values.iter().map(|value| (*value > 0.0 && value.is_finite()).then(|| value.ln())).collect()
    };
    let (baseline, measured) = (logs(baseline)?, logs(measured)?);
    let mut random = fastrand::Rng::with_seed(SEED);
    let (estimate, units, mut drawn) = match pairing {
        Pairing::Interleaved => {
            let differences: Vec<f64> = measured.iter().zip(&baseline).map(|(m, b)| m - b).collect();
            let drawn = (0..RESAMPLES).filter_map(|_| drawn_mean(&differences, &mut random)).collect();
            (mean(&differences)?, differences.len(), drawn)
        }
        Pairing::Separate => {
            let drawn: Vec<f64> = (0..RESAMPLES)
                .filter_map(|_| {
                    Some(drawn_mean(&measured, &mut random)? - drawn_mean(&baseline, &mut random)?)
                })
                .collect();
            // The fewer rounds decide: wider than Welch's degrees of freedom at worst, never narrower.
            (mean(&measured)? - mean(&baseline)?, measured.len().min(baseline.len()), drawn)
        }
    };
    if units < MIN_PAIRS {
        return Some(RatioInterval { ratio: estimate.exp(), low: None, high: None });
    }
    drawn.sort_by(f64::total_cmp);
    let tail = tail_share(confidence, units);
    let end = |q| quantile(&drawn, q).map(f64::exp);
    Some(RatioInterval { ratio: estimate.exp(), low: end(tail), high: end(1.0 - tail) })
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn drawn_mean(values: &[f64], random: &mut fastrand::Rng) -> Option<f64> {
    let sum: f64 = values.iter().map(|_| values[random.usize(..values.len())]).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

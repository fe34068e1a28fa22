//! What samples say of a quantity: quantiles with intervals, whether two measurements differ, and when to stop measuring.
//!
//! The rules, and where they are from:
//!
//! * **Quantiles** are those of Hyndman and Fan's definition 7, NumPy's default. One is given only where the samples
//!   support it: at least [`LEAST_TAIL`] independent samples must lie beyond it, so that p99.9 needs 10,000 of them.
//! * **Dependence.** Latencies that follow each other are alike (clocks, caches, neighbours). How many samples one
//!   independent sample is worth is the integrated autocorrelation time of their ranks (Sokal's window). Blocks as long
//!   as is best for an autoregressive process of that time are resampled, not single samples (Carlstein; Politis and
//!   Romano's circular blocks).
//! * **Rounds.** A process that is started again is another draw: memory lies elsewhere, clocks have moved. With
//!   [`LEAST_ROUNDS`] of them or more, whole rounds are drawn (a cluster bootstrap), in place of blocks.
//! * **Few rounds** make percentile intervals too narrow. They are widened to what Student's t demands (Hesterberg's
//!   expanded percentile interval).
//!
//! All drawing is seeded: equal samples give equal intervals. `tests.rs` shows by simulation that the intervals hold as
//! often as they say.

mod autocorrelation;
mod bootstrap;
mod quantile;
mod ratio;

pub use autocorrelation::autocorrelation_time;
pub use bootstrap::{LEAST_ROUNDS, quantile_intervals};
pub use nimctl_backend_kit::stop_rule::{STABLE_SPREAD, STABLE_WINDOWS, Window, is_stable};
pub use quantile::{LEAST_TAIL, is_supported, quantile};
pub use ratio::{LEAST_PAIRS, Pairing, RatioInterval, ratio_interval};

/// An estimate with the interval that holds its true value at the stated confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Returns the share of a percentile interval that lies outside of it at each end, widened for few units.
fn tail_share(confidence: f64, units: usize) -> f64 {
    use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};
    let tail = (1.0 - confidence) / 2.0;
    // So many units are as good as endlessly many.
    if units > 200 {
        return tail;
    }
    let degrees = units.saturating_sub(1) as f64;
    match (StudentsT::new(0.0, 1.0, degrees), Normal::new(0.0, 1.0)) {
        (Ok(student), Ok(normal)) => {
            let widened = student.inverse_cdf(tail) * (units as f64 / degrees).sqrt();
            normal.cdf(widened)
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests;

//! What samples say about a quantity: quantiles with intervals, whether two measurements differ, and when to stop measuring.
//!
//! The rules, and where they are from:
//!
//! * **Quantiles** are those of Hyndman and Fan's definition 7, NumPy's default. A quantile is given only if the
//!   samples support it: at least [`MIN_TAIL`] independent samples must lie beyond it, so that p99.9 needs 10,000 of them.
//! * **Dependence.** Consecutive latencies are alike (clocks, caches, neighbours). The integrated autocorrelation time of
//!   their ranks is the number of samples that are worth one independent sample (Sokal's window). Blocks of the best
//!   length for an autoregressive process with that time are resampled instead of single samples (Carlstein; Politis and
//!   Romano's circular blocks).
//! * **Rounds.** A restarted process is another draw: its memory layout differs, clocks have drifted. With [`MIN_ROUNDS`]
//!   or more rounds, whole rounds are resampled instead of blocks (a cluster bootstrap).
//! * **Few rounds** make percentile intervals too narrow. They are widened as Student's t requires (Hesterberg's expanded
//!   percentile interval).
//!
//! All draws are seeded: equal samples give equal intervals. `tests.rs` shows by simulation that the intervals have the
//! stated coverage.

mod autocorrelation;
mod bootstrap;
mod quantile;
mod ratio;

pub use autocorrelation::autocorrelation_time;
pub use bootstrap::{MIN_ROUNDS, quantile_intervals};
pub use nimctl_backend_kit::stop_rule::{STABLE_SPREAD, STABLE_WINDOWS, Window, is_stable};
pub use quantile::{MIN_TAIL, is_supported, quantile};
pub use ratio::{MIN_PAIRS, Pairing, RatioInterval, ratio_interval};

/// An estimate with the interval that contains the true value at the stated confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Returns the tail probability at each end of a percentile interval, smaller for few units, which widens it.
fn tail_share(confidence: f64, units: usize) -> f64 {
    use statrs::distribution::{ContinuousCDF as _, Normal, StudentsT};
    let tail = (1.0 - confidence) / 2.0;
    // With this many units, the normal distribution is accurate enough.
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

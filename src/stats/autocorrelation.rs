//! How much consecutive samples depend on each other.

/// The length of the summation window in autocorrelation times (Sokal's rule).
const WINDOW: f64 = 5.0;

/// Returns how many samples are worth one independent sample: 1 if they are independent. Pass ranks if there may be
/// outliers.
pub fn autocorrelation_time(values: &[f64]) -> f64 {
    let count = values.len();
    if count < 3 {
        return 1.0;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let variance: f64 = centred.iter().map(|value| value * value).sum();
    if variance <= 0.0 {
        return 1.0;
    }
    let mut time = 1.0;
    for lag in 1..count / 4 {
        let covariance: f64 = centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum();
        time += 2.0 * covariance / variance;
        if lag as f64 >= WINDOW * time {
            break;
        }
    }
    time.max(1.0)
}

/// Returns the best block length for `count` samples with this autocorrelation time: that for the mean of a first-order
/// autoregressive process.
pub(super) fn block_length(count: usize, time: f64) -> usize {
    let dependence = (time * time - 1.0) / (2.0 * time);
    let length = dependence.powf(2.0 / 3.0) * (count as f64).cbrt();
    (length.ceil() as usize).clamp(1, (count / 4).max(1))
}

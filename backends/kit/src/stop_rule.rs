//! When a measurement has settled.

/// So many windows in a row have to agree.
pub const STABLE_WINDOWS: usize = 3;
/// They agree if max - min is at most this part of the median.
pub const STABLE_SPREAD: f64 = 0.05;

/// What was measured in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// The median latency, in any unit.
    pub latency: f64,
    /// Work done in a unit of time.
    pub throughput: f64,
}

/// Returns whether the last windows agree, in latency and in throughput.
pub fn is_stable(windows: &[Window]) -> bool {
    let Some(last) = windows.len().checked_sub(STABLE_WINDOWS).map(|first| &windows[first..]) else {
        return false;
    };
    let agree = |value: fn(&Window) -> f64| {
        let mut values: Vec<f64> = last.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let spread = values[values.len() - 1] - values[0];
        values[0] > 0.0 && spread <= STABLE_SPREAD * values[values.len() / 2]
    };
    agree(|window| window.latency) && agree(|window| window.throughput)
}

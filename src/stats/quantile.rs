//! Quantiles of samples.

/// Min independent samples beyond a quantile.
pub const MIN_TAIL: f64 = 10.0;

/// Returns a quantile of sorted values, interpolated between the two nearest (definition 7); `None` without values.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let (low, part) = position(sorted.len(), q)?;
    let at = sorted[low];
    let next = sorted.get(low + 1).copied().unwrap_or(at);
    Some(at + (next - at) * part)
}

/// Returns the index below a quantile, and how far it is to the next.
pub(super) fn position(count: usize, q: f64) -> Option<(usize, f64)> {
    let last = count.checked_sub(1)?;
    let place = last as f64 * q.clamp(0.0, 1.0);
    let low = (place as usize).min(last);
    Some((low, place - low as f64))
}

/// Returns whether this many independent samples support a quantile.
pub fn is_supported(independent_samples: f64, q: f64) -> bool {
    // A small margin, since 1 - 0.999 is a little less than 0.001.
    independent_samples * q.min(1.0 - q) >= MIN_TAIL * (1.0 - 1e-9)
}

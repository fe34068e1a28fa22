//! What `nimctl quantize` must reach on the real models.

use super::ours::{Ours, Setting};
use super::{Entry, Judged, Outcome};

/// A bound of one setting on one model.
struct Bound {
    model: &'static str,
    setting: Setting,
    min: f64,
    mean: f64,
    /// The largest part of the matmuls, and of their weights' bytes, that may stay as they are.
    kept_matmuls: f64,
    kept_bytes: f64,
    /// None if time has no bound.
    seconds: Option<f64>,
}

const ANY: f64 = 1.0;

#[rustfmt::skip]
const BOUNDS: [Bound; 6] = [
    Bound { model: "minilm", setting: Setting::Int8, min: 0.996, mean: 0.998, kept_matmuls: ANY, kept_bytes: ANY, seconds: None },
    Bound { model: "minilm", setting: Setting::Int8Strict, min: 0.9995, mean: 0.9995, kept_matmuls: ANY, kept_bytes: 0.25, seconds: None },
    Bound { model: "minilm", setting: Setting::Fp8, min: 0.998, mean: 0.998, kept_matmuls: ANY, kept_bytes: ANY, seconds: None },
    Bound { model: "minilm", setting: Setting::Int4, min: 0.981, mean: 0.989, kept_matmuls: ANY, kept_bytes: ANY, seconds: Some(2.0) },
    Bound { model: "dinov2-s", setting: Setting::Int8, min: 0.995, mean: 0.998, kept_matmuls: 0.06, kept_bytes: ANY, seconds: None },
    Bound { model: "dinov2-s", setting: Setting::Fp8, min: 0.993, mean: 0.993, kept_matmuls: ANY, kept_bytes: ANY, seconds: None },
];

/// Returns the bounds of a model that are not met.
pub(super) fn misses(model: &str, ours: &Ours) -> Vec<String> {
    let mut misses = Vec::new();
    for bound in BOUNDS.iter().filter(|bound| bound.model == model) {
        let name = bound.setting.name();
        let Some(entry) = ours.entries.iter().find(|entry| entry.setting == name) else { continue };
        let found = of(entry, bound);
        let verdict = if found.is_empty() { "met".into() } else { format!("MISSED: {}", found.join(", ")) };
        println!("bound {model} {name}: min {}, mean {}: {verdict}", bound.min, bound.mean);
        misses.extend(found.into_iter().map(|what| format!("{model} {name}: {what}")));
    }
    misses
}

fn of(entry: &Entry, bound: &Bound) -> Vec<String> {
    let (side, judged) = match &entry.result {
        Outcome::Measured(side, judged) => (side, judged),
        Outcome::Skipped(reason) => return vec![reason.clone()],
    };
    let mut misses = of_quality(judged, bound);
    if let Some(most) = bound.seconds.filter(|most| side.wall() > *most) {
        misses.push(format!("{:.1} s, more than {most}", side.wall()));
    }
    misses
}

fn of_quality(judged: &Judged, bound: &Bound) -> Vec<String> {
    let kept = 1.0 - judged.quantized as f64 / judged.matmuls as f64;
    let mut misses = Vec::new();
    for (what, value, least) in [("min", judged.min, bound.min), ("mean", judged.mean, bound.mean)] {
        // A value that is no number misses, too.
        if value.is_nan() || value < least {
            misses.push(format!("{what} {value:.4}, less than {least}"));
        }
    }
    for (what, value, most) in
        [("matmuls", kept, bound.kept_matmuls), ("bytes", 1.0 - judged.share, bound.kept_bytes)]
    {
        if value > most {
            misses.push(format!("{:.1} % of the {what} kept, more than {:.0}", 100.0 * value, 100.0 * most));
        }
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::super::Judged;
    use super::{BOUNDS, of_quality};

    #[test]
    fn what_is_missed_is_named() {
        let strict = &BOUNDS[1];
        let good = Judged { min: 0.9996, mean: 0.9998, matmuls: 18, quantized: 16, share: 0.78, bytes: 1 };
        assert_eq!(of_quality(&good, strict), [""; 0]);
        let kept = Judged { share: 0.5, ..good.clone() };
        assert_eq!(of_quality(&kept, strict), ["50.0 % of the bytes kept, more than 25"]);
        let nan = Judged { min: f64::NAN, ..good };
        assert_eq!(of_quality(&nan, strict), ["min NaN, less than 0.9995"]);
    }
}

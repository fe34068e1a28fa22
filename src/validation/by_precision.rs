//! What is demanded of quantized profiles: their errors are larger, and their bounds are.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Demands, Thresholds};
use crate::onnx::quantize::QuantizedPrecision;
use crate::profile::ProfilePrecision;

/// Thresholds that differ from those of a precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdChanges {
    /// Max deviation of the ratio of lengths from 1.
    pub norm_ratio: Option<f64>,
    /// Min fraction of integers or booleans that are equal to the reference's.
    pub equal: Option<f64>,
    /// Max difference of a cosine between image and text.
    pub cross_modal: Option<f64>,
    /// Min fraction of rows whose nearest row is the reference's.
    pub top_1: Option<f64>,
    /// Min fraction of the ten nearest rows that are the reference's.
    pub top_10: Option<f64>,
    /// Min cosine of a row run alone with the same row in a batch.
    pub batch_invariance: Option<f64>,
}

impl Thresholds {
    /// Returns the default thresholds of a quantized precision. Rows whose cosine is c are about sqrt(2 - 2c) of their length away:
    /// 0.1 for 8 bits, 0.2 for 4. Lengths, and cosines between images and texts, may move by 0.3 of that, a little more than they
    /// may for FP16: MiniLM in INT8 moved by 0.26 of it. Rankings are those that quantized towers of real models kept (docs/quantization.md).
    pub fn of_quantized(precision: QuantizedPrecision) -> Self {
        let row_cosine = precision.default_gate();
        let of_8_bits = Self {
            row_cosine,
            norm_ratio: 0.03,
            cross_modal: 0.03,
            top_1: 0.97,
            top_10: 0.97,
            ..Self::default()
        };
        match precision.bits() {
            8 => of_8_bits,
            _ => Self { norm_ratio: 0.06, cross_modal: 0.06, top_1: 0.9, top_10: 0.9, ..of_8_bits },
        }
    }

    fn changed(self, changes: ThresholdChanges) -> Self {
        let ThresholdChanges { norm_ratio, equal, cross_modal, top_1, top_10, batch_invariance } = changes;
        Self {
            row_cosine: self.row_cosine,
            norm_ratio: norm_ratio.unwrap_or(self.norm_ratio),
            equal: equal.unwrap_or(self.equal),
            cross_modal: cross_modal.unwrap_or(self.cross_modal),
            top_1: top_1.unwrap_or(self.top_1),
            top_10: top_10.unwrap_or(self.top_10),
            batch_invariance: batch_invariance.unwrap_or(self.batch_invariance),
        }
    }
}

impl Demands {
    /// Returns what is demanded of a profile of this precision; `min_row_cosine` is the gate of its quantization, if that is known.
    #[must_use]
    pub fn for_precision(&self, precision: ProfilePrecision, min_row_cosine: Option<f64>) -> Self {
        let ProfilePrecision::Quantized(precision) = precision else { return self.clone() };
        let changes = self.quantized_thresholds.get(&precision).copied().unwrap_or_default();
        let mut thresholds = Thresholds::of_quantized(precision).changed(changes);
        thresholds.row_cosine = min_row_cosine.unwrap_or(thresholds.row_cosine);
        Self { thresholds, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::onnx::Precision;

    #[test]
    fn each_precision_has_its_own() {
        let changes = ThresholdChanges { top_10: Some(0.5), ..ThresholdChanges::default() };
        let strict = Thresholds { row_cosine: 0.9999, ..Thresholds::default() };
        let demands = Demands {
            thresholds: strict,
            quantized_thresholds: BTreeMap::from([(QuantizedPrecision::Int4, changes)]),
            ..Demands::default()
        };
        let of = |precision, gate| demands.for_precision(precision, gate).thresholds;
        assert_eq!(of(Precision::Fp16.into(), None), strict);
        let int8 = of(ProfilePrecision::Quantized(QuantizedPrecision::Int8), None);
        assert_eq!((int8.row_cosine, int8.top_10, int8.norm_ratio), (0.995, 0.97, 0.03));
        assert_eq!((int8.equal, int8.batch_invariance), (1.0, 0.999));
        let int4 = of(ProfilePrecision::Quantized(QuantizedPrecision::Int4), Some(0.99));
        assert_eq!((int4.row_cosine, int4.top_10, int4.norm_ratio), (0.99, 0.5, 0.06));
    }
}

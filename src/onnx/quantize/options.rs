//! What a user can say about quantization.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nvfp4;
use crate::onnx::{ElementType, Precision};

/// The number format of quantized weights, and of the activations that are multiplied with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QuantizedPrecision {
    /// Weights and activations in 8-bit integers.
    Int8,
    /// Weights in 8-bit integers; products are computed in the base precision.
    Int8Weights,
    /// Weights and activations in 8-bit floating point, E4M3.
    Fp8,
    /// Weights in 4-bit integers, in blocks; products are computed in the base precision.
    Int4,
    /// Weights and activations in 4-bit floating point, E2M1, in blocks of 16 with scales in E4M3; the activations' are found while the
    /// graph runs.
    Nvfp4,
}

/// A string that is not a quantized precision.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a quantized precision: expected int8, int8-weights, fp8, int4 or nvfp4")]
pub struct UnknownQuantizedPrecision {
    text: String,
}

impl QuantizedPrecision {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Int8, Self::Int8Weights, Self::Fp8, Self::Int4, Self::Nvfp4];

    /// Returns the name as it is written in recipes and tags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int8Weights => "int8-weights",
            Self::Fp8 => "fp8",
            Self::Int4 => "int4",
            Self::Nvfp4 => "nvfp4",
        }
    }

    /// Returns whether activations are quantized too, so that products are computed in the format.
    pub const fn has_activations(self) -> bool {
        matches!(self, Self::Int8 | Self::Fp8 | Self::Nvfp4)
    }

    /// Returns whether activations are quantized with one scale that is made ahead. Then convolutions and attention can be, too.
    pub const fn has_fixed_scales(self) -> bool {
        matches!(self, Self::Int8 | Self::Fp8)
    }

    /// Returns the bits of a weight.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Int8 | Self::Int8Weights | Self::Fp8 => 8,
            Self::Int4 | Self::Nvfp4 => 4,
        }
    }

    /// Returns the ONNX element type of the weights.
    pub const fn element_type(self) -> ElementType {
        match self {
            Self::Int8 | Self::Int8Weights => ElementType::Int8,
            Self::Fp8 => ElementType::Float8e4m3fn,
            Self::Int4 => ElementType::Int4,
            Self::Nvfp4 => ElementType::Float4e2m1,
        }
    }

    /// Returns the largest magnitude of a quantized number, which scales are made for; in NVFP4, that of its largest scale.
    pub const fn largest(self) -> f32 {
        match self {
            Self::Int8 | Self::Int8Weights => 127.0,
            Self::Fp8 => 448.0,
            Self::Int4 => 7.0,
            Self::Nvfp4 => nvfp4::LARGEST * nvfp4::LARGEST_SCALE,
        }
    }

    /// Returns the first operator set that has what quantized graphs need: half-precision scales (19), blocks (21), E2M1 (23).
    pub const fn needed_opset(self) -> i64 {
        match self {
            Self::Int8 | Self::Int8Weights | Self::Fp8 => 19,
            Self::Int4 => 21,
            Self::Nvfp4 => 23,
        }
    }

    /// Returns the row cosine that a profile must have if the recipe says nothing: 0.995 for 8 bits, 0.98 for 4.
    pub const fn default_gate(self) -> f64 {
        match self {
            Self::Int8 | Self::Int8Weights | Self::Fp8 => 0.995,
            Self::Int4 | Self::Nvfp4 => 0.98,
        }
    }
}

impl fmt::Display for QuantizedPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for QuantizedPrecision {
    type Err = UnknownQuantizedPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownQuantizedPrecision> {
        let found = Self::ALL.into_iter().find(|precision| precision.as_str() == text);
        found.ok_or_else(|| UnknownQuantizedPrecision { text: text.into() })
    }
}

/// What becomes of tables that indices select rows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Embeddings {
    /// They stay in the base precision.
    Keep,
    /// 8-bit integers, a scale a row.
    Int8,
    /// 4-bit integers, a scale a block.
    Int4,
}

/// Whether nodes of a kind are quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// They stay in the base precision.
    #[default]
    Keep,
    /// They are quantized, where the format can.
    Quantize,
}

/// What to quantize.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationOptions {
    /// The format.
    pub precision: QuantizedPrecision,
    /// The precision of everything else. Scales are numbers of it.
    pub base: Precision,
    /// How many weights share a scale in 4-bit formats.
    pub block: u32,
    /// What becomes of embedding tables.
    pub embeddings: Embeddings,
    /// What becomes of what attention multiplies, in formats that quantize activations too.
    pub attention: Treatment,
    /// What becomes of convolutions, in formats that quantize activations too.
    pub convolutions: Treatment,
    /// Names of nodes that stay in the base precision; a node without a name has that of its first output.
    pub keep_nodes: Vec<String>,
}

/// The blocks that compilers fuse with a product.
pub const BLOCKS: [u32; 4] = [16, 32, 64, 128];

impl QuantizationOptions {
    /// Returns what a recipe gets that says nothing but the format.
    pub fn new(precision: QuantizedPrecision, base: Precision) -> Self {
        Self {
            precision,
            base,
            block: 32,
            embeddings: Embeddings::Int8,
            attention: Treatment::Keep,
            convolutions: Treatment::Quantize,
            keep_nodes: Vec::new(),
        }
    }
}

/// How scales are found. Several are tried, and what comes out of the whole graph decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// How much of the spread between channels of an activation moves into the weights, 0 to 100. With quantized activations it is
    /// SmoothQuant's exponent, of maxima; with quantized weights alone it is AWQ's, of root mean squares.
    pub smoothing_percent: u32,
    /// The largest represented magnitude of an activation, over the largest that the samples showed. Above 100, it leaves room for
    /// what other inputs bring; below, what is rare is clipped, and the rest gets finer steps.
    pub range_percent: u32,
    /// Whether the scale of each block of weights is the one with the least error, weighted by the squares of the activation's
    /// channels, in place of the one for the block's maximum.
    pub clipped: bool,
    /// Whether weights are rounded by the samples' activations (GPTQ), in place of each to the nearest.
    #[serde(default)]
    pub gptq: bool,
}

impl Method {
    /// Scales by maxima.
    pub const MAX: Self = Self { smoothing_percent: 0, range_percent: 100, clipped: false, gptq: false };

    /// Returns the methods that are worth a try for a format, first those that are to be taken where others are hardly better: the
    /// plainest, but with GPTQ where weights lose most.
    pub fn grid(precision: QuantizedPrecision) -> Vec<Self> {
        let smoothed = |percents: &[u32], gptq| -> Vec<Self> {
            percents.iter().map(|&smoothing_percent| Self { smoothing_percent, gptq, ..Self::MAX }).collect()
        };
        match precision {
            QuantizedPrecision::Int8 => smoothed(&[0, 20, 35, 50, 65, 80], false),
            QuantizedPrecision::Fp8 => {
                [smoothed(&[0], true), smoothed(&[0], false), smoothed(&[20, 35, 50], true)].concat()
            }
            QuantizedPrecision::Nvfp4 => smoothed(&[0, 20, 35, 50, 65], false),
            QuantizedPrecision::Int8Weights => vec![Self::MAX],
            QuantizedPrecision::Int4 => vec![Self { clipped: true, gptq: true, ..Self::MAX }],
        }
    }

    /// Returns the methods that are worth a try if none of [`Self::grid`] reaches the gate.
    pub fn second_grid(precision: QuantizedPrecision) -> Vec<Self> {
        let of = |smoothing_percent| Self { smoothing_percent, clipped: true, gptq: true, ..Self::MAX };
        if precision == QuantizedPrecision::Int4 { [25, 40, 55].map(of).into() } else { Vec::new() }
    }

    /// Returns the same method with weights rounded to the nearest.
    pub fn without_gptq(self) -> Self {
        Self { gptq: false, ..self }
    }

    /// Returns the same method with other ranges that are worth a try once the rest is settled.
    pub fn with_other_ranges(self, precision: QuantizedPrecision) -> Vec<Self> {
        // Floating point has finer steps near zero whatever its range.
        let ranges: &[u32] = if precision == QuantizedPrecision::Int8 { &[80, 125, 150] } else { &[] };
        ranges.iter().map(|&range_percent| Self { range_percent, ..self }).collect()
    }

    /// Returns the first part of it that means nothing to a format, and the formats that it is for.
    pub fn foreign_part(self, precision: QuantizedPrecision) -> Option<(&'static str, &'static str)> {
        if self.clipped && precision != QuantizedPrecision::Int4 {
            Some(("clipped", "int4"))
        } else if self.range_percent != Self::MAX.range_percent && !precision.has_activations() {
            Some(("range", "int8, fp8 and nvfp4"))
        } else if self.gptq && precision == QuantizedPrecision::Nvfp4 {
            Some(("gptq", "the other formats"))
        } else {
            None
        }
    }

    /// Returns whether it needs to know the activations.
    pub fn needs_statistics(self, precision: QuantizedPrecision) -> bool {
        precision.has_activations() || self.smoothing_percent > 0 || self.clipped || self.gptq
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { smoothing_percent, range_percent, clipped, gptq } = self;
        let hundredths = |percent: &u32| f64::from(*percent) / 100.0;
        let mut parts = Vec::new();
        if *smoothing_percent > 0 {
            parts.push(format!("smoothing={}", hundredths(smoothing_percent)));
        }
        if *range_percent != 100 {
            parts.push(format!("range={}", hundredths(range_percent)));
        }
        if *clipped {
            parts.push("clipped".into());
        }
        if *gptq {
            parts.push("gptq".into());
        }
        if parts.is_empty() { f.write_str("max") } else { f.write_str(&parts.join(",")) }
    }
}

/// A string that is not a method.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{part}` is not a part of a method: expected max, smoothing=0.01 to 1, range=0.1 to 4, clipped, or gptq"
)]
pub struct UnknownMethod {
    part: String,
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        let mut method = Self::MAX;
        for part in text.split(',').map(str::trim) {
            let percent = |text: &str, allowed: std::ops::RangeInclusive<u32>| {
                let percent = text.parse::<f64>().ok().map(|number| (number * 100.0).round());
                let percent = percent.filter(|percent| *percent >= 0.0).map(|percent| percent as u32);
                percent
                    .filter(|percent| allowed.contains(percent))
                    .ok_or_else(|| UnknownMethod { part: part.into() })
            };
            match part.split_once('=') {
                None if part == "max" => {}
                None if part == "clipped" => method.clipped = true,
                None if part == "gptq" => method.gptq = true,
                Some(("smoothing", text)) => method.smoothing_percent = percent(text, 1..=100)?,
                Some(("range", text)) => method.range_percent = percent(text, 10..=400)?,
                _ => return Err(UnknownMethod { part: part.into() }),
            }
        }
        Ok(method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_the_same_word() {
        for precision in QuantizedPrecision::ALL {
            assert_eq!(precision.to_string().parse::<QuantizedPrecision>().unwrap(), precision);
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.as_str());
        }
        assert!("mxfp8".parse::<QuantizedPrecision>().is_err());
    }

    #[test]
    fn methods_are_read_as_they_are_written() {
        let method = Method { smoothing_percent: 35, range_percent: 125, clipped: true, gptq: true };
        assert_eq!(method.to_string(), "smoothing=0.35,range=1.25,clipped,gptq");
        for method in [method, Method::MAX] {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
        }
        for bad in ["", "smoothing=0", "smoothing=2", "range=x", "entropy", "range=-1"] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }
}

//! The precision that a profile computes in.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::element_type::ElementType;

/// The floating-point format of a graph's weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754 binary32.
    Fp32,
    /// IEEE 754 binary16: 11 bits of precision, values up to 65504.
    Fp16,
    /// The upper half of a binary32: its range, 8 bits of precision.
    Bf16,
}

/// A string that is not a precision.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a precision: expected fp32, fp16 or bf16")]
pub struct UnknownPrecision {
    text: String,
}

impl Precision {
    /// Returns the name as it is written in recipes and tags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }

    /// Returns the magnitude up to which every whole number is a number of this precision.
    pub const fn exact_integers(self) -> f64 {
        match self {
            Self::Fp32 => 16_777_216.0,
            Self::Fp16 => 2048.0,
            Self::Bf16 => 256.0,
        }
    }

    /// Returns the ONNX element type of this precision.
    pub const fn element_type(self) -> ElementType {
        match self {
            Self::Fp32 => ElementType::Float,
            Self::Fp16 => ElementType::Float16,
            Self::Bf16 => ElementType::Bfloat16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownPrecision> {
        [Self::Fp32, Self::Fp16, Self::Bf16]
            .into_iter()
            .find(|precision| precision.as_str() == text)
            .ok_or_else(|| UnknownPrecision { text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_the_same_word() {
        for precision in [Precision::Fp32, Precision::Fp16, Precision::Bf16] {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.as_str());
        }
        assert!("FP16".parse::<Precision>().is_err());
    }
}

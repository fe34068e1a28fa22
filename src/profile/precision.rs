//! The precision that a profile is called after.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::onnx::quantize::QuantizedPrecision;
use crate::onnx::{LoweringOptions, Precision};

/// The precision of a profile: of all that it computes, or of its quantized products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProfilePrecision {
    /// Nothing is quantized.
    Float(Precision),
    /// Products with constant weights are quantized; the rest is in a base precision.
    Quantized(QuantizedPrecision),
}

/// A string that is not the precision of a profile.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a precision: expected {}", WORDS.join(", "))]
pub struct UnknownProfilePrecision {
    text: String,
}

impl ProfilePrecision {
    /// FP32 throughout.
    pub const FP32: Self = Self::Float(Precision::Fp32);

    /// Returns all of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let floats = [Precision::Fp32, Precision::Fp16, Precision::Bf16].map(Self::Float);
        floats.into_iter().chain(QuantizedPrecision::ALL.into_iter().map(Self::Quantized))
    }

    /// Returns the name as it is written in recipes and tags.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Float(precision) => precision.as_str(),
            Self::Quantized(precision) => precision.as_str(),
        }
    }

    /// Returns the quantized precision, if it is one.
    pub const fn quantized(self) -> Option<QuantizedPrecision> {
        match self {
            Self::Float(_) => None,
            Self::Quantized(precision) => Some(precision),
        }
    }
}

/// All of them, as they are written.
static WORDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| ProfilePrecision::all().map(ProfilePrecision::as_str).collect());

impl From<Precision> for ProfilePrecision {
    fn from(precision: Precision) -> Self {
        Self::Float(precision)
    }
}

impl LoweringOptions {
    /// Returns the precision of a profile whose graphs are lowered in this way.
    pub fn profile_precision(&self) -> ProfilePrecision {
        match &self.quantization {
            None => self.precision.into(),
            Some(quantization) => ProfilePrecision::Quantized(quantization.options.precision),
        }
    }
}

impl fmt::Display for ProfilePrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ProfilePrecision {
    type Err = UnknownProfilePrecision;

    fn from_str(text: &str) -> Result<Self, UnknownProfilePrecision> {
        let found = Self::all().find(|precision| precision.as_str() == text);
        found.ok_or_else(|| UnknownProfilePrecision { text: text.into() })
    }
}

impl Serialize for ProfilePrecision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProfilePrecision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_: UnknownProfilePrecision| de::Error::unknown_variant(&text, &WORDS))
    }
}

impl JsonSchema for ProfilePrecision {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProfilePrecision".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The precision of a profile: of all that it computes, or of its quantized products.",
            "type": "string",
            "enum": *WORDS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_the_same_word() {
        for precision in ProfilePrecision::all() {
            assert_eq!(precision.to_string().parse::<ProfilePrecision>().unwrap(), precision);
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.as_str());
            assert_eq!(
                serde_json::from_value::<ProfilePrecision>(precision.as_str().into()).unwrap(),
                precision
            );
        }
        let error = "fp12".parse::<ProfilePrecision>().unwrap_err().to_string();
        assert!(error.starts_with("`fp12` is not a precision: expected fp32, fp16, bf16, int8,"), "{error}");
    }
}

//! Compute capability: the generation of a GPU's instruction set, `8.9` say (SM 89).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A compute capability, ordered by generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComputeCapability {
    major: u8,
    minor: u8,
}

impl ComputeCapability {
    /// Makes one from its two numbers; `minor` is one digit.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor }
    }

    /// Returns the first number.
    pub const fn major(self) -> u8 {
        self.major
    }

    /// Returns the digit after the point.
    pub const fn minor(self) -> u8 {
        self.minor
    }

    /// Returns the number that CUDA calls SM: 89 for 8.9.
    pub const fn sm(self) -> u16 {
        self.major as u16 * 10 + self.minor as u16
    }
}

/// A text that should be a compute capability and isn't.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a compute capability: expected two numbers with a point, in quotes, as in \"8.9\"")]
pub struct InvalidComputeCapability(String);

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ComputeCapability {
    type Err = InvalidComputeCapability;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (major, minor) = text.split_once('.')?;
            let plain =
                |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            if !plain(major)
                || minor.len() != 1
                || !plain(minor)
                || (major.len() > 1 && major.starts_with('0'))
            {
                return None;
            }
            Some(Self::new(major.parse().ok().filter(|major| *major > 0)?, minor.parse().ok()?))
        };
        parse().ok_or_else(|| InvalidComputeCapability(text.into()))
    }
}

impl Serialize for ComputeCapability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ComputeCapability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ComputeCapability {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ComputeCapability".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[1-9][0-9]*\\.[0-9]$", "examples": ["8.9", "12.0"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_order() {
        for text in ["7.5", "8.0", "8.9", "12.0"] {
            assert_eq!(text.parse::<ComputeCapability>().unwrap().to_string(), text);
        }
        assert!(ComputeCapability::new(8, 9) < ComputeCapability::new(12, 0));
        assert_eq!(ComputeCapability::new(12, 1).sm(), 121);
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "8", "89", "8.", ".9", "8.90", "08.9", "0.1", "8.9a", "+8.9", "sm89"] {
            assert!(text.parse::<ComputeCapability>().is_err(), "{text}");
        }
    }
}

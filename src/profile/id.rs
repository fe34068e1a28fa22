//! Profile ids: the name of a profile's contents.
//!
//! NIM's rule for schema-2 manifests is `hex(BLAKE3-256("k1:v1|k2:v2|…"))` over the tags sorted by key. By itself it
//! says nothing about files; every profile of ours therefore has the tag `content`, which is the SHA-256 of its
//! `contents.json` (see [`super::contents`]). The id is then a NIM id and a content hash at once.
//! `docs/profile-id.md` specifies it for others.
//!
//! Deliberately not in an id: times, host names, absolute paths, environment, map order.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Blake3, InvalidDigest};

/// 64 hex digits that name a profile's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileId(Blake3);

/// The tags of a profile, sorted by key.
pub type Tags = BTreeMap<String, String>;

/// A tag that the id rule can't distinguish from others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTag {
    /// A key that is empty or has a separator in it.
    #[error("tag key `{0}` must not be empty or contain `:` or `|`: NIM's id rule uses them as separators")]
    Key(String),
    /// A value that has a separator in it.
    #[error(
        "the value of tag `{key}`, `{value}`, must not contain `|`: NIM's id rule uses it as a separator"
    )]
    Value {
        /// The tag's key.
        key: String,
        /// Its value.
        value: String,
    },
}

impl ProfileId {
    /// Computes NIM's id of some tags.
    ///
    /// # Errors
    /// A tag with the rule's separators in it, since two different sets of tags could then have one id.
    pub fn of_tags(tags: &Tags) -> Result<Self, InvalidTag> {
        Ok(Self(Blake3::of(hashed_text(tags)?.as_bytes())))
    }

    /// Parses 64 lower-case hex digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_hex(hex: &str) -> Result<Self, InvalidDigest> {
        Blake3::from_hex(hex).map(Self)
    }
}

/// Returns the text that the id is the BLAKE3 of: `k1:v1|k2:v2|…`, sorted by key.
///
/// # Errors
/// As [`ProfileId::of_tags`].
pub fn hashed_text(tags: &Tags) -> Result<String, InvalidTag> {
    let mut pairs = Vec::with_capacity(tags.len());
    for (key, value) in tags {
        if key.is_empty() || key.contains([':', '|']) {
            return Err(InvalidTag::Key(key.clone()));
        }
        if value.contains('|') {
            return Err(InvalidTag::Value { key: key.clone(), value: value.clone() });
        }
        pairs.push(format!("{key}:{value}"));
    }
    Ok(pairs.join("|"))
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

impl Serialize for ProfileId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProfileId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ProfileId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ProfileId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(tags: &[(&str, &str)], expected: &str) {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(ProfileId::of_tags(&tags).unwrap().to_string(), expected);
    }

    /// Public ids of NVIDIA's manifests: if one changes, the rule is no longer NIM's.
    #[test]
    fn public_ids() {
        check(&[("gpu", "a6000")], "425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd");
        check(&[("llm_engine", "vllm")], "e2f00b2cbfb168f907c8d6d4d40406f7261111fbab8b3417a485dcd19d10cc98");
        check(
            &[("precision", "fp16"), ("model_type", "onnx")],
            "e28f17c9c13a99055d065f88d725bf93c23b3aab14acd68f16323de1353fc528",
        );
        check(
            &[("precision", "fp8"), ("gpu", "l4"), ("backend", "tensorrt"), ("model_type", "tensorrt")],
            "737a0c2191e21c442c4b041bddbd7099681cc5b8aeb42c8f992311b807f8d5d3",
        );
        check(
            &[
                ("gpu", "RTX4090"),
                ("gpu_device", "2684:10de"),
                ("model_type", "tensorrt"),
                ("precision", "fp16"),
            ],
            "c761e52b62df2a2a46047aed74dd6e1da8826f3596bec3c197372c7592478f6b",
        );
    }

    #[test]
    fn separators_are_refused() {
        let tags = |key: &str, value: &str| Tags::from([(key.to_owned(), value.to_owned())]);
        assert!(ProfileId::of_tags(&tags("a:b", "c")).is_err());
        assert!(ProfileId::of_tags(&tags("", "c")).is_err());
        assert!(ProfileId::of_tags(&tags("a", "b|c:d")).is_err());
        assert!(ProfileId::of_tags(&tags("gpu_device", "2684:10de")).is_ok());
    }

    proptest! {
        /// Different tags never give one text, so ids collide only if BLAKE3 does.
        #[test]
        fn hashed_text_is_injective(a: BTreeMap<String, String>, b: BTreeMap<String, String>) {
            if let (Ok(text_a), Ok(text_b)) = (hashed_text(&a), hashed_text(&b)) {
                prop_assert_eq!(a == b, text_a == text_b);
            }
        }
    }
}

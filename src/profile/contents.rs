//! `contents.json`: what a profile is made of, as canonical JSON whose SHA-256 is the tag `content`.
//!
//! | value | build key | contents (and so the id) |
//! | --- | --- | --- |
//! | model name and release | no: a plan doesn't know them | yes |
//! | bytes of the source graphs | yes | yes |
//! | version of the lowering | yes | yes, as part of the toolchain |
//! | lowering options | yes | no: their effect is in the files¹ |
//! | quantization: options, and the quantized graph | yes | no: their effect is in the files¹ |
//! | samples and versions of calibration | no: the quantized graph is | no: its effect is in the files¹ |
//! | precision | yes | yes |
//! | backend, toolchain | yes | yes |
//! | target | yes, what the compiler is told² | yes, as the recipe names it |
//! | what nodes call the target | no | yes, as tags |
//! | shape ranges | yes | yes |
//! | revision of our worker | yes | no: its effect is in the files¹ |
//! | workspace limit and other flags | yes | no: their effect is in the files¹ |
//! | bytes of the built files | no: they come out | yes |
//! | times, host names, absolute paths, environment | no | no |
//!
//! ¹ Two option sets that give the same bytes give the same profile, and should.
//! ² Eight GPUs of one compute capability share one TensorRT-RTX plan, so its key has the capability, not the GPU.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::Tags;
use super::precision::ProfilePrecision;
use super::spec::{largest_batch, tags_before_build};
use super::target::Target;
use crate::backend::Backend;
use crate::canonical;
use crate::digest::Sha256;
use crate::onnx::GraphDigest;
use crate::shape_range::ShapeRange;
use crate::stored_format::{self, Unreadable};

/// The schema name inside `contents.json`.
pub const CONTENTS_SCHEMA: &str = "nimctl.contents/2";
/// The schema before it, which has no `gpu_tags`.
const CONTENTS_SCHEMA_1: &str = "nimctl.contents/1";
/// The file's name inside a profile.
pub const CONTENTS_FILE: &str = "contents.json";

/// The document behind a profile's `content` tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// [`CONTENTS_SCHEMA`].
    pub schema: String,
    /// The model and its release.
    pub model: ModelRelease,
    /// Digests of the source graphs, before lowering.
    pub graphs: BTreeMap<String, GraphDigest>,
    /// The backend that runs the profile.
    pub backend: Backend,
    /// Versions and digests of what built it.
    pub toolchain: BTreeMap<String, ToolIdentity>,
    /// What the profile is for.
    pub target: Target,
    /// The tags by which other readers find the target: `product_name_regex` and `gpu_device` of a GPU. Absent in
    /// `nimctl.contents/1` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_tags: Option<Tags>,
    /// The precision of its weights and arithmetic; that of its quantized products for a quantized one.
    pub precision: ProfilePrecision,
    /// Shape ranges by graph and input.
    pub shape_ranges: BTreeMap<String, BTreeMap<String, ShapeRange>>,
    /// Every other file of the profile, sorted by path.
    pub files: Vec<ContentsFile>,
}

/// A model's name and release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRelease {
    /// The model's name.
    pub name: String,
    /// Its release.
    pub release: String,
}

/// What identifies a tool: its version and the digests of its libraries by file name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolIdentity {
    /// The version, as the tool says it.
    pub version: String,
    /// Digests of its libraries, by file name.
    #[serde(default)]
    pub libraries: BTreeMap<String, Sha256>,
}

/// One file of a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentsFile {
    /// Its path inside the profile, with `/`.
    pub path: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl Contents {
    /// Reads the text of a `contents.json`; `path` is only named in errors.
    ///
    /// # Errors
    /// Contents of a newer nimctl, or damaged ones. Whether the text is the canonical one is for the caller to say.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        let first =
            stored_format::head_of_json(bytes).ok().flatten().filter(|found| found == CONTENTS_SCHEMA_1);
        let contents: Self =
            stored_format::from_json(bytes, first.as_deref().unwrap_or(CONTENTS_SCHEMA), path)?;
        contents.check_schema(path)?;
        Ok(contents)
    }

    /// Checks that they have a schema that this nimctl reads; `path` is only named in errors.
    ///
    /// # Errors
    /// Contents of a newer nimctl, or of a schema that has other members.
    pub fn check_schema(&self, path: &str) -> Result<(), Unreadable> {
        if self.schema != CONTENTS_SCHEMA_1 {
            stored_format::check(&self.schema, CONTENTS_SCHEMA, path)?;
        }
        if self.gpu_tags.is_some() == (self.schema == CONTENTS_SCHEMA) {
            return Ok(());
        }
        let problem =
            format!("`gpu_tags` belongs to `{CONTENTS_SCHEMA}`, and its schema is `{}`", self.schema);
        Err(Unreadable::Damaged { path: path.into(), problem })
    }

    /// Returns the profile's tags, which follow from the contents; `content` is the digest of the exact bytes of
    /// `contents.json`.
    pub fn tags(&self, content: &Sha256) -> Tags {
        let Self {
            schema: _,
            model: _,
            graphs: _,
            backend,
            toolchain,
            target,
            gpu_tags,
            precision,
            shape_ranges,
            files: _,
        } = self;
        let gpu_tags = gpu_tags.clone().unwrap_or_default();
        let mut tags = tags_before_build(backend, *precision, target, &gpu_tags, largest_batch(shape_ranges));
        if let Some(tool) = toolchain.get(backend.name()).filter(|_| backend.facts().has_trt_version) {
            tags.insert("trt_version".into(), tool.version.clone());
        }
        tags.insert("content".into(), content.to_hex());
        tags
    }

    /// Returns the exact bytes of `contents.json`.
    ///
    /// # Errors
    /// A size beyond 2^53 - 1.
    pub fn to_canonical_json(&self) -> Result<String, canonical::NotCanonical> {
        canonical::to_string(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of an earlier nimctl, which must stay readable.
    const GOLDEN: &str = include_str!("../../tests/fixtures/formats/contents.json");
    const GOLDEN_1: &str = include_str!("../../tests/fixtures/formats/contents-1.json");

    #[test]
    fn the_golden_file_is_read_and_written_as_it_was() {
        let contents = Contents::parse(GOLDEN.as_bytes(), "c").unwrap();
        assert_eq!(contents.to_canonical_json().unwrap(), GOLDEN);
    }

    #[test]
    fn newer_contents_are_refused() {
        let newer = GOLDEN.replace("nimctl.contents/2", "nimctl.contents/3");
        let error = Contents::parse(newer.as_bytes(), "c").unwrap_err().to_string();
        assert!(error.starts_with("c: written by a newer nimctl (schema nimctl.contents/3"), "{error}");
    }

    /// Profiles keep their ids, whatever a later nimctl adds to new ones.
    #[test]
    fn the_first_schema_is_read_and_written_as_it_was() {
        let contents = Contents::parse(GOLDEN_1.as_bytes(), "c").unwrap();
        assert_eq!(contents.to_canonical_json().unwrap(), GOLDEN_1);
        let tags = contents.tags(&Sha256::of(GOLDEN_1.as_bytes()));
        assert!(!tags.contains_key("product_name_regex"));
        let id = super::super::id::ProfileId::of_tags(&tags).unwrap();
        assert_eq!(id.to_string(), "750d494dc55c04609169d42bb88ddf6eaca33823aa0a193ca9b2785ee2ab0a4b");
        for (text, from, to) in [(GOLDEN, "/2", "/1"), (GOLDEN_1, "/1", "/2")] {
            let other = text.replace(&format!("nimctl.contents{from}"), &format!("nimctl.contents{to}"));
            let error = Contents::parse(other.as_bytes(), "c").unwrap_err().to_string();
            assert!(error.contains("`gpu_tags` belongs to `nimctl.contents/2`"), "{error}");
        }
    }

    #[test]
    fn gpu_tags_are_tags() {
        let contents = Contents::parse(GOLDEN.as_bytes(), "c").unwrap();
        let tags = contents.tags(&Sha256::of(GOLDEN.as_bytes()));
        assert_eq!(tags["gpu_device"], "27b8:10de");
        assert_eq!(tags["product_name_regex"], "^NVIDIA-L4(-SHARED)?$");
        // They replace no other tag.
        let mut hostile = contents;
        hostile.gpu_tags = Some(Tags::from([("content".into(), "0".into()), ("gpu".into(), "t4".into())]));
        let content = Sha256::of(b"c");
        assert_eq!(hostile.tags(&content)["content"], content.to_hex());
        assert_eq!(hostile.tags(&content)["gpu"], "l4");
    }

    fn safe(number: i64) -> bool {
        number.unsigned_abs() < 1 << 53
    }

    proptest! {
        /// A stranger's numbers have a canonical form or are refused; nothing overflows on the way to an id.
        #[test]
        fn any_numbers(
            shape in prop::collection::vec(any::<i64>(), 0..4),
            size_bytes in any::<u64>(),
            path in ".{0,12}",
        ) {
            let mut contents = Contents::parse(GOLDEN.as_bytes(), "c").unwrap();
            let range = ShapeRange { min: shape.clone(), opt: Vec::new(), max: shape.clone() };
            contents.shape_ranges = BTreeMap::from([("g".into(), BTreeMap::from([("x".into(), range)]))]);
            contents.files[0].size_bytes = size_bytes;
            contents.files[0].path = path;
            let text = serde_json::to_string(&contents).unwrap();
            let read = Contents::parse(text.as_bytes(), "c").unwrap();
            prop_assert_eq!(&read, &contents);
            let is_safe = shape.iter().copied().all(safe) && size_bytes < 1 << 53;
            prop_assert_eq!(read.to_canonical_json().is_ok(), is_safe);
            let tags = read.tags(&Sha256::of(text.as_bytes()));
            prop_assert!(super::super::id::ProfileId::of_tags(&tags).is_ok());
        }

        #[test]
        fn any_bytes_are_no_contents(bytes: Vec<u8>) {
            prop_assert!(Contents::parse(&bytes, "c").is_err());
        }
    }
}

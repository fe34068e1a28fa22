//! `model_manifest.yaml`: the index of profiles.
//!
//! | form | how to recognize it | written by |
//! | --- | --- | --- |
//! | schema 2.0 | `schema_version: "2.0"` or `2.0.0`; a list of profiles | nimctl, and NIM since 2025 |
//! | the map of 2024 | no `schema_version`; a mapping by profile id, with YAML tags `!workspace`, `!name` | NIM before 2025 |
//!
//! [`ManifestDocument`] reads both and loses nothing: it keeps unknown keys and writes them back. [`Manifest`] is the
//! known part.
//!
//! nimctl writes the same bytes for the same profiles: profiles are in the recipe's order, tags and files are sorted,
//! and a file's `uri` is `store:sha256:<hex>` in a build, `file:<path>` in a release and what a publisher says later. The uri is
//! not part of the contents, so none of this changes an id.

mod convert;
mod diff;
mod document;
mod error;
mod form;
mod id_kind;
mod import;
mod merge;
mod read;
mod uri;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::backend;
use crate::profile::{InvalidTag, ModelRelease, ProfileId, Tags};

pub use convert::convert;
pub use diff::{Changed, FileChange, ManifestDiff, TagChange, diff};
pub use document::ManifestDocument;
pub use error::ManifestError;
pub use form::Form;
pub use id_kind::IdKind;
pub use import::import;
pub use merge::{MergeError, merge};
pub use uri::{file_path, file_uri, oci_uri, store_digest, store_uri};

/// The schema version that nimctl writes.
const SCHEMA_VERSION: &str = "2.0";
/// The manifest's usual file name.
pub const MANIFEST_FILE: &str = "model_manifest.yaml";

/// The known part of a manifest, in the terms of schema 2.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Manifest {
    schema_version: String,
    profile_selection_criteria: String,
    /// The model's name; manifests from other tools may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's release; manifests from other tools may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The profiles.
    pub profiles: Vec<ManifestProfile>,
}

/// One profile of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ManifestProfile {
    /// The id: 64 hex digits in schema 2.0, though other tools also write free-form strings.
    pub id: String,
    /// The tags, sorted by key.
    pub tags: Tags,
    /// Its files.
    #[serde(default)]
    pub workspace: Workspace,
}

/// The files of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Workspace {
    /// Files by destination path inside the workspace.
    #[serde(default)]
    pub files: BTreeMap<String, ManifestFile>,
}

/// One file of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ManifestFile {
    /// Where the bytes are; the 2024 form doesn't say it for each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// `blake3:<hex>`; some manifests lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

impl Manifest {
    /// Makes the manifest of one release.
    ///
    /// # Errors
    /// Two profiles with equal tags (apart from `content`).
    pub fn new(model: &ModelRelease, profiles: Vec<ManifestProfile>) -> Result<Self, ManifestError> {
        let ModelRelease { name, release } = model.clone();
        if let Some((first, second)) = equal_tags(&profiles).into_iter().next() {
            return Err(ManifestError::EqualTags { first, second });
        }
        Ok(Self {
            schema_version: SCHEMA_VERSION.into(),
            profile_selection_criteria: "auto".into(),
            model: Some(name),
            release: Some(release),
            profiles,
        })
    }

    /// Reads the known part of a manifest; `path` is used only in errors.
    ///
    /// # Errors
    /// As [`ManifestDocument::parse`].
    pub fn parse(text: &str, path: &str) -> Result<Self, ManifestError> {
        Ok(ManifestDocument::parse(text.as_bytes(), path)?.into_manifest())
    }

    /// Returns the exact text of the file.
    ///
    /// # Errors
    /// A value that YAML can't hold.
    pub fn to_yaml(&self) -> Result<String, ManifestError> {
        // A value is one line, however long it is: simple readers know no folded strings.
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        serde_saphyr::to_string_with_options(self, options)
            .map_err(|error| ManifestError::Write(error.to_string()))
    }
}

impl ManifestProfile {
    /// Returns the id that NIM's rule gives the tags.
    ///
    /// # Errors
    /// Tags with the rule's separators in them.
    pub fn computed_id(&self) -> Result<ProfileId, InvalidTag> {
        ProfileId::of_tags(&self.tags)
    }

    /// Returns a readable name made from the tags: `tensorrt-rtx-l40s-fp16`, `tensorrt_llm-a100-fp16-tp2-latency`.
    /// Several profiles of a manifest may have the same one.
    pub fn readable_name(&self) -> String {
        let name = self.name_parts().join("-");
        if name.is_empty() { self.id.clone() } else { name }
    }

    /// Returns the parts of the readable name.
    pub(crate) fn name_parts(&self) -> Vec<String> {
        let tag = |key: &str| self.tags.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let capabilities =
            tag("compute_capability").map(|list| format!("sm{}", list.replace('.', "").replace('+', "-sm")));
        let count = |key: &str| tag(key).map(|count| format!("{key}{count}"));
        let parts = [
            backend_of_tags(&self.tags).map(str::to_lowercase),
            is_set(&self.tags, "trtllm_buildable").then(|| "trtllm_buildable".to_owned()),
            tag("gpu").map(|gpu| gpu.to_lowercase().replace(' ', "-")).or(capabilities),
            tag("precision").map(str::to_lowercase),
            count("tp"),
            count("pp"),
            tag("profile").map(str::to_lowercase),
            tag("feat_lora").filter(|value| value.eq_ignore_ascii_case("true")).map(|_| "lora".to_owned()),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// Returns the backend that tags name: in `llm_engine`, else `backend`, else `model_type`, else `type` if it is the name of a
/// backend (`type: TensorRT`, but not `type: vlm`).
pub fn backend_of_tags(tags: &Tags) -> Option<&str> {
    let tag = |key: &str| tags.get(key).map(|value| value.trim()).filter(|value| !value.is_empty());
    let kind = || tag("type").filter(|value| backend::is_known_tag(&value.to_lowercase()));
    tag("llm_engine").or_else(|| tag("backend")).or_else(|| tag("model_type")).or_else(kind)
}

/// Returns whether a tag says yes: `true`, `enabled`, `yes`, `on` or `1`.
pub fn is_set(tags: &Tags, key: &str) -> bool {
    let value = tags.get(key).map(|value| value.trim().to_lowercase());
    matches!(value.as_deref(), Some("true" | "enabled" | "yes" | "on" | "1"))
}

/// Returns pairs of ids of profiles whose tags are equal apart from `content`: the first such profile and each later one.
pub(crate) fn equal_tags(profiles: &[ManifestProfile]) -> Vec<(String, String)> {
    let mut seen: BTreeMap<Vec<(&str, &str)>, &str> = BTreeMap::new();
    let mut pairs = Vec::new();
    for profile in profiles {
        let tags = profile.tags.iter().filter(|(key, _)| *key != "content");
        let tags = tags.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        match seen.get(&tags) {
            Some(first) => pairs.push(((*first).to_owned(), profile.id.clone())),
            None => _ = seen.insert(tags, &profile.id),
        }
    }
    pairs
}

#[cfg(test)]
mod tests;

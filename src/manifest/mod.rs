//! `model_manifest.yaml`: the index of profiles, in NIM's schema 2.0.
//!
//! Written by us, it is the same file, byte for byte, for the same profiles: profiles are in the recipe's order, tags
//! and files are sorted, and a file's `uri` is `store:sha256:<hex>` until it is published. The uri is no part of the
//! contents, so publishing changes no id.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Blake3, Sha256};
use crate::profile::{InvalidTag, ModelRelease, ProfileId, Tags};

/// The schema version that we write.
const SCHEMA_VERSION: &str = "2.0";
/// The manifest's usual file name.
pub const MANIFEST_FILE: &str = "model_manifest.yaml";

/// A manifest of schema 2.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    schema_version: String,
    profile_selection_criteria: String,
    /// The model's name; manifests of others may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model's release; manifests of others may lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The profiles.
    pub profiles: Vec<ManifestProfile>,
}

/// One profile of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestProfile {
    /// The id: 64 hex digits in schema 2.0, though others also write free text.
    pub id: String,
    /// The tags, sorted by key.
    pub tags: Tags,
    /// Its files.
    #[serde(default)]
    pub workspace: Workspace,
}

/// The files of a profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workspace {
    /// Files by destination path inside the workspace.
    #[serde(default)]
    pub files: BTreeMap<String, ManifestFile>,
}

/// One file of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManifestFile {
    /// Where the bytes are.
    pub uri: String,
    /// `blake3:<hex>`; some manifests lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Blake3>,
}

/// A manifest that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the YAML of schema 2.0.
    #[error("{path} is not a manifest of NIM schema 2.0: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// The reader's words, with a snippet.
        message: String,
    },
    /// Another schema version.
    #[error("{path} has schema version {found}; this nimctl reads 2.0")]
    Version {
        /// The file.
        path: String,
        /// What it says.
        found: String,
    },
    /// Two profiles that no tag tells apart.
    #[error("profiles {first} and {second} have equal tags: nobody could select between them")]
    EqualTags {
        /// One id.
        first: String,
        /// The other.
        second: String,
    },
    /// Tags that have no id.
    #[error(transparent)]
    Tag(#[from] InvalidTag),
    /// The text could not be made.
    #[error("cannot write the manifest as YAML: {0}")]
    Write(String),
}

impl Manifest {
    /// Makes the manifest of one release.
    ///
    /// # Errors
    /// Two profiles with equal tags (the tag `content` aside).
    pub fn new(model: &ModelRelease, profiles: Vec<ManifestProfile>) -> Result<Self, ManifestError> {
        let ModelRelease { name, release } = model.clone();
        let mut seen: BTreeMap<Tags, String> = BTreeMap::new();
        for profile in &profiles {
            let mut tags = profile.tags.clone();
            tags.remove("content");
            if let Some(first) = seen.insert(tags, profile.id.clone()) {
                return Err(ManifestError::EqualTags { first, second: profile.id.clone() });
            }
        }
        Ok(Self {
            schema_version: SCHEMA_VERSION.into(),
            profile_selection_criteria: "auto".into(),
            model: Some(name),
            release: Some(release),
            profiles,
        })
    }

    /// Reads a manifest; `path` is only named in errors.
    ///
    /// # Errors
    /// YAML that isn't schema 2.0, with the position.
    pub fn parse(text: &str, path: &str) -> Result<Self, ManifestError> {
        let manifest: Self = serde_saphyr::from_str(text)
            .map_err(|error| ManifestError::Syntax { path: path.into(), message: error.to_string() })?;
        if manifest.schema_version != "2.0" && manifest.schema_version != "2.0.0" {
            return Err(ManifestError::Version { path: path.into(), found: manifest.schema_version });
        }
        Ok(manifest)
    }

    /// Returns the exact text of the file.
    ///
    /// # Errors
    /// A value that YAML can't hold.
    pub fn to_yaml(&self) -> Result<String, ManifestError> {
        serde_saphyr::to_string(self).map_err(|error| ManifestError::Write(error.to_string()))
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
}

/// Returns the uri of a file that only the store has.
pub fn store_uri(sha256: &Sha256) -> String {
    format!("store:{sha256}")
}

/// Returns the digest in the uri of a file that only the store has.
pub fn store_digest(uri: &str) -> Option<Sha256> {
    uri.strip_prefix("store:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(tags: &[(&str, &str)]) -> ManifestProfile {
        let tags: Tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let file = ManifestFile { uri: store_uri(&Sha256::of(b"x")), checksum: Some(Blake3::of(b"x")) };
        ManifestProfile {
            id: ProfileId::of_tags(&tags).unwrap().to_string(),
            tags,
            workspace: Workspace { files: BTreeMap::from([("vision/model.plan".into(), file)]) },
        }
    }

    fn release() -> ModelRelease {
        ModelRelease { name: "m".into(), release: "2.0.0".into() }
    }

    /// The golden text: a change here changes every committed manifest.
    #[test]
    fn golden_text() {
        let manifest =
            Manifest::new(&release(), vec![profile(&[("gpu", "l4"), ("batch_size", "64")])]).unwrap();
        insta::assert_snapshot!(manifest.to_yaml().unwrap(), @r#"
        schema_version: "2.0"
        profile_selection_criteria: auto
        model: m
        release: "2.0.0"
        profiles:
        - id: 639755899cd1a9e84692b84591e74522a18c0c1729bbd123b4079eedb27ed616
          tags:
            batch_size: "64"
            gpu: l4
          workspace:
            files:
              vision/model.plan:
                uri: store:sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
                checksum: blake3:3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5
        "#);
        assert_eq!(Manifest::parse(&manifest.to_yaml().unwrap(), "m.yaml").unwrap(), manifest);
    }

    #[test]
    fn equal_tags_are_refused() {
        let twice =
            vec![profile(&[("gpu", "l4"), ("content", "a")]), profile(&[("gpu", "l4"), ("content", "b")])];
        assert!(matches!(Manifest::new(&release(), twice), Err(ManifestError::EqualTags { .. })));
    }

    #[test]
    fn other_versions_are_named() {
        let error = Manifest::parse(
            "schema_version: '3.0'\nprofile_selection_criteria: auto\nprofiles: []\n",
            "m.yaml",
        );
        insta::assert_snapshot!(error.unwrap_err(), @"m.yaml has schema version 3.0; this nimctl reads 2.0");
    }
}

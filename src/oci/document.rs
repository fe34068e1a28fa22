//! Manifests and indexes: the parts of them that are used, read from what anyone may have written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{INDEX_TYPE, MANIFEST_TYPE, TITLE};
use crate::digest::Sha256;

/// What every document of the image specification says of itself.
const SCHEMA_VERSION: u32 = 2;
/// A document has at most this many entries.
const MAX_ENTRIES: usize = 10_000;

/// A reference to a blob or a manifest, with its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Of which kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its digest.
    pub digest: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest: a config and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST_TYPE`].
    #[serde(default = "manifest_type")]
    pub media_type: String,
    /// Of which kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// The layers.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index: manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// 2.
    pub schema_version: u32,
    /// [`INDEX_TYPE`].
    #[serde(default = "index_type")]
    pub media_type: String,
    /// Of which kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<Descriptor>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn manifest_type() -> String {
    MANIFEST_TYPE.into()
}

fn index_type() -> String {
    INDEX_TYPE.into()
}

/// A document that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not one that nimctl can read: {problem}")]
pub struct InvalidDocument {
    /// The document, as the user knows it.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Descriptor {
    /// Describes some bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Sha256::of(bytes), bytes.len() as u64)
    }

    /// Describes a blob by its digest and size in bytes.
    pub fn new(media_type: &str, digest: Sha256, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            artifact_type: None,
            digest,
            size,
            annotations: BTreeMap::new(),
        }
    }

    /// Adds an annotation.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Returns its title: the path of a file.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

impl ImageManifest {
    /// Makes a manifest of this kind.
    pub fn new(artifact_type: &str, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: manifest_type(),
            artifact_type: Some(artifact_type.into()),
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a manifest; `what` names it in errors.
    ///
    /// # Errors
    /// Anything else, or one of more layers than any has.
    pub fn parse(bytes: &[u8], what: &str) -> Result<Self, InvalidDocument> {
        let manifest: Self = parse(bytes, what)?;
        check(
            what,
            "manifest",
            (&manifest.media_type, MANIFEST_TYPE),
            manifest.schema_version,
            manifest.layers.len(),
        )?;
        Ok(manifest)
    }

    /// Returns its bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Returns the layer of this type, if there is exactly one.
    pub fn layer(&self, media_type: &str) -> Option<&Descriptor> {
        let mut found = self.layers.iter().filter(|layer| layer.media_type == media_type);
        found.next().filter(|_| found.next().is_none())
    }
}

impl ImageIndex {
    /// Makes an index of this kind.
    pub fn new(artifact_type: Option<&str>, manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: index_type(),
            artifact_type: artifact_type.map(Into::into),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads an index; `what` names it in errors.
    ///
    /// # Errors
    /// Anything else, or one of more manifests than any has.
    pub fn parse(bytes: &[u8], what: &str) -> Result<Self, InvalidDocument> {
        let index: Self = parse(bytes, what)?;
        check(what, "index", (&index.media_type, INDEX_TYPE), index.schema_version, index.manifests.len())?;
        Ok(index)
    }

    /// Returns its bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, InvalidDocument> {
    serde_json::from_slice(bytes)
        .map_err(|error| InvalidDocument { what: what.into(), problem: error.to_string() })
}

fn check(
    what: &str,
    kind: &str,
    (found, expected): (&str, &str),
    version: u32,
    entries: usize,
) -> Result<(), InvalidDocument> {
    let problem = if found != expected {
        format!("it is `{}`, not an OCI image {kind}", found.escape_debug())
    } else if version != SCHEMA_VERSION {
        format!("its schema version is {version}, not {SCHEMA_VERSION}")
    } else if entries > MAX_ENTRIES {
        format!("it has {entries} entries, more than {MAX_ENTRIES}")
    } else {
        return Ok(());
    };
    Err(InvalidDocument { what: what.into(), problem })
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|_| unreachable!("numbers and texts have a JSON form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let layer = Descriptor::of("a/b", b"x").with(TITLE, "x");
        let mut manifest =
            ImageManifest::new("t/a", Descriptor::of("c/d", b"{}"), vec![layer.clone(), layer.clone()]);
        assert_eq!(ImageManifest::parse(&manifest.to_json(), "m").unwrap(), manifest);
        assert_eq!(manifest.layer("a/b"), None);
        manifest.layers.pop();
        assert_eq!(manifest.layer("a/b").unwrap().title(), Some("x"));
        let index = ImageIndex::new(None, vec![layer]);
        assert_eq!(ImageIndex::parse(&index.to_json(), "i").unwrap(), index);
        let error = ImageManifest::parse(&index.to_json(), "m").unwrap_err().to_string();
        assert!(error.starts_with("m is not one that nimctl can read: "), "{error}");
    }

    #[test]
    fn others_documents() {
        let docker = br#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}"#;
        let error = ImageIndex::parse(docker, "i").unwrap_err().to_string();
        assert!(error.contains("not an OCI image index"), "{error}");
        assert!(ImageIndex::parse(br#"{"schemaVersion":1,"manifests":[]}"#, "i").is_err());
        // The media type may be left out, and unknown fields are for others.
        let plain = br#"{"schemaVersion":2,"manifests":[],"annotations":{"a":"b"},"other":{"x":[1]}}"#;
        assert_eq!(ImageIndex::parse(plain, "i").unwrap().annotations["a"], "b");
        assert!(
            ImageIndex::parse(
                br#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha512:00","size":-1}]}"#,
                "i"
            )
            .is_err()
        );
    }
}

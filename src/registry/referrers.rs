//! What hangs on an artifact: the referrers API, and where a registry has none, the list under a tag of the subject.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::Client;
use super::manifests::Manifest;
use super::{Reference, RegistryError, Repository};
use crate::digest::Sha256;

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// How often a list is read and written again because another client wrote it at the same time.
const MAX_ROUNDS: usize = 5;

/// What a list says of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of artifact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Client<'_> {
    /// Returns the manifests whose `subject` has this digest, of one artifact type or of all.
    ///
    /// # Errors
    /// The registry can't be reached, fails, or sends no index.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: &Sha256,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let all = self.in_places(repository, |place| {
            let what = format!("the referrers of {subject} in {place}");
            let listed = self.pages(place, &format!("referrers/{subject}"), &what, descriptors);
            match listed {
                Err(error) if matches!(error.status(), Some(400 | 404 | 405 | 501)) => {
                    Ok(self.fallback(place, subject)?.as_ref().and_then(descriptors).unwrap_or_default())
                }
                listed => listed,
            }
        })?;
        let is_wanted =
            |entry: &Descriptor| artifact_type.is_none() || entry.artifact_type.as_deref() == artifact_type;
        Ok(all.into_iter().filter(is_wanted).collect())
    }

    /// Returns the index under the tag of a subject, if there is one.
    fn fallback(&self, place: &Repository, subject: &Sha256) -> Result<Option<Value>, RegistryError> {
        let reference = fallback_tag(place, subject);
        let found = self.retrying(place.host(), || match self.get_manifest_once(&reference) {
            Err(RegistryError::NotFound { .. }) => Ok(None),
            found => found.map(Some),
        })?;
        let Some(Manifest { bytes, .. }) = found else { return Ok(None) };
        let index: Option<Value> = serde_json::from_slice(&bytes).ok();
        index.filter(|index| index["manifests"].is_array()).map(Some).ok_or_else(|| {
            RegistryError::BadAnswer {
                request: format!("manifest {reference}"),
                problem: "it is not an index of referrers".into(),
            }
        })
    }

    /// Adds a manifest with a `subject` to the list under the subject's tag. Clients that write it at the same time may drop each
    /// other's entries, so it is read again.
    pub(super) fn add_to_fallback(
        &self,
        repository: &Repository,
        media_type: &str,
        manifest: &[u8],
        digest: Sha256,
    ) -> Result<(), RegistryError> {
        let json: Value = serde_json::from_slice(manifest).unwrap_or_default();
        let Some(subject) = json["subject"]["digest"].as_str().and_then(|text| text.parse().ok()) else {
            return Ok(());
        };
        let config_type = json["config"]["mediaType"].as_str();
        let artifact_type = json["artifactType"].as_str().filter(|name| !name.is_empty()).or(config_type);
        let mut entry = json!({ "mediaType": media_type, "digest": digest, "size": manifest.len() });
        if let Some(artifact_type) = artifact_type {
            entry["artifactType"] = artifact_type.into();
        }
        if json["annotations"].is_object() {
            entry["annotations"] = json["annotations"].clone();
        }
        let is_there = |index: &Value| {
            let listed = index["manifests"].as_array();
            listed.is_some_and(|listed| listed.iter().any(|other| other["digest"] == entry["digest"]))
        };
        for _ in 0..MAX_ROUNDS {
            let mut index = self
                .fallback(repository, &subject)?
                .unwrap_or_else(|| json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [] }));
            if is_there(&index) {
                return Ok(());
            }
            if let Some(listed) = index["manifests"].as_array_mut() {
                listed.push(entry.clone());
            }
            let tag = fallback_tag(repository, &subject);
            self.put_manifest(&tag, INDEX_TYPE, index.to_string().as_bytes())?;
        }
        match self.fallback(repository, &subject)? {
            Some(index) if is_there(&index) => Ok(()),
            _ => Err(RegistryError::BadAnswer {
                request: format!("manifest {}", fallback_tag(repository, &subject)),
                problem: format!("{digest} was added to the list of referrers, and is not in it"),
            }),
        }
    }
}

/// `sha256-<hex>`, as the specification names it.
fn fallback_tag(repository: &Repository, subject: &Sha256) -> Reference {
    let tag = Some(format!("sha256-{}", subject.to_hex()));
    Reference { repository: repository.clone(), tag, digest: None }
}

/// Returns what an index lists; entries of other kinds of digest are left out.
fn descriptors(index: &Value) -> Option<Vec<Descriptor>> {
    let listed = index["manifests"].as_array()?;
    Some(listed.iter().filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect())
}

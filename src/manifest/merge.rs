//! Several manifests of one release → one.

use std::collections::BTreeMap;

use super::document::ManifestDocument;
use super::error::ManifestError;
use super::{ManifestProfile, convert, equal_tags};
use crate::yaml::{Node, Value};

/// Manifests that can't be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Nothing to merge.
    #[error("no manifests to merge")]
    Nothing,
    /// They have different models or releases.
    #[error(
        "{first_path} has {key} {first}, and {second_path} has {second}: only manifests of one model and release can be merged"
    )]
    Different {
        /// `model` or `release`.
        key: &'static str,
        /// A manifest.
        first_path: String,
        /// Its model or release.
        first: String,
        /// Another manifest.
        second_path: String,
        /// The other model or release.
        second: String,
    },
    /// Different profiles have the same id.
    #[error("profile {id} has different tags or files in {first_path} and {second_path}")]
    Conflict {
        /// The id.
        id: String,
        /// A manifest.
        first_path: String,
        /// Another manifest.
        second_path: String,
    },
    /// The result is not a valid manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Merges manifests; each comes with its path for errors.
///
/// Profiles keep their order, and the other keys are those of the first manifest. A profile that several manifests have
/// is taken once; if only its uris differ, the last manifest wins.
///
/// # Errors
/// Different models or releases, one id with different contents, different ids with equal tags.
pub fn merge(documents: &[(String, ManifestDocument)]) -> Result<ManifestDocument, MergeError> {
    let Some((first_path, first)) = documents.first() else { return Err(MergeError::Nothing) };
    let mut tree = convert(first, first_path)?.tree().clone();
    let mut merged: Vec<Node> = Vec::new();
    // By id: index in `merged`, the profile, and the manifest that it is from.
    let mut known: BTreeMap<String, (usize, ManifestProfile, &str)> = BTreeMap::new();
    for (path, document) in documents {
        same("model", (first_path, &first.manifest().model), (path, &document.manifest().model))?;
        same("release", (first_path, &first.manifest().release), (path, &document.manifest().release))?;
        let document = convert(document, path)?;
        let nodes = document.tree().get("profiles").and_then(Node::as_sequence).unwrap_or_default();
        for (profile, node) in document.manifest().profiles.iter().zip(nodes) {
            match known.get(&profile.id) {
                None => {
                    known.insert(profile.id.clone(), (merged.len(), profile.clone(), path));
                    merged.push(node.clone());
                }
                Some((place, other, other_path)) => {
                    if bare(profile) != bare(other) {
                        return Err(MergeError::Conflict {
                            id: profile.id.clone(),
                            first_path: (*other_path).into(),
                            second_path: path.clone(),
                        });
                    }
                    merged[*place] = node.clone();
                }
            }
        }
    }
    if let Some(profiles) = tree.get_mut("profiles") {
        profiles.value = Value::Sequence(merged);
    }
    let merged = ManifestDocument::of_tree(tree, first_path)?;
    match equal_tags(&merged.manifest().profiles).into_iter().next() {
        Some((first, second)) => Err(ManifestError::EqualTags { first, second }.into()),
        None => Ok(merged),
    }
}

/// Returns a profile without the uris of its files.
fn bare(profile: &ManifestProfile) -> ManifestProfile {
    let mut profile = profile.clone();
    profile.workspace.files.values_mut().for_each(|file| file.uri = None);
    profile
}

fn same(
    key: &'static str,
    (first_path, first): (&str, &Option<String>),
    (second_path, second): (&str, &Option<String>),
) -> Result<(), MergeError> {
    match (first, second) {
        (Some(a), Some(b)) if a != b => Err(MergeError::Different {
            key,
            first_path: first_path.into(),
            first: a.clone(),
            second_path: second_path.into(),
            second: b.clone(),
        }),
        _ => Ok(()),
    }
}

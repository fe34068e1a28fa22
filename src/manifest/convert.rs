//! The form of 2024 → schema 2.0.

use super::document::ManifestDocument;
use super::error::ManifestError;
use super::{Form, ManifestProfile, SCHEMA_VERSION};
use crate::yaml::Node;

/// Converts a document of any form to schema 2.0; `path` is used only in errors.
///
/// Ids are kept, and so are a profile's keys that schema 2.0 doesn't define. A model and release that all profiles share
/// become the manifest's. Files become destination paths; if a component names its repository, they have the uri
/// `<repo_id>?file=<name>`.
///
/// # Errors
/// Only if the document was changed after it was read.
pub fn convert(document: &ManifestDocument, path: &str) -> Result<ManifestDocument, ManifestError> {
    if document.form() == Form::Schema2 {
        return Ok(document.clone());
    }
    let manifest = document.manifest();
    let mut top = vec![
        ("schema_version".to_owned(), Node::text(SCHEMA_VERSION)),
        ("profile_selection_criteria".to_owned(), Node::text("auto")),
    ];
    let shared = [("model", &manifest.model), ("release", &manifest.release)];
    for (key, value) in shared {
        if let Some(value) = value {
            top.push((key.to_owned(), Node::text(value.as_str())));
        }
    }
    let trees = document.tree().as_mapping().unwrap_or_default();
    let profiles = manifest.profiles.iter().zip(trees).map(|(profile, (_, tree))| {
        let mut pairs = vec![("id".to_owned(), Node::text(profile.id.as_str()))];
        for (key, value) in tree.as_mapping().unwrap_or_default() {
            let key = key.as_text().unwrap_or_default();
            let is_shared = shared.iter().any(|(name, value)| *name == key && value.is_some());
            if !is_shared && !matches!(key, "id" | "tags" | "workspace") {
                pairs.push((key.to_owned(), value.clone()));
            }
        }
        pairs.extend(known_pairs(profile));
        Node::mapping(pairs)
    });
    top.push(("profiles".to_owned(), Node::sequence(profiles.collect())));
    ManifestDocument::of_tree(Node::mapping(top), path)
}

/// Returns the keys of a profile of schema 2.0 that follow its id.
pub(super) fn known_pairs(profile: &ManifestProfile) -> [(String, Node); 2] {
    let tags = profile.tags.iter().map(|(key, value)| (key.as_str(), Node::text(value.as_str())));
    let files = profile.workspace.files.iter().map(|(path, file)| {
        let facts = [("uri", &file.uri), ("checksum", &file.checksum)];
        let facts = facts.into_iter().filter_map(|(key, value)| Some((key, Node::text(value.as_deref()?))));
        (path.as_str(), Node::mapping(facts))
    });
    [
        ("tags".to_owned(), Node::mapping(tags)),
        ("workspace".to_owned(), Node::mapping([("files", Node::mapping(files))])),
    ]
}

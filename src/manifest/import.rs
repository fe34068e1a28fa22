//! The profiles file that NVIDIA's manifest generator reads (`schema_version: '1.0'`) → a manifest.

use std::collections::BTreeMap;

use super::convert::known_pairs;
use super::document::ManifestDocument;
use super::error::ManifestError;
use super::{ManifestFile, ManifestProfile, SCHEMA_VERSION, Workspace};
use crate::digest::Blake3;
use crate::profile::{ProfileId, Tags};
use crate::yaml::{self, Limits, Node};

/// Makes a manifest from a profiles file: `simple.profiles[].{model_version, tags}`.
///
/// Ids follow NIM's rule. `files` holds the files of each model version by path; a file's uri is
/// `ngc://<model>:<version>?file=<path>`. `path` is used only in errors.
///
/// # Errors
/// Text that is not a profiles file, with the position; two profiles with equal tags; tags that have no id.
pub fn import(
    text: &[u8],
    path: &str,
    files: &BTreeMap<String, BTreeMap<String, Blake3>>,
) -> Result<ManifestDocument, ManifestError> {
    let error = |node: &Node, message: String| ManifestError::Syntax {
        path: path.into(),
        position: node.position,
        message,
    };
    let tree = yaml::parse(text, &Limits::default()).map_err(|error| ManifestError::Syntax {
        path: path.into(),
        position: error.position,
        message: error.message,
    })?;
    let text_of = |node: &Node, key: &str| {
        let value = node.get(key).and_then(Node::as_text).map(str::to_owned);
        value.ok_or_else(|| error(node, format!("a profiles file needs the string `{key}` here")))
    };
    let version = text_of(&tree, "schema_version")?;
    if version != "1.0" {
        return Err(error(&tree, format!("expected a profiles file of schema version 1.0, found {version}")));
    }
    let (model, release) = (text_of(&tree, "model")?, text_of(&tree, "release")?);
    let items = tree
        .get("simple")
        .and_then(|simple| simple.get("profiles"))
        .and_then(Node::as_sequence)
        .ok_or_else(|| error(&tree, "a profiles file needs the list `simple.profiles`".into()))?;
    let mut profiles = Vec::new();
    for item in items {
        let version = text_of(item, "model_version")?;
        let mut tags = Tags::new();
        for (key, value) in item.get("tags").and_then(Node::as_mapping).unwrap_or_default() {
            let (Some(key), Some(text)) = (key.as_text(), value.as_text()) else {
                return Err(error(value, format!("a tag's value must be a string, not {}", value.kind())));
            };
            tags.insert(key.into(), text.into());
        }
        let file = |(path, checksum): (&String, &Blake3)| {
            let uri = format!("ngc://{model}:{version}?file={path}");
            (path.clone(), ManifestFile { uri: Some(uri), checksum: Some(checksum.to_string()) })
        };
        let files = files.get(&version).into_iter().flatten().map(file).collect();
        let id = ProfileId::of_tags(&tags)?.to_string();
        profiles.push(ManifestProfile { id, tags, workspace: Workspace { files } });
    }
    if let Some((first, second)) = super::equal_tags(&profiles).into_iter().next() {
        return Err(ManifestError::EqualTags { first, second });
    }
    let profile = |profile: &ManifestProfile| {
        let mut pairs = vec![("id".to_owned(), Node::text(profile.id.as_str()))];
        pairs.extend(known_pairs(profile));
        Node::mapping(pairs)
    };
    let tree = Node::mapping([
        ("schema_version", Node::text(SCHEMA_VERSION)),
        ("profile_selection_criteria", Node::text("auto")),
        ("model", Node::text(model.as_str())),
        ("release", Node::text(release)),
        ("profiles", Node::sequence(profiles.iter().map(profile).collect())),
    ]);
    ManifestDocument::of_tree(tree, path)
}

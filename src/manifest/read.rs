//! Tree → the known part of a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use super::{Form, Manifest, ManifestError, ManifestFile, ManifestProfile, SCHEMA_VERSION, Workspace};
use crate::profile::Tags;
use crate::stored_format::{self, Newer};
use crate::yaml::{Node, Position};

/// Max characters of an id.
const MAX_ID_CHARACTERS: usize = 256;

/// The known part of a document.
pub(super) struct Known {
    pub(super) form: Form,
    pub(super) manifest: Manifest,
    pub(super) positions: Vec<Position>,
}

/// Reads a tree; `path` is used only in errors.
pub(super) fn known(tree: &Node, path: &str) -> Result<Known, ManifestError> {
    let reader = Reader { path };
    let Some(pairs) = tree.as_mapping() else {
        return Err(reader.error(tree, format!("a manifest must be a mapping, not {}", tree.kind())));
    };
    match tree.get("schema_version") {
        Some(version) => match version.as_text() {
            Some("2.0" | "2.0.0") => reader.schema2(tree),
            Some("1.0") if tree.get("simple").is_some() => {
                Err(ManifestError::ProfilesFile { path: path.into() })
            }
            Some(found) if stored_format::is_later(found, SCHEMA_VERSION) => {
                Err(Newer::new(path, found, SCHEMA_VERSION).into())
            }
            found => Err(ManifestError::Version {
                path: path.into(),
                found: found.unwrap_or_else(|| version.kind()).into(),
            }),
        },
        None if tree.get("profiles").is_some_and(|profiles| profiles.as_sequence().is_some()) => {
            Err(reader.error(tree, "`schema_version` is missing; this looks like schema 2.0".into()))
        }
        None => reader.map_2024(tree, pairs),
    }
}

struct Reader<'a> {
    path: &'a str,
}

impl Reader<'_> {
    fn error(&self, node: &Node, message: String) -> ManifestError {
        ManifestError::Syntax { path: self.path.into(), position: node.position, message }
    }

    fn schema2(&self, tree: &Node) -> Result<Known, ManifestError> {
        let profiles_node =
            tree.get("profiles").ok_or_else(|| self.error(tree, "`profiles` is missing".into()))?;
        let items = match profiles_node.as_sequence() {
            Some(items) => items,
            None if profiles_node.is_null() => &[],
            None => {
                let message = format!("`profiles` must be a list, not {}", profiles_node.kind());
                return Err(self.error(profiles_node, message));
            }
        };
        let mut ids = Ids::default();
        let mut profiles = Vec::with_capacity(items.len());
        for item in items {
            let id_node =
                item.get("id").ok_or_else(|| self.error(item, "this profile has no `id`".into()))?;
            let id = self.id(id_node, &mut ids)?;
            let workspace = match item.get("workspace") {
                Some(workspace) => Workspace { files: self.files(workspace)? },
                None => Workspace::default(),
            };
            profiles.push(ManifestProfile { id, tags: self.tags(item)?, workspace });
        }
        let criteria = self.optional_text(tree, "profile_selection_criteria")?;
        let manifest = Manifest {
            schema_version: self.optional_text(tree, "schema_version")?.unwrap_or_default(),
            profile_selection_criteria: criteria.unwrap_or_else(|| "auto".into()),
            model: self.optional_text(tree, "model")?,
            release: self.optional_text(tree, "release")?,
            profiles,
        };
        Ok(Known { form: Form::Schema2, manifest, positions: ids.positions })
    }

    fn map_2024(&self, tree: &Node, pairs: &[(Node, Node)]) -> Result<Known, ManifestError> {
        if pairs.is_empty() {
            return Err(self.error(tree, "an empty mapping is not a manifest".into()));
        }
        let mut ids = Ids::default();
        let mut profiles = Vec::with_capacity(pairs.len());
        let (mut models, mut releases) = (BTreeSet::new(), BTreeSet::new());
        for (key, profile) in pairs {
            if profile.get("tags").is_none() && profile.get("workspace").is_none() {
                let message = "this is not a manifest: `schema_version` is missing, and this entry is not a profile \
                               with `tags` or `workspace`";
                return Err(self.error(key, message.into()));
            }
            let id = self.id(key, &mut ids)?;
            let workspace = match profile.get("workspace") {
                Some(workspace) => Workspace { files: self.components(workspace)? },
                None => Workspace::default(),
            };
            models.insert(self.optional_text(profile, "model")?);
            releases.insert(self.optional_text(profile, "release")?);
            profiles.push(ManifestProfile { id, tags: self.tags(profile)?, workspace });
        }
        let the_one =
            |mut all: BTreeSet<Option<String>>| if all.len() == 1 { all.pop_first()? } else { None };
        let manifest = Manifest {
            schema_version: SCHEMA_VERSION.into(),
            profile_selection_criteria: "auto".into(),
            model: the_one(models),
            release: the_one(releases),
            profiles,
        };
        Ok(Known { form: Form::Map2024, manifest, positions: ids.positions })
    }

    /// Reads an id. It becomes the name of a folder, so it must not be a path.
    fn id(&self, node: &Node, ids: &mut Ids) -> Result<String, ManifestError> {
        let id = node
            .as_text()
            .ok_or_else(|| self.error(node, format!("an id must be a string, not {}", node.kind())))?;
        let problem = if id.trim().is_empty() {
            Some("an id must not be empty".to_owned())
        } else if id.chars().count() > MAX_ID_CHARACTERS {
            Some(format!("an id has at most {MAX_ID_CHARACTERS} characters"))
        } else if id.contains(['/', '\\']) || matches!(id, "." | "..") {
            Some(format!("an id must not be a path: `{id}`"))
        } else if id.chars().any(char::is_control) {
            Some(format!("the id `{}` contains a control character", id.escape_debug()))
        } else {
            ids.first.get(id).map(|first| format!("duplicate profile {id}: the first one is at {first}"))
        };
        if let Some(message) = problem {
            return Err(self.error(node, message));
        }
        ids.first.insert(id.into(), node.position);
        ids.positions.push(node.position);
        Ok(id.into())
    }

    fn tags(&self, profile: &Node) -> Result<Tags, ManifestError> {
        let Some(node) = profile.get("tags").filter(|node| !node.is_null()) else { return Ok(Tags::new()) };
        let pairs = node
            .as_mapping()
            .ok_or_else(|| self.error(node, format!("`tags` must be a mapping, not {}", node.kind())))?;
        let mut tags = Tags::new();
        for (key, value) in pairs {
            let text = match value.as_text() {
                Some(text) => text,
                None if value.is_null() => "",
                None => {
                    let message = format!("a tag's value must be a string, not {}", value.kind());
                    return Err(self.error(value, message));
                }
            };
            tags.insert(key.as_text().unwrap_or_default().into(), text.into());
        }
        Ok(tags)
    }

    fn files(&self, workspace: &Node) -> Result<BTreeMap<String, ManifestFile>, ManifestError> {
        let mut files = BTreeMap::new();
        let Some(node) = workspace.get("files").filter(|node| !node.is_null()) else { return Ok(files) };
        let pairs = node
            .as_mapping()
            .ok_or_else(|| self.error(node, format!("`files` must be a mapping, not {}", node.kind())))?;
        for (destination, file) in pairs {
            let path = self.inside(destination)?;
            let entry = match file.as_text() {
                // The short form of a file without a checksum.
                Some(uri) => ManifestFile { uri: Some(uri.into()), checksum: None },
                None => ManifestFile {
                    uri: self.optional_text(file, "uri")?,
                    checksum: self.optional_text(file, "checksum")?,
                },
            };
            files.insert(path.into(), entry);
        }
        Ok(files)
    }

    /// Reads the `components` of the 2024 form: each puts files from one source into one folder.
    fn components(&self, workspace: &Node) -> Result<BTreeMap<String, ManifestFile>, ManifestError> {
        let mut files = self.files(workspace)?;
        let Some(node) = workspace.get("components").filter(|node| !node.is_null()) else { return Ok(files) };
        let components = node
            .as_sequence()
            .ok_or_else(|| self.error(node, format!("`components` must be a list, not {}", node.kind())))?;
        for component in components {
            let folder = match component.get("dst") {
                Some(node) if !node.as_text().unwrap_or_default().is_empty() => self.inside(node)?,
                _ => "",
            };
            let Some(source) = component.get("src") else { continue };
            let repository = self.optional_text(source, "repo_id")?;
            for file in source.get("files").and_then(Node::as_sequence).unwrap_or_default() {
                let name = self.inside(file)?;
                let path = if folder.is_empty() || folder == "." {
                    name.to_owned()
                } else {
                    format!("{}/{name}", folder.trim_end_matches('/'))
                };
                let uri = repository.as_ref().map(|repository| format!("{repository}?file={name}"));
                files.insert(path, ManifestFile { uri, checksum: None });
            }
        }
        Ok(files)
    }

    /// Reads a path that must stay inside the folder that it is written to.
    fn inside<'a>(&self, node: &'a Node) -> Result<&'a str, ManifestError> {
        let path = node.as_text().ok_or_else(|| {
            self.error(node, format!("a file's name must be a string, not {}", node.kind()))
        })?;
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let inside = !path.is_empty() && Path::new(path).components().all(plain);
        if !inside || path.contains('\\') || path.chars().any(char::is_control) {
            let message = format!("`{}` is not a path inside the workspace", path.escape_debug());
            return Err(self.error(node, message));
        }
        Ok(path)
    }

    fn optional_text(&self, mapping: &Node, key: &str) -> Result<Option<String>, ManifestError> {
        match mapping.get(key) {
            None => Ok(None),
            Some(node) if node.is_null() => Ok(None),
            Some(node) => match node.as_text() {
                Some(text) => Ok(Some(text.into())),
                None => Err(self.error(node, format!("`{key}` must be a string, not {}", node.kind()))),
            },
        }
    }
}

/// The ids read so far.
#[derive(Default)]
struct Ids {
    first: BTreeMap<String, Position>,
    positions: Vec<Position>,
}

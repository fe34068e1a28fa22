//! A manifest as it was written: the known part, and the tree with everything.

use super::error::ManifestError;
use super::read;
use super::{Form, IdKind, Manifest};
use crate::yaml::{self, Limits, Node, Position};

/// A manifest with everything in its file.
#[derive(Clone, Debug)]
pub struct ManifestDocument {
    form: Form,
    manifest: Manifest,
    tree: Node,
    /// Where each profile's id is.
    positions: Vec<Position>,
}

impl ManifestDocument {
    /// Reads a manifest of any form; `path` is used only in errors.
    ///
    /// # Errors
    /// Text that is not a manifest or exceeds [`Limits`], an unsupported schema version, a duplicate id, an id or a
    /// file's destination that leaves its folder; each with its position.
    pub fn parse(text: &[u8], path: &str) -> Result<Self, ManifestError> {
        let tree = yaml::parse(text, &Limits::default()).map_err(|error| ManifestError::Syntax {
            path: path.into(),
            position: error.position,
            message: error.message,
        })?;
        Self::of_tree(tree, path)
    }

    /// Makes a document from a tree.
    ///
    /// # Errors
    /// As [`ManifestDocument::parse`].
    pub(super) fn of_tree(tree: Node, path: &str) -> Result<Self, ManifestError> {
        let read::Known { form, manifest, positions } = read::known(&tree, path)?;
        Ok(Self { form, manifest, tree, positions })
    }

    /// Returns its form.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Returns the known part.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the known part and drops the rest.
    pub fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// Returns the whole document.
    pub fn tree(&self) -> &Node {
        &self.tree
    }

    /// Returns where each profile's id is, in the order of the profiles.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// Returns the kind of a profile's id.
    pub fn id_kind(&self, profile: &super::ManifestProfile) -> IdKind {
        IdKind::of(profile, self.form)
    }

    /// Returns the document as YAML: equivalent to the text that was read, and the same bytes if nimctl wrote it.
    pub fn to_yaml(&self) -> String {
        yaml::write(&self.tree)
    }
}

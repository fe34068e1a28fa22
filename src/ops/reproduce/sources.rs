//! Finds source graphs by their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::error::ReproduceError;
use crate::digest::Sha256;
use crate::onnx::{FileDigest, GraphDigest, OnnxError, OnnxFile, graph_digest};
use crate::ops::resolve::SourceGraph;
use crate::process::Cancel;

/// Graphs that were found.
#[derive(Debug, Default)]
pub(super) struct Sources {
    places: BTreeMap<GraphDigest, PathBuf>,
    /// Models with the bytes that are looked for which can't be used, by their digest; each with why.
    unusable: BTreeMap<GraphDigest, String>,
    searched: bool,
}

impl Sources {
    /// Looks for graphs in files and folders. Of a folder, files of the right size are hashed, whatever their names.
    ///
    /// # Errors
    /// A file or folder that is not there; cancelled.
    pub(super) fn search(
        wanted: &BTreeSet<GraphDigest>,
        roots: &[PathBuf],
        cancel: &Cancel,
    ) -> Result<Self, ReproduceError> {
        let mut sources = Self { searched: !roots.is_empty(), ..Self::default() };
        for root in roots {
            let failed = |source| ReproduceError::Graphs { path: root.clone(), source };
            fs_err::metadata(root).map_err(failed)?;
            for entry in walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name() {
                if cancel.is_cancelled() {
                    return Err(ReproduceError::Cancelled);
                }
                // What can't be read has no graph of ours.
                let Ok(entry) = entry else { continue };
                let size_bytes = entry.metadata().map_or(0, |metadata| metadata.len());
                let is_candidate = entry.file_type().is_file()
                    && wanted.iter().any(|graph| {
                        model_of(graph).is_some_and(|model| model.size_bytes == size_bytes)
                            && !sources.places.contains_key(graph)
                    });
                if is_candidate {
                    sources.take(entry.path(), wanted);
                }
            }
        }
        Ok(sources)
    }

    /// Takes a file if it is one of the graphs.
    fn take(&mut self, path: &Path, wanted: &BTreeSet<GraphDigest>) {
        let Ok((sha256, _)) = Sha256::of_file(path) else { return };
        for graph in wanted.iter().filter(|graph| model_of(graph).is_some_and(|model| model.sha256 == sha256))
        {
            match digest_of(path) {
                Ok(found) if found == *graph => {
                    self.places.insert(graph.clone(), path.into());
                }
                Ok(_) => {
                    let why = format!("{} has that digest, but its external data differs", path.display());
                    self.unusable.insert(graph.clone(), why);
                }
                Err(error) => {
                    let why = format!("{} has that digest, but cannot be read: {error}", path.display());
                    self.unusable.insert(graph.clone(), why);
                }
            }
        }
    }

    /// Adds a graph of a recipe.
    pub(super) fn add(&mut self, digest: GraphDigest, path: &Path) {
        self.searched = true;
        self.places.entry(digest).or_insert_with(|| path.into());
    }

    /// Returns whether there was anywhere to look.
    pub(super) fn searched(&self) -> bool {
        self.searched
    }

    /// Returns whether a graph was found.
    pub(super) fn has(&self, graph: &GraphDigest) -> bool {
        self.places.contains_key(graph)
    }

    /// Returns why a graph that was not found can't be used, if there is more to say.
    pub(super) fn why_not(&self, graph: &GraphDigest) -> Option<&str> {
        self.unusable.get(graph).map(String::as_str)
    }

    /// Opens a graph, and hashes it again; `None` if it was not found, or is no longer what it was.
    pub(super) fn open(&self, graph: &GraphDigest) -> Result<Option<SourceGraph>, ReproduceError> {
        let Some(path) = self.places.get(graph) else { return Ok(None) };
        let file = OnnxFile::open(path)?;
        let digest =
            graph_digest(&file).map_err(super::error::io(format!("cannot read {}", path.display())))?;
        Ok((digest == *graph).then_some(SourceGraph { file, digest }))
    }
}

fn digest_of(path: &Path) -> Result<GraphDigest, OnnxError> {
    let file = OnnxFile::open(path)?;
    graph_digest(&file).map_err(OnnxError::io("read", path))
}

/// Returns the model file of a graph.
pub(super) fn model_of(graph: &GraphDigest) -> Option<&FileDigest> {
    graph.files.first()
}

//! From a recipe's sources to ONNX files on this disk, with their digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RecipeFile;
use crate::error_kind::ErrorKind;
use crate::files::digest_cache::digest_of_file;
use crate::onnx::{FileDigest, GraphDigest, OnnxError, OnnxFile, external_locations};
use crate::ops::error::PipelineError;
use crate::ops::event::{BuildEvent, OnEvent};
use crate::ops::samples::named_files::absent;
use crate::ops::synth;
use crate::ops::workspace::Workspace;
use crate::recipe::{GraphMismatch, GraphNames, RecipeGraph, UnknownName};
use crate::source::{self, HttpsLimits, Source, SourceError};
use crate::toolchain::Watch;

/// One graph's ONNX.
#[derive(Debug)]
pub(in crate::ops) struct SourceGraph {
    /// The mapped and checked file.
    pub file: OnnxFile,
    /// The digests of it and its external data.
    pub digest: GraphDigest,
}

impl SourceGraph {
    /// Returns the size of the model with its external data.
    pub(in crate::ops) fn size_bytes(&self) -> u64 {
        self.digest.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// Fetches what has to be fetched, opens every graph, and checks the recipe against it.
pub(super) fn resolve(
    recipe_file: &RecipeFile,
    workspace: &Workspace,
    on_event: OnEvent<'_>,
) -> Result<BTreeMap<String, SourceGraph>, PipelineError> {
    let recipe = &recipe_file.recipe;
    let (mut graphs, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (name, graph) in &recipe.graphs {
        if workspace.cancel.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let RecipeGraph { source, source_line, shapes: _, shape_lines: _, samples: _ } = graph;
        let (recipe_path, line) = (recipe.path.clone(), *source_line);
        if let Source::Path(path) = source
            && let Some(problem) = absent(recipe_file.folder(), Path::new(path))
        {
            let keys = ["graphs", name, "source", "path"];
            let unknown = UnknownName {
                recipe: recipe_path,
                position: recipe.position(&keys, path),
                problem: format!("the source of graph `{name}`: {problem}"),
            };
            return Err(Box::new(GraphMismatch::from(unknown)).into());
        }
        let path =
            fetch(name, source, recipe_file.folder(), workspace, on_event).map_err(|error| match error {
                FetchError::Source(source) if source.kind() == ErrorKind::Interrupted => {
                    PipelineError::Cancelled
                }
                FetchError::Source(source) => {
                    PipelineError::Source { recipe: recipe_path.clone(), line, graph: name.clone(), source }
                }
                FetchError::Onnx(source) => {
                    PipelineError::Onnx { recipe: recipe_path.clone(), line, graph: name.clone(), source }
                }
            })?;
        let file = OnnxFile::open(&path).map_err(|source| PipelineError::Onnx {
            recipe: recipe_path,
            line,
            graph: name.clone(),
            source,
        })?;
        recipe.check_graph(name, &file.inputs()).map_err(Box::new)?;
        names.insert(name.clone(), GraphNames::of(&file));
        let digest = digest(&file, &workspace.places.data_folder.join("digest-cache.json"))
            .map_err(|source| PipelineError::Io { doing: format!("hashing graph `{name}`"), source })?;
        graphs.insert(name.clone(), SourceGraph { file, digest });
    }
    recipe.check_names(&names).map_err(|error| Box::new(GraphMismatch::from(error)))?;
    Ok(graphs)
}

/// Why a source could not be had.
enum FetchError {
    Source(SourceError),
    Onnx(OnnxError),
}

impl From<SourceError> for FetchError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<OnnxError> for FetchError {
    fn from(error: OnnxError) -> Self {
        Self::Onnx(error)
    }
}

fn fetch(
    graph: &str,
    source: &Source,
    folder: &Path,
    workspace: &Workspace,
    on_event: OnEvent<'_>,
) -> Result<PathBuf, FetchError> {
    let mut watch = Watch {
        progress: &mut |progress| on_event(BuildEvent::Fetching { graph: graph.to_owned(), progress }),
        cancelled: &|| workspace.cancel.is_cancelled(),
    };
    match source {
        Source::Path(path) => Ok(folder.join(path)),
        Source::Https(https) => {
            Ok(source::fetch_https(https, &workspace.places, &HttpsLimits::default(), &mut watch)?)
        }
        Source::Pip(pip) => {
            let beside = &external_locations;
            Ok(source::fetch_pip(pip, &workspace.places, &workspace.pip, beside, &mut watch)?)
        }
        Source::Synth(synth) => {
            let path = synth::cached_path(synth, &workspace.places.data_folder);
            if !path.exists() {
                on_event(BuildEvent::Synthesizing { graph: graph.to_owned() });
            }
            Ok(synth::cached(synth, &workspace.places.data_folder)?)
        }
    }
}

/// Digests the files of a graph, from the cache where a file is what it was.
fn digest(file: &OnnxFile, cache: &Path) -> std::io::Result<GraphDigest> {
    let folder = file.path().parent().unwrap_or(Path::new(""));
    let one = |path: &Path, name: String| {
        let path = fs_err::canonicalize(path)?;
        let (sha256, size_bytes) = digest_of_file(&path, cache)?;
        Ok::<_, std::io::Error>(FileDigest { path: name, sha256, size_bytes })
    };
    let mut files = vec![one(file.path(), GraphDigest::MODEL_PATH.into())?];
    for external in file.external_files() {
        files.push(one(&folder.join(external), external.display().to_string())?);
    }
    Ok(GraphDigest { files })
}

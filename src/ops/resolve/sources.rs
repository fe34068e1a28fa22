//! From a recipe's sources to ONNX files on this disk, with their digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::RecipeFile;
use crate::error_kind::ErrorKind;
use crate::files::atomic_file;
use crate::files::digest_cache::digest_of_open;
use crate::files::read_file::{self, ReadFile};
use crate::onnx::{FileDigest, GraphDigest, OnnxError, OnnxFile, external_locations};
use crate::ops::error::{PipelineError, SourceChanged};
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

impl SourceGraph {
    /// Checks that the files of a graph are still those that were opened, with the bytes that were hashed; `name` is the graph's.
    ///
    /// # Errors
    /// A file that changed.
    pub(in crate::ops) fn check_unchanged(&self, name: &str) -> Result<(), PipelineError> {
        for (open, known) in self.file.open_files().zip(&self.digest.files) {
            let still = read_file::still_has(open, &known.sha256).map_err(|source| PipelineError::Io {
                doing: format!("reading {}", open.path().display()),
                source,
            })?;
            if !still {
                let source = SourceChanged { path: open.path().into() };
                return Err(PipelineError::SourceChanged { graph: name.into(), source });
            }
        }
        Ok(())
    }
}

/// Fetches what has to be fetched, opens every graph, and checks the recipe against it.
pub(in crate::ops) fn resolve(
    recipe_file: &RecipeFile,
    workspace: &Workspace,
    on_event: OnEvent<'_>,
) -> Result<BTreeMap<String, SourceGraph>, PipelineError> {
    let recipe = &recipe_file.recipe;
    // What killed processes left half written.
    let places = &workspace.places;
    [places.data_folder.clone(), places.sources("pip"), places.sources("https")]
        .iter()
        .for_each(|folder| atomic_file::sweep(folder));
    let (mut graphs, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (name, graph) in &recipe.graphs {
        if workspace.cancel.is_cancelled() {
            return Err(PipelineError::Cancelled);
        }
        let RecipeGraph { source, source_line, shapes: _, shape_lines: _, samples: _, calibration: _ } =
            graph;
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
            let places = &workspace.places;
            let generating = || on_event(BuildEvent::Synthesizing { graph: graph.to_owned() });
            Ok(synth::cached(synth, &places.data_folder, &places.digest_cache(), &generating)?)
        }
    }
}

/// Digests the open files of a graph, from the cache where a file is what it was.
fn digest(file: &OnnxFile, cache: &Path) -> std::io::Result<GraphDigest> {
    let external = file.external_files().iter().map(|external| external.display().to_string());
    let names = std::iter::once(GraphDigest::MODEL_PATH.to_owned()).chain(external);
    let one = |(open, path): (&ReadFile, String)| {
        let (sha256, size_bytes) = digest_of_open(open, &fs_err::canonicalize(open.path())?, cache)?;
        Ok(FileDigest { path, sha256, size_bytes })
    };
    Ok(GraphDigest { files: file.open_files().zip(names).map(one).collect::<std::io::Result<_>>()? })
}

//! `init`: a recipe for ONNX files that have none.
//!
//! What is proposed comes from the files alone (see [`crate::recipe::proposal`]); where ONNX Runtime is at hand, each graph is
//! run in the proposed shapes, and others are tried if it fails. What is written is read back and checked against the
//! graphs first, as `nimctl build` would.

mod error;
mod paths;
pub(in crate::ops) mod trial;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::InitError;

use crate::files::atomic_file;
use crate::files::destination;
use crate::gpu;
use crate::onnx::{OnnxFile, Precision};
use crate::recipe::Recipe;
use crate::recipe::proposal::{Draft, DraftGraph, Trial, groups, names, weights_precision};
use crate::toolchain::Places;
use crate::worker::discover::SearchPath;
use crate::worker::host::Cancel;

/// The maximum time for finding the shapes of one graph.
const MAX_SEARCH_TIME: Duration = Duration::from_secs(60);

/// What to propose a recipe for.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The ONNX files, each a graph of the model.
    pub models: Vec<PathBuf>,
    /// The GPUs to build for, by name.
    pub gpus: Vec<String>,
    /// Where the recipe is written; `None` writes no file.
    pub destination: Option<PathBuf>,
    /// Whether an existing file is replaced.
    pub force: bool,
    /// The model's name; made from the files' names if absent.
    pub name: Option<String>,
    /// The model's release.
    pub release: String,
    /// Whether graphs are run in the proposed shapes.
    pub try_graphs: bool,
    /// Where toolchains are.
    pub places: Places,
    /// Where workers are.
    pub search_path: SearchPath,
    /// The maximum time for one run of a graph.
    pub run_timeout: Duration,
    /// Set to stop.
    pub cancel: Cancel,
}

/// What was proposed.
#[derive(Clone, Debug)]
pub struct InitReport {
    /// The recipe as data.
    pub draft: Draft,
    /// The recipe as YAML.
    pub yaml: String,
    /// The recipe as `nimctl build` reads it.
    pub recipe: Recipe,
}

/// Proposes a recipe and writes it. `on_graph` gets each graph's name before the graph is run.
///
/// # Errors
/// A file that is not an ONNX model, an unknown GPU, a name that a recipe can't have, or a destination that exists.
pub fn init(options: &InitOptions, on_graph: &dyn Fn(&str)) -> Result<InitReport, InitError> {
    let InitOptions { models, gpus, destination, force, name, release, try_graphs, .. } = options;
    for (what, given) in [("model name", name.as_ref()), ("model release", Some(release))] {
        if let Some(given) = given.filter(|given| names::plain(given).as_ref() != Some(*given)) {
            return Err(InitError::Name { what, name: given.clone() });
        }
    }
    let gpus = gpus.iter().map(|name| gpu::find(name)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = destination.as_deref().filter(|path| path.exists() && !force) {
        return Err(InitError::Exists { path: path.into() });
    }
    if let Some(path) = destination {
        destination::check(path, models.iter().map(PathBuf::as_path))?;
    }
    let folder = destination.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let sources = paths::sources(models, folder)?;
    let files = models.iter().map(|path| OnnxFile::open(path)).collect::<Result<Vec<_>, _>>()?;

    let stems: Vec<String> = models.iter().map(|path| paths::stem(path)).collect();
    let stems: Vec<&str> = stems.iter().map(String::as_str).collect();
    let mut graphs: Vec<DraftGraph> = Vec::new();
    for ((name, source), file) in names::of_graphs(&stems).iter().zip(&sources).zip(&files) {
        graphs.push(DraftGraph::of(name, source, file));
    }
    if *try_graphs {
        let tools = trial::Tools {
            places: &options.places,
            search_path: &options.search_path,
            run_timeout: options.run_timeout,
            search_time: MAX_SEARCH_TIME,
            cancel: &options.cancel,
        };
        trial::try_all(&mut graphs, &files, &tools, on_graph)?;
    } else {
        graphs.iter_mut().for_each(|graph| graph.trial = Trial::NotRun("--no-trial was given".into()));
    }
    let weights = files.iter().map(weights_precision).min().unwrap_or(Precision::Fp32);
    let folders = models.first().map(|path| paths::folder_names(path)).unwrap_or_default();
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let model = name.clone().unwrap_or_else(|| names::of_model(&stems, &folders));
    let draft = Draft { model, release: release.clone(), graphs, groups: groups(&gpus), weights };

    let shown =
        destination.as_deref().map_or_else(|| "recipe.yaml".into(), |path| path.display().to_string());
    let yaml = draft.to_yaml(&shown);
    let recipe = Recipe::parse(&yaml, &shown).map_err(|error| InitError::Proposal(error.to_string()))?;
    for (graph, file) in draft.graphs.iter().zip(&files) {
        recipe
            .check_graph(&graph.name, &file.inputs())
            .map_err(|error| InitError::Proposal(error.to_string()))?;
    }
    if let Some(path) = destination {
        atomic_file::write(path, yaml.as_bytes()).map_err(|source| InitError::Write { source })?;
    }
    Ok(InitReport { draft, yaml, recipe })
}

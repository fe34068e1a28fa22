//! `resolve`: everything that is to be known before a job runs: recipe, graphs, backends, and the jobs with their state.
//!
//! Nothing runs and nothing is written here, but for sources that are fetched into the data folder. A command resolves a
//! recipe once; whatever it does then takes the [`Resolved`]: nothing is read, fetched or asked twice, so that an edit in
//! between can't mix two recipes.

mod backends;
mod found_lowerings;
mod mixed_precision;
mod of_records;
mod only;
mod quantized_graphs;
mod recipe_file;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

pub use backends::{BackendHere, Backends, FoundBackend};
pub use recipe_file::RecipeFile;

pub(super) use found_lowerings::{FoundLowerings, PendingSearch};
pub(super) use only::selected;
pub(super) use sources::{SourceGraph, resolve as resolve_sources};

use super::error::PipelineError;
use super::event::OnEvent;
use super::fleet::{self, FleetFailure, Place};
use super::samples::{Completed, SeededInput, Subject, complete, image_files, sample_files};
use super::workspace::Workspace;
use crate::backend::Backend;
use crate::canonical::NotCanonical;
use crate::onnx::GraphDigest;
use crate::profile::{ProfileSpec, ToolIdentity};
use crate::recipe::{Only, Recipe};
use crate::store::{Store, StoreError};
use crate::worklist::{Inputs, Job, JobState, jobs as jobs_of};

/// A recipe with everything that its profiles depend on, as it was when a command began.
#[derive(Debug)]
pub struct Resolved {
    file: RecipeFile,
    /// Names of the selected profiles.
    selected: BTreeSet<String>,
    pub(super) graphs: BTreeMap<String, SourceGraph>,
    pub(super) digests: BTreeMap<String, GraphDigest>,
    /// The samples of each graph, with seeded ones for what the recipe says nothing of; made when something is run on them.
    samples: OnceLock<BTreeMap<String, Completed>>,
    /// The backends of this machine: each is found and asked once.
    pub(super) backends: Backends,
    /// What can be built here, by backend. A backend whose profiles were not selected may be missing.
    pub(super) builders: BTreeMap<Backend, BackendHere>,
    /// What goes into build keys, for each profile whose backend builds here or on its executor.
    pub(super) toolchains: BTreeMap<String, BTreeMap<String, ToolIdentity>>,
    /// Which profiles an executor of a fleet takes.
    pub(super) places: BTreeMap<String, Place>,
    /// What the selected profiles that can't be built here need, by name.
    pub(super) elsewhere: BTreeMap<String, String>,
    pub(super) lowerings: FoundLowerings,
    /// What must be found by running graphs before the jobs are final.
    pub(super) searches: Vec<PendingSearch>,
    /// The jobs of the selected profiles that can be built here.
    pub(super) jobs: Vec<(Job, JobState)>,
}

/// Resolves a recipe; `only` selects some of its profiles.
///
/// # Errors
/// A recipe, source or backend that can't be used.
pub fn resolve(
    workspace: &Workspace,
    file: RecipeFile,
    only: Option<&Only>,
    on_event: OnEvent<'_>,
) -> Result<Resolved, PipelineError> {
    let recipe = &file.recipe;
    let selected: Vec<&ProfileSpec> = selected(recipe, only)?;
    let graphs = sources::resolve(&file, workspace, on_event)?;
    let backends = Backends::new(workspace);
    let names: BTreeSet<String> = selected.iter().map(|spec| spec.name()).collect();
    let places = fleet::places(workspace, &recipe.profiles, &names, on_event)?;
    let built_here = selected.iter().copied().filter(|spec| !places.contains_key(&spec.name()));
    let builders = backends.builders(recipe, &built_here.collect::<Vec<_>>())?;
    let elsewhere = backends::elsewhere(&selected, &builders, &places);
    let mut resolved = Resolved {
        selected: names,
        digests: graphs.iter().map(|(name, graph)| (name.clone(), graph.digest.clone())).collect(),
        toolchains: backends::identities(&recipe.profiles, &builders, &places),
        places,
        graphs,
        samples: OnceLock::new(),
        backends,
        builders,
        elsewhere,
        lowerings: FoundLowerings::default(),
        searches: Vec::new(),
        jobs: Vec::new(),
        file,
    };
    let store = Store::look_at(&workspace.store);
    let mut found = FoundLowerings::default();
    let mut searches = mixed_precision::look_up(&resolved, &store, &mut found)?;
    searches.extend(quantized_graphs::look_up(&resolved, &store, &mut found)?);
    (resolved.lowerings, resolved.searches) = (found, searches);
    resolved.decide(&store)?;
    Ok(resolved)
}

impl Resolved {
    /// Takes graphs that are here, of profiles whose recipe isn't. Nothing can be built of it.
    pub(super) fn of_graphs(
        workspace: &Workspace,
        recipe: Recipe,
        graphs: BTreeMap<String, SourceGraph>,
    ) -> Self {
        Self {
            file: RecipeFile { path: PathBuf::from(&recipe.path), recipe },
            selected: BTreeSet::new(),
            digests: graphs.iter().map(|(name, graph)| (name.clone(), graph.digest.clone())).collect(),
            graphs,
            samples: OnceLock::new(),
            backends: Backends::new(workspace),
            builders: BTreeMap::new(),
            toolchains: BTreeMap::new(),
            places: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            lowerings: FoundLowerings::default(),
            searches: Vec::new(),
            jobs: Vec::new(),
        }
    }

    /// Returns the recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.file.recipe
    }

    /// Returns the recipe with its file.
    pub fn file(&self) -> &RecipeFile {
        &self.file
    }

    /// Returns the files that the recipe's profiles are made of and run on: itself, its graphs with their external data, samples,
    /// and a labelled set.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.file.path.clone()];
        let folder = self.file.folder();
        for (name, SourceGraph { file, digest: _ }) in &self.graphs {
            files.push(file.path().to_owned());
            files.extend(file.open_files().map(|open| open.path().to_owned()));
            let of_recipe = &self.recipe().graphs[name];
            let samples = of_recipe.samples.values().chain(of_recipe.calibration.values());
            files.extend(samples.flat_map(|sample| sample_files(sample, folder)));
        }
        if let Some(labelled) = &self.recipe().validation.zero_shot {
            files.push(folder.join(&labelled.tokenizer));
            let classes = labelled.classes.keys().map(|class| folder.join(&labelled.images).join(class));
            files.extend(classes.flat_map(|class| image_files(&class).unwrap_or_default()));
        }
        files
    }

    /// Checks that the sources of all graphs are what they were when they were resolved.
    ///
    /// # Errors
    /// A file that changed.
    pub(super) fn check_unchanged(&self) -> Result<(), PipelineError> {
        self.graphs.iter().try_for_each(|(name, graph)| graph.check_unchanged(name))
    }

    /// Returns whether a profile was selected.
    pub fn is_selected(&self, name: &str) -> bool {
        self.selected.contains(name)
    }

    /// Returns whether every profile of the recipe was selected.
    pub fn selects_all(&self) -> bool {
        self.recipe().profiles.len() == self.selected.len()
    }

    /// Returns the selected profiles that can be built here, in the recipe's order.
    pub fn here(&self) -> Vec<&ProfileSpec> {
        let is_here = |spec: &&ProfileSpec| {
            let name = spec.name();
            self.is_selected(&name) && !self.elsewhere.contains_key(&name) && self.failure_of(&name).is_none()
        };
        self.recipe().profiles.iter().filter(is_here).collect()
    }

    /// Returns why nobody knows whether a profile can be built on its executor.
    pub(super) fn failure_of(&self, profile: &str) -> Option<&FleetFailure> {
        self.places.get(profile)?.backend.as_ref().err()
    }

    /// Returns the executor that takes a job; `None` if it is run here.
    pub(super) fn executor_of(&self, job: &Job) -> Option<&str> {
        // Lowering is this machine's.
        job.input?;
        let place = job.users.iter().find_map(|user| self.places.get(&user.profile))?;
        Some(&place.executor)
    }

    /// Returns the selected profiles that can't be built here with what each needs, in the recipe's order.
    pub fn not_here(&self) -> Vec<(String, String)> {
        let needs = |spec: &ProfileSpec| Some((spec.name(), self.elsewhere.get(&spec.name())?.clone()));
        self.recipe().profiles.iter().filter_map(needs).collect()
    }

    /// Returns a graph with what it is run on: the recipe's samples, and seeded ones for the other inputs.
    pub(super) fn subject(&self, graph: &str) -> Subject<'_> {
        Subject { samples: &self.samples()[graph].samples, ..self.subject_as_given(graph) }
    }

    /// Returns a graph with the recipe's own samples alone, for what must not be decided on made-up values.
    pub(super) fn subject_as_given(&self, graph: &str) -> Subject<'_> {
        let of_recipe = &self.recipe().graphs[graph];
        Subject {
            file: &self.graphs[graph].file,
            samples: &of_recipe.samples,
            sample_folder: self.file.folder(),
            shapes: &of_recipe.shapes,
        }
    }

    /// Returns a graph with the samples that quantization measures on.
    pub(super) fn calibration_subject(&self, graph: &str) -> Subject<'_> {
        Subject { samples: &self.recipe().graphs[graph].calibration, ..self.subject_as_given(graph) }
    }

    /// Returns the inputs that are run on seeded values.
    pub(super) fn seeded_inputs(&self) -> Vec<SeededInput> {
        let of_graph = |(graph, Completed { samples, seeded }): (&String, &Completed)| {
            let one = |input: &String| SeededInput {
                graph: graph.clone(),
                sample: samples[input].clone(),
                input: input.clone(),
            };
            seeded.iter().map(one).collect::<Vec<_>>()
        };
        self.samples().iter().flat_map(of_graph).collect()
    }

    fn samples(&self) -> &BTreeMap<String, Completed> {
        self.samples.get_or_init(|| {
            let given = &self.recipe().graphs;
            let of_graph = |(name, graph): (&String, &SourceGraph)| {
                (name.clone(), complete(&graph.file, &given[name].samples))
            };
            self.graphs.iter().map(of_graph).collect()
        })
    }

    /// Returns the jobs of some profiles.
    pub(super) fn jobs_of(&self, profiles: &[&ProfileSpec]) -> Result<Vec<Job>, NotCanonical> {
        let shape_ranges = self.recipe().shape_ranges();
        let inputs = Inputs {
            model: &self.recipe().model.name,
            graphs: &self.digests,
            shape_ranges: &shape_ranges,
            lowerings: &self.lowerings.lowerings,
            toolchains: &self.toolchains,
        };
        jobs_of(profiles, &inputs)
    }

    /// Decides which jobs must run, by what a store has now.
    pub(super) fn decide(&mut self, store: &Store) -> Result<(), PipelineError> {
        let jobs = self.jobs_of(&self.here())?.into_iter();
        let decided = jobs.map(|job| store.job_state(&job).map(|state| (job, state)));
        self.jobs = decided.collect::<Result<_, StoreError>>()?;
        Ok(())
    }
}

//! `build`: from a recipe to plans, ids, a manifest and passports.
//!
//! Resolve → worklist → lower → compile → store → manifest. A job whose build key the store knows is not run; a job
//! that fails doesn't stop the others, but then no manifest is written, and the old one stays.

mod assemble;
pub(super) mod backends;
mod error;
mod jobs;
pub(super) mod mixed_precision;
mod report;
pub(super) mod select;
pub(super) mod sources;

use std::path::PathBuf;
use std::time::Duration;

pub use error::{BuildError, JobError};
pub use report::{BuildEvent, BuildReport, JobLine, Outcome, ProfileLine};

use crate::recipe::{Only, Recipe};
use crate::store::Store;
use crate::toolchain::{Pip, Places};
use crate::worker::discover::SearchPath;
use crate::worker::host::Cancel;
use crate::worklist::{Inputs, JobState, jobs as resolve_jobs};

/// What to build, and where everything is.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The recipe's file; relative source paths are relative to its folder.
    pub recipe: PathBuf,
    /// Where the manifest is written.
    pub manifest: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// Where toolchains and fetched sources are.
    pub places: Places,
    /// How pip is run, for sources that are Python packages.
    pub pip: Pip,
    /// Where workers are.
    pub search_path: SearchPath,
    /// Only these profiles; all if absent.
    pub only: Option<Only>,
    /// How far to go.
    pub mode: Mode,
    /// Fail if a profile can't be built on this machine.
    pub require_all: bool,
    /// Most jobs at a time.
    pub parallel_jobs: usize,
    /// Most time for one job of a worker.
    pub job_timeout: Duration,
    /// Set to stop.
    pub cancel: Cancel,
}

/// How far a build goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Build what is missing, and write the manifest.
    Build,
    /// Say what would be done, and do nothing.
    DryRun,
    /// Put together what the store has; run no job, write no manifest.
    FromStore,
}

/// Builds a recipe's profiles. `on_event` is called from several threads.
///
/// # Errors
/// What makes building impossible as a whole. The failure of one job is in the report.
pub fn build(
    options: &BuildOptions,
    on_event: &(dyn Fn(BuildEvent) + Sync),
) -> Result<BuildReport, BuildError> {
    let path = options.recipe.display().to_string();
    let text = fs_err::read_to_string(&options.recipe).map_err(|source| BuildError::ReadRecipe { source })?;
    let recipe = Recipe::parse(&text, &path).map_err(Box::new)?;
    let selected = select::selected(&recipe, options.only.as_ref())?;

    // Only a build writes: looking needs neither the store's folders nor its lock.
    let (store, _lock) = match options.mode {
        Mode::Build => {
            let store = Store::open(&options.store)?;
            let lock =
                store.lock(|| on_event(BuildEvent::WaitingForStore), &|| options.cancel.is_cancelled())?;
            (store, Some(lock))
        }
        Mode::DryRun | Mode::FromStore => (Store::look_at(&options.store), None),
    };
    let graphs = sources::resolve(&recipe, options, on_event)?;
    let backends = backends::probe(&recipe, &selected, options)?;

    let (here, elsewhere) = backends::split(&selected, &backends);
    if options.require_all && !elsewhere.is_empty() {
        return Err(BuildError::NotAllHere {
            profiles: elsewhere.into_iter().map(|(spec, needs)| (spec.name(), needs)).collect(),
        });
    }
    let digests = graphs.iter().map(|(name, graph)| (name.clone(), graph.digest.clone())).collect();
    let toolchains = backends::identities(&backends);
    let shape_ranges = recipe.shape_ranges();
    let mixed = mixed_precision::resolve(&recipe, &here, &graphs, &store, options, on_event)?;
    let inputs = Inputs {
        model: &recipe.model.name,
        graphs: &digests,
        shape_ranges: &shape_ranges,
        lowerings: &mixed.lowerings,
        toolchains: &toolchains,
    };
    let work = resolve_jobs(&here, &inputs)?
        .into_iter()
        .map(|job| store.job_state(&job).map(|state| (job, state)))
        .collect::<Result<Vec<_>, _>>()?;
    let lines: Vec<JobLine> = work.iter().map(|(job, state)| JobLine::new(job, state)).collect();
    if options.mode == Mode::DryRun {
        return Ok(BuildReport::dry_run(&recipe, lines, &elsewhere));
    }

    let must_run = work.iter().any(|(_, state)| matches!(state, JobState::MustRun(_)));
    let finished = if must_run && options.mode == Mode::Build {
        jobs::run(&work, &graphs, &backends, &store, &mixed, options, on_event)?
    } else {
        jobs::all_up_to_date(&work)
    };
    if options.cancel.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    assemble::assemble(&assemble::Parts {
        recipe: &recipe,
        digests: &digests,
        toolchains: &toolchains,
        lowerings: &mixed.lowerings,
        elsewhere,
        lines,
        finished,
        store: &store,
        options,
    })
}

//! Jobs on other machines: an engine (Slurm, Kubernetes) runs `nimctl work` on nodes, and both sides meet in an exchange
//! ([`crate::exchange`]).
//!
//! * [`work()`](work::work): the node's side.
//! * `batches`: watches requests until each has a result; one loop for everything that is asked of nodes. `lost`: hands in what is new,
//!   and what a job had that died.
//! * `site`: an engine with its exchange, whichever they are.
//! * `describe`: what the nodes of an executor are; asked once, and remembered for a while.
//! * `places`: which executor takes which profile of a recipe.
//!
//! What a build asks of nodes is in [`crate::ops::schedule`].

mod batches;
mod describe;
mod error;
mod lost;
pub mod manifests;
mod places;
mod site;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(super) use batches::{Asked, Batches, Happening};
pub use error::FleetFailure;
pub use places::Place;
pub(super) use places::places;
use site::Site;
pub use site::repository;

use crate::backend::Backend;
use crate::engines::slurm;
use crate::exchange::{Look, SharedFolder};
use crate::files;
use crate::fleet::{Engine, Executor, Fleet, FleetError, Slurm};
use crate::ops::error::PipelineError;
use crate::ops::workspace::Workspace;
use crate::registry::CredentialSource;
use crate::worker::discover::PREFIX;
use crate::worker::host::BackendCommand;

/// A fleet that a command uses.
#[derive(Clone, Debug)]
pub struct UsedFleet {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub fleet: Fleet,
    /// Ask every executor again what its nodes are.
    pub refresh: bool,
    /// This program.
    pub nimctl: PathBuf,
    /// What jobs may have of this process's environment.
    pub environment: BTreeMap<String, OsString>,
    /// Who we are to the registries of exchanges.
    pub credentials: CredentialSource,
}

impl UsedFleet {
    /// Reads a fleet file.
    ///
    /// # Errors
    /// A file that can't be read, or is no fleet file.
    pub fn read(
        path: &Path,
        refresh: bool,
        nimctl: PathBuf,
        environment: BTreeMap<String, OsString>,
        credentials: CredentialSource,
    ) -> Result<Self, PipelineError> {
        let doing = || "cannot read the fleet file".to_owned();
        let text = files::text::read(path).map_err(|source| PipelineError::Io { doing: doing(), source })?;
        let fleet = Fleet::parse(&text, &path.display().to_string()).map_err(Box::new)?;
        Ok(Self { path: path.into(), fleet, refresh, nimctl, environment, credentials })
    }

    /// Returns how a backend's worker is started on a node of an executor of Slurm.
    pub(super) fn worker_command(&self, name: &str, slurm: &Slurm, backend: &Backend) -> BackendCommand {
        let nimctl = slurm.nimctl.as_ref().unwrap_or(&self.nimctl).display().to_string();
        let command = [nimctl, "work".into(), "--backend".into(), backend.name().into()];
        let launch = slurm::launch(slurm, &format!("nimctl-{name}"), &command, &self.environment);
        let path = format!("{PREFIX}{backend}");
        BackendCommand { through: Some(launch), ..BackendCommand::new(path) }
    }

    /// Removes what an earlier command on this store left that was killed when all of its requests were done: its batches, what is left of
    /// their jobs, and requests whose results are in the store (`known`, by their keys). Only whoever has locked the store may do so. What
    /// can't be done is left for the next time; so are registries, unless `has_work`: nothing is asked of one where nothing is to be done.
    pub(super) fn sweep(&self, workspace: &Workspace, known: &BTreeSet<String>, has_work: bool) {
        let owner = owner(workspace);
        for (name, executor) in self.fleet.executors.iter() {
            let is_left_alone = match &executor.engine {
                Engine::Kubernetes(_) => !has_work,
                // It makes no folders.
                Engine::Slurm(slurm) => !SharedFolder::is_in(&slurm.shared),
            };
            if !is_left_alone {
                let _ = Site::with(name, executor, self, workspace, |site| {
                    sweep(name, &owner, site, known);
                });
            }
        }
    }

    /// Calls `work` with an executor, ready for requests.
    pub(super) fn with<T>(
        &self,
        name: &str,
        executor: &Executor,
        workspace: &Workspace,
        work: impl FnOnce(&Batches<'_>) -> T,
    ) -> Result<T, FleetFailure> {
        Site::with(name, executor, self, workspace, |site| {
            work(&Batches { name, executor, site, owner: owner(workspace), cancel: &workspace.cancel })
        })
    }
}

/// Removes what is over of an executor's batches.
fn sweep(executor: &str, owner: &str, site: &Site<'_>, known: &BTreeSet<String>) {
    let exchange = site.exchange();
    let batches = exchange.batches().unwrap_or_default().into_iter();
    for (name, batch) in batches.filter(|(_, batch)| batch.owner == owner && batch.executor == executor) {
        let ids: Vec<&str> = batch.requests.iter().map(String::as_str).collect();
        let Ok(looks) = exchange.look(&ids) else { return };
        let mut are_over = true;
        for (id, look) in ids.into_iter().zip(looks) {
            are_over &= match look {
                Ok(Look::Absent) => true,
                // The command was killed after the plan was in the store, and before the request was removed.
                Ok(Look::Done(_)) if known.contains(id) => exchange.remove(id).is_ok(),
                _ => false,
            };
        }
        if are_over && site.cancel_batch(executor, &name, batch.job.as_deref()).is_ok() {
            let _ = exchange.remove_batch(&name);
        }
    }
}

/// Returns what stands for a store and its machine in batches.
fn owner(workspace: &Workspace) -> String {
    format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), workspace.store.display())
}

/// Returns the name of a batch's job in Slurm, which no other has: a job whose number was not told can be found by it.
fn job_name(executor: &str, batch: &str) -> String {
    format!("nimctl-{executor}-{batch}")
}

impl From<Box<FleetError>> for PipelineError {
    fn from(error: Box<FleetError>) -> Self {
        Self::Fleet(error)
    }
}

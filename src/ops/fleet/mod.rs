//! Jobs on other machines: an engine (Slurm) runs `nimctl work` on nodes, and both sides meet in a shared folder
//! ([`crate::exchange`]).
//!
//! * [`work()`](work::work): the node's side.
//! * `batches`: watches requests until each has a result; one loop for everything that is asked of nodes. `lost`: hands in what is new,
//!   and what a job had that died.
//! * `describe`: what the nodes of an executor are; asked once, and remembered for a while.
//! * `places`: which executor takes which profile of a recipe.
//!
//! What a build asks of nodes is in [`crate::ops::schedule`].

mod batches;
mod describe;
mod error;
mod lost;
mod places;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(super) use batches::{Asked, Batches, Happening};
pub use error::FleetFailure;
pub use places::Place;
pub(super) use places::places;

use crate::backend::Backend;
use crate::exchange::{Exchange, Look};
use crate::files;
use crate::fleet::{Executor, Fleet, FleetError};
use crate::ops::error::PipelineError;
use crate::ops::workspace::Workspace;
use crate::slurm;
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
    ) -> Result<Self, PipelineError> {
        let doing = || "cannot read the fleet file".to_owned();
        let text = files::text::read(path).map_err(|source| PipelineError::Io { doing: doing(), source })?;
        let fleet = Fleet::parse(&text, &path.display().to_string()).map_err(Box::new)?;
        Ok(Self { path: path.into(), fleet, refresh, nimctl, environment })
    }

    /// Returns how a backend's worker is started on a node of an executor.
    pub(super) fn worker_command(
        &self,
        name: &str,
        executor: &Executor,
        backend: &Backend,
    ) -> BackendCommand {
        let slurm = &executor.slurm;
        let nimctl = slurm.nimctl.as_ref().unwrap_or(&self.nimctl).display().to_string();
        let command = [nimctl, "work".into(), "--backend".into(), backend.name().into()];
        let launch = slurm::launch(slurm, &format!("nimctl-{name}"), &command, &self.environment);
        let path = format!("{PREFIX}{backend}");
        BackendCommand { through: Some(launch), ..BackendCommand::new(path) }
    }

    /// Removes the batches of an earlier command on this store that was killed when all of its requests were done, and cancels what is
    /// left of their jobs. Only whoever has locked the store may do so. What can't be done is left for the next time.
    pub(super) fn sweep(&self, workspace: &Workspace) {
        let owner = owner(workspace);
        let shared: BTreeSet<&PathBuf> =
            self.fleet.executors.iter().map(|(_, one)| &one.slurm.shared).collect();
        for exchange in shared.into_iter().map(|shared| Exchange::at(shared)) {
            for (name, batch) in exchange.batches().unwrap_or_default() {
                let is_gone = |id: &String| matches!(exchange.look(id), Ok(Look::Absent));
                if batch.owner != owner || !batch.requests.iter().all(is_gone) {
                    continue;
                }
                let cancelled = match &batch.job {
                    Some(job) => slurm::cancel(&[job]),
                    None => slurm::cancel_named(&job_name(&batch.executor, &name)),
                };
                if cancelled.is_ok() {
                    let _ = exchange.remove_batch(&name);
                }
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
        let exchange = Exchange::open(&executor.slurm.shared).map_err(FleetFailure::of_exchange(name))?;
        let batches = Batches {
            name,
            executor,
            exchange: &exchange,
            owner: owner(workspace),
            nimctl: &self.nimctl,
            environment: &self.environment,
            cancel: &workspace.cancel,
        };
        Ok(work(&batches))
    }
}

/// Returns what stands for a store and its machine in batches.
fn owner(workspace: &Workspace) -> String {
    format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), workspace.store.display())
}

/// Returns the name of a batch's job, which no other has: a job whose number was not told can be found by it.
fn job_name(executor: &str, batch: &str) -> String {
    format!("nimctl-{executor}-{batch}")
}

impl From<Box<FleetError>> for PipelineError {
    fn from(error: Box<FleetError>) -> Self {
        Self::Fleet(error)
    }
}

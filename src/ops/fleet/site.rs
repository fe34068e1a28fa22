//! An executor's engine with its exchange: all that differs between Slurm and Kubernetes for whoever hands requests in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batches::now;
use super::error::FleetFailure;
use super::{UsedFleet, job_name};
use crate::engines::EngineError;
use crate::engines::kubernetes::{self, JobOf};
use crate::engines::slurm::{self, Submission};
use crate::error_kind::ErrorKind;
use crate::exchange::{Exchange, Scratch, SharedFolder};
use crate::fleet::{Apply, Engine, Executor, Kubernetes, Slurm, Task, TaskState};
use crate::ops::workspace::Workspace;
use crate::process::Cancel;
use crate::registry::{Notice, Repository, Watch};

/// Why a job of Slurm waits for something that doesn't come by itself.
const NEVER_STARTS: [&str; 9] = [
    "PartitionConfig",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "BadConstraints",
    "DependencyNeverSatisfied",
    "InvalidAccount",
    "InvalidQOS",
    "JobHoldMaxRequeue",
    "launch failed requeued held",
];
/// How long a pod may take to end that was told to.
const ENDING: Duration = Duration::from_secs(5 * 60);
/// How long a Job may wait for what doesn't come by itself: an image can't be pulled while its registry is restarted, either.
const HOPELESS: Duration = Duration::from_secs(2 * 60);
/// What a Job waits for that nimctl doesn't apply.
const BY_HAND: &str = "apply its Job, which `nimctl fleet manifests` prints";

/// An engine with its exchange.
pub(in crate::ops) enum Site<'a> {
    Slurm {
        keys: &'a Slurm,
        folder: SharedFolder,
        /// This program: nodes have it at the same place, where the fleet file names no other.
        nimctl: &'a Path,
        /// What jobs may have of this process's environment.
        environment: &'a BTreeMap<String, OsString>,
    },
    Kubernetes {
        keys: &'a Kubernetes,
        scratch: Box<Scratch<'a>>,
        /// How many indexes each Job has that was there: what is gone then, somebody deleted.
        seen: Mutex<BTreeMap<String, usize>>,
        /// Tasks whose pods were told to end, and since when they are known to be.
        ending: Mutex<BTreeMap<String, Instant>>,
    },
}

/// Returns the repository of an executor's exchange.
///
/// # Errors
/// In words: it is no repository.
pub fn repository(kubernetes: &Kubernetes) -> Result<Repository, String> {
    kubernetes.repository().parse().map_err(|error: crate::registry::InvalidReference| error.to_string())
}

impl Site<'_> {
    /// Opens an executor's exchange, and calls `work` with it.
    pub(in crate::ops) fn with<T>(
        name: &str,
        executor: &Executor,
        used: &UsedFleet,
        workspace: &Workspace,
        work: impl FnOnce(&Site<'_>) -> T,
    ) -> Result<T, FleetFailure> {
        match &executor.engine {
            Engine::Slurm(keys) => {
                let folder = SharedFolder::open(&keys.shared).map_err(FleetFailure::of_exchange(name))?;
                let (nimctl, environment) = (used.nimctl.as_path(), &used.environment);
                Ok(work(&Site::Slurm { keys, folder, nimctl, environment }))
            }
            Engine::Kubernetes(keys) => {
                let wrong = |problem: String| FleetFailure::new(name, ErrorKind::Input, problem);
                let repository = repository(keys).map_err(wrong)?;
                let folder = copies(workspace).map_err(|error| {
                    let message = format!("cannot make a folder for copies of requests: {error}");
                    FleetFailure::new(name, ErrorKind::Unavailable, message)
                })?;
                let cancelled = || workspace.cancel.is_cancelled();
                let watch = Watch { cancelled: &cancelled, notice: &|_: Notice| () };
                let scratch = Scratch::new(
                    repository,
                    Scratch::options(keys.plain_http, used.credentials.clone()),
                    watch,
                    folder,
                );
                Ok(work(&Site::Kubernetes {
                    keys,
                    scratch: Box::new(scratch),
                    seen: Mutex::default(),
                    ending: Mutex::default(),
                }))
            }
        }
    }

    pub(in crate::ops) fn exchange(&self) -> &dyn Exchange {
        match self {
            Self::Slurm { folder, .. } => folder,
            Self::Kubernetes { scratch, .. } => scratch.as_ref(),
        }
    }

    /// Returns the job of a batch, if that is known before it is submitted.
    pub(super) fn job_ahead(&self, executor: &str, batch: &str) -> Option<String> {
        match self {
            Self::Slurm { .. } => None,
            Self::Kubernetes { .. } => Some(kubernetes::job_name(executor, batch)),
        }
    }

    /// Submits a job for a batch; returns how the engine calls it.
    pub(super) fn submit(&self, of: JobOf<'_>, cancel: &Cancel) -> Result<String, EngineError> {
        let JobOf { executor, batch, requests } = of;
        match self {
            Self::Slurm { keys, folder, nimctl, environment } => {
                let tasks = keys.nodes.min(u32::try_from(requests).unwrap_or(u32::MAX)).max(1);
                let nimctl = keys.nimctl.as_deref().unwrap_or(nimctl);
                let command = [
                    nimctl.display().to_string(),
                    "work".into(),
                    "--shared".into(),
                    keys.shared.display().to_string(),
                    "--batch".into(),
                    batch.into(),
                ];
                let (name, logs) = (job_name(executor, batch), folder.logs());
                let submission =
                    Submission { name: &name, tasks, logs: &logs, command: &command, environment };
                slurm::submit(keys, &submission, cancel)
            }
            Self::Kubernetes { keys, .. } => {
                if keys.apply == Apply::Kubectl {
                    kubernetes::submit(keys, of, cancel)?;
                }
                Ok(kubernetes::job_name(executor, batch))
            }
        }
    }

    /// Returns the tasks of jobs, as far as the engine still knows them.
    pub(super) fn tasks(&self, jobs: &[&str], cancel: &Cancel) -> Result<Vec<Task>, EngineError> {
        let (keys, seen, ending) = match self {
            Self::Slurm { .. } => return slurm::tasks(jobs, cancel),
            Self::Kubernetes { keys, seen, ending, .. } => (keys, seen, ending),
        };
        let task = |job: &str, index: usize, state: TaskState, reason: &str| Task {
            id: format!("{job}_{index}"),
            state,
            reason: reason.into(),
            node: String::new(),
        };
        if keys.apply == Apply::ByHand {
            return Ok(jobs.iter().map(|job| task(job, 0, TaskState::Waiting, BY_HAND)).collect());
        }
        let mut tasks = kubernetes::tasks(keys, jobs, cancel)?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for task in &tasks {
            *counts.entry(Task::job_of(&task.id).to_owned()).or_default() += 1;
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (job, count) in seen.iter().filter(|(job, _)| jobs.contains(&job.as_str())) {
            if !counts.contains_key(job) {
                let gone = TaskState::Over("CANCELLED".into());
                tasks.extend((0..*count).map(|index| task(job, index, gone.clone(), "")));
            }
        }
        seen.extend(counts);
        let mut ending = ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|id, _| tasks.iter().any(|task| task.id == *id && kubernetes::is_terminating(task)));
        for task in tasks.iter_mut().filter(|task| kubernetes::is_terminating(task)) {
            // Kubernetes replaces a pod once it has ended, and that of a node that is gone never does.
            if ending.entry(task.id.clone()).or_insert_with(now).elapsed() >= ENDING {
                task.state = TaskState::Over("NODE_FAIL".into());
            }
        }
        Ok(tasks)
    }

    /// Returns whether the engine gave a request to a task for good: then nobody claims it.
    pub(super) fn assigns(&self) -> bool {
        matches!(self, Self::Kubernetes { .. })
    }

    /// Returns whether the engine itself starts again what failed.
    pub(super) fn retries(&self) -> bool {
        matches!(self, Self::Kubernetes { .. })
    }

    /// Returns whether what a task waits for doesn't come by itself.
    pub(super) fn never_starts(&self, reason: &str) -> bool {
        match self {
            Self::Slurm { .. } => NEVER_STARTS.iter().any(|known| reason.starts_with(known)),
            Self::Kubernetes { .. } => kubernetes::never_starts(reason),
        }
    }

    /// Returns for how long a job is given a chance whose tasks wait for what doesn't come by itself.
    pub(super) fn patience(&self) -> Duration {
        if self.assigns() { HOPELESS } else { Duration::ZERO }
    }

    /// Cancels jobs; those that are over stay over.
    pub(super) fn cancel(&self, jobs: &[&str]) -> Result<(), EngineError> {
        match self {
            Self::Slurm { .. } => slurm::cancel(jobs),
            Self::Kubernetes { keys, .. } if keys.apply == Apply::ByHand => Ok(()),
            Self::Kubernetes { keys, .. } => kubernetes::delete(keys, jobs),
        }
    }

    /// Cancels the job of a batch: by how the engine calls it, if that was told, else by its name.
    pub(super) fn cancel_batch(
        &self,
        executor: &str,
        batch: &str,
        job: Option<&str>,
    ) -> Result<(), EngineError> {
        match (self, job) {
            (Self::Slurm { .. }, Some(job)) => slurm::cancel(&[job]),
            (Self::Slurm { .. }, None) => slurm::cancel_named(&job_name(executor, batch)),
            // Whatever somebody wrote into the exchange, it is no other Job.
            (Self::Kubernetes { .. }, _) => self.cancel(&[&kubernetes::job_name(executor, batch)]),
        }
    }

    /// Returns the end of what a task printed.
    pub(super) fn log_tail(&self, task: &str) -> String {
        match self {
            Self::Slurm { folder, .. } => folder.log_tail(task),
            Self::Kubernetes { keys, .. } if keys.apply == Apply::ByHand => String::new(),
            Self::Kubernetes { keys, .. } => kubernetes::log_tail(keys, task),
        }
    }

    /// Removes what the tasks of a job printed.
    pub(super) fn remove_logs(&self, job: &str) {
        if let Self::Slurm { folder, .. } = self {
            folder.remove_logs(job);
        }
    }
}

/// Returns the folder for copies of requests that are being sent.
fn copies(workspace: &Workspace) -> std::io::Result<PathBuf> {
    let folder = workspace.places.data_folder.join("fleet/tmp");
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// Returns the executors that have different exchanges: of several that share one, the first.
pub(super) fn with_own_exchanges(used: &UsedFleet) -> Vec<(&str, &Executor)> {
    let mut known = BTreeSet::new();
    let place = |executor: &Executor| match &executor.engine {
        Engine::Slurm(slurm) => slurm.shared.display().to_string(),
        Engine::Kubernetes(kubernetes) => kubernetes.exchange.clone(),
    };
    used.fleet.executors.iter().filter(|(_, executor)| known.insert(place(executor))).collect()
}

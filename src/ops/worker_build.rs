//! One plan from a worker: for a job here, and on a node of a fleet.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::error::{JobError, WrongPlan, WrongWorker};
use crate::backend::facts_of;
use crate::error_kind::ErrorKind;
use crate::worker::error::WorkerError;
use crate::worker::host::{Answer, BackendCommand, Cancel, Limits, Worker};
use crate::worker::protocol::{BuildRequest, BuildResult, Event};

/// What runs a build.
pub(super) struct WorkerBuild<'a> {
    /// How the worker is started.
    pub(super) command: &'a BackendCommand,
    /// How long a build may take.
    pub(super) timeout: Duration,
    /// Workers that are up, by backend.
    pub(super) workers: &'a mut BTreeMap<String, Worker>,
    /// Ends it.
    pub(super) cancel: &'a Cancel,
}

/// Why there is no plan.
pub(super) enum BuildFailure {
    /// The worker.
    Worker(WorkerError),
    /// What it is, or what it wrote.
    Plan(JobError),
}

impl WorkerBuild<'_> {
    /// Builds a plan, in a worker that is up or in a new one.
    pub(super) fn run(
        &mut self,
        request: BuildRequest,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<BuildResult>, BuildFailure> {
        let Self { command, timeout, workers, cancel } = self;
        let backend = command.name();
        workers.retain(|_, worker| worker.is_healthy());
        if !workers.contains_key(&backend) {
            let limits = Limits { request_timeout: *timeout, ..Limits::default() };
            let worker = Worker::spawn(command, limits).map_err(BuildFailure::Worker)?;
            check_worker(&backend, &worker).map_err(BuildFailure::Plan)?;
            workers.insert(backend.clone(), worker);
        }
        let worker = workers.get_mut(&backend).expect("a worker was just put there");
        let plan = request.plan.clone();
        let answer = worker.build(request, cancel, on_event).map_err(BuildFailure::Worker)?;
        check_file(&plan, answer.result.plan_size_bytes, &backend).map_err(BuildFailure::Plan)?;
        Ok(answer)
    }
}

/// Checks that a worker makes plans as this nimctl takes for granted in build keys.
fn check_worker(backend: &str, worker: &Worker) -> Result<(), JobError> {
    let (expected, found) = (facts_of(backend).build_revision, worker.description().build_revision);
    if expected == 0 || found == expected {
        return Ok(());
    }
    Err(JobError::new(ErrorKind::Refused, WrongWorker { backend: backend.to_owned(), found, expected }))
}

/// Checks that a worker wrote the plan that it says it wrote: a file of its own, of this size in bytes.
fn check_file(plan: &Path, said_bytes: u64, backend: &str) -> Result<(), JobError> {
    let wrong = |what: String| {
        JobError::new(ErrorKind::Unavailable, WrongPlan::NotWritten { backend: backend.to_owned(), what })
    };
    let metadata = match fs_err::symlink_metadata(plan) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(wrong("is missing".into())),
        Err(error) => return Err(JobError::new(ErrorKind::Unavailable, error)),
    };
    match metadata.len() {
        _ if metadata.is_symlink() => Err(wrong("is a link".into())),
        _ if !metadata.is_file() => Err(wrong("is not a regular file".into())),
        0 => Err(wrong("is empty".into())),
        found if found != said_bytes => {
            Err(wrong(format!("has {found} bytes, but the backend reported {said_bytes}")))
        }
        _ => Ok(()),
    }
}

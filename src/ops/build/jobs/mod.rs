//! Runs the jobs that must run: lowerings on threads of this process, compilations in workers.
//!
//! Jobs run side by side within the machine's cores and memory; compilers that use the GPU run one at a time, because
//! they time kernels on it. A worker stays alive across jobs while it is healthy.

mod compile;
mod lower;
mod memory;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};

use super::backends::BackendHere;
use super::mixed_precision::MixedLowerings;
use super::sources::SourceGraph;
use super::{BuildError, BuildEvent, BuildOptions, JobError};
use crate::error_kind::ErrorKind;
use crate::profile::Backend;
use crate::store::Store;
use crate::worker::host::Worker;
use crate::worklist::{Action, BuildKey, BuildRecord, Job, JobState};

/// What came of each job.
pub(super) type Finished = BTreeMap<BuildKey, Result<BuildRecord, JobError>>;

/// What every job needs.
pub(super) struct Context<'a> {
    pub graphs: &'a BTreeMap<String, SourceGraph>,
    pub backends: &'a BTreeMap<Backend, BackendHere>,
    pub store: &'a Store,
    pub mixed: &'a MixedLowerings,
    pub options: &'a BuildOptions,
    pub on_event: &'a (dyn Fn(BuildEvent) + Sync),
}

/// Runs the jobs that must run, lowerings before compilations.
pub(super) fn run(
    work: &[(Job, JobState)],
    graphs: &BTreeMap<String, SourceGraph>,
    backends: &BTreeMap<Backend, BackendHere>,
    store: &Store,
    mixed: &MixedLowerings,
    options: &BuildOptions,
    on_event: &(dyn Fn(BuildEvent) + Sync),
) -> Result<Finished, BuildError> {
    let context = Context { graphs, backends, store, mixed, options, on_event };
    for (job, _) in work.iter().filter(|(_, state)| matches!(state, JobState::UpToDate(_))) {
        store.remember_places(job)?;
    }
    let mut finished = all_up_to_date(work);
    let (lowerings, compilations): (Vec<&Job>, Vec<&Job>) = work
        .iter()
        .filter(|(_, state)| matches!(state, JobState::MustRun(_)))
        .map(|(job, _)| job)
        .partition(|job| job.input.is_none());
    on_event(BuildEvent::Starting { jobs: lowerings.len() + compilations.len() });
    run_side_by_side(lowerings, &context, &mut finished);
    run_side_by_side(compilations, &context, &mut finished);
    Ok(finished)
}

/// Collects the records of the jobs that need not run.
pub(super) fn all_up_to_date(work: &[(Job, JobState)]) -> Finished {
    let record = |(job, state): &(Job, JobState)| match state {
        JobState::UpToDate(record) => Some((job.key, Ok(record.as_ref().clone()))),
        JobState::MustRun(_) => None,
    };
    work.iter().filter_map(record).collect()
}

/// What the threads share.
struct Shared<'a> {
    waiting: VecDeque<&'a Job>,
    running: usize,
    running_on_gpu: bool,
    memory_bytes: u64,
    finished: Finished,
}

fn run_side_by_side(jobs: Vec<&Job>, context: &Context<'_>, finished: &mut Finished) {
    if jobs.is_empty() {
        return;
    }
    let threads = context.options.parallel_jobs.clamp(1, jobs.len());
    let budget_bytes = memory::budget_bytes();
    let shared = Mutex::new(Shared {
        waiting: jobs.into(),
        running: 0,
        running_on_gpu: false,
        memory_bytes: 0,
        finished: std::mem::take(finished),
    });
    let changed = Condvar::new();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run_thread(&shared, &changed, budget_bytes, context));
        }
    });
    *finished = shared.into_inner().unwrap_or_else(PoisonError::into_inner).finished;
}

fn run_thread(shared: &Mutex<Shared<'_>>, changed: &Condvar, budget_bytes: u64, context: &Context<'_>) {
    let mut workers: BTreeMap<String, Worker> = BTreeMap::new();
    while let Some((job, need_bytes, on_gpu)) = take_job(shared, changed, budget_bytes, context) {
        let input = job.input.map(|key| {
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.finished.get(&key).cloned()
        });
        (context.on_event)(BuildEvent::JobStarted { title: job.title() });
        let result = run_job(job, input.flatten(), &mut workers, context);
        match &result {
            Ok(record) => (context.on_event)(BuildEvent::JobFinished {
                title: job.title(),
                total_ms: record.timings.total_ms,
                size_bytes: record.outputs.iter().map(|output| output.size_bytes).sum(),
            }),
            Err(error) => (context.on_event)(BuildEvent::JobFailed {
                title: job.title(),
                message: error.message.clone(),
            }),
        }
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.running -= 1;
        shared.memory_bytes -= need_bytes;
        shared.running_on_gpu &= !on_gpu;
        shared.finished.insert(job.key, result);
        changed.notify_all();
    }
}

/// Waits for a job that fits beside those that run; a job alone always fits. Nothing once all are taken, or when
/// cancelled.
fn take_job<'a>(
    shared: &Mutex<Shared<'a>>,
    changed: &Condvar,
    budget_bytes: u64,
    context: &Context<'_>,
) -> Option<(&'a Job, u64, bool)> {
    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.waiting.is_empty() || context.options.cancel.is_cancelled() {
            return None;
        }
        let fits = |job: &&Job| {
            let in_budget = state.running == 0
                || state.memory_bytes + memory::estimate_bytes(job, context) <= budget_bytes;
            in_budget && !(state.running_on_gpu && uses_gpu(job, context))
        };
        if let Some(job) = state.waiting.iter().position(fits).and_then(|index| state.waiting.remove(index)) {
            let (need_bytes, on_gpu) = (memory::estimate_bytes(job, context), uses_gpu(job, context));
            state.running += 1;
            state.memory_bytes += need_bytes;
            state.running_on_gpu |= on_gpu;
            return Some((job, need_bytes, on_gpu));
        }
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn uses_gpu(job: &Job, context: &Context<'_>) -> bool {
    backend_of(job, context)
        .is_some_and(|here| matches!(here, BackendHere::Ready(builder) if builder.gpus.is_some()))
}

fn backend_of<'a>(job: &Job, context: &Context<'a>) -> Option<&'a BackendHere> {
    match &job.document.action {
        Action::Lower => None,
        Action::Compile(name) => {
            context.backends.iter().find(|(backend, _)| backend.name() == name).map(|(_, here)| here)
        }
    }
}

fn run_job(
    job: &Job,
    input: Option<Result<BuildRecord, JobError>>,
    workers: &mut BTreeMap<String, Worker>,
    context: &Context<'_>,
) -> Result<BuildRecord, JobError> {
    let record = match &job.document.action {
        Action::Lower => lower::run(job, context)?,
        Action::Compile(backend) => {
            let lowered = match input {
                Some(Ok(record)) => record,
                Some(Err(error)) => return Err(error),
                None => {
                    let missing = std::io::Error::other("the lowered graph is missing");
                    return Err(JobError::new(ErrorKind::Bug, missing));
                }
            };
            compile::run(job, backend, &lowered, workers, context)?
        }
    };
    context.store.remember(job, &record)?;
    Ok(record)
}

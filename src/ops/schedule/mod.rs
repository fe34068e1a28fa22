//! `schedule`: runs the jobs that must run: searches first, then lowerings on threads of this process, then compilations in
//! workers.
//!
//! Jobs run side by side within the machine's cores and memory; compilers that use the GPU run one at a time, because
//! they time kernels on it. A worker stays alive across jobs while it is healthy.

mod compile;
mod compile_failed;
mod lower;
mod memory;
mod remote;
mod search;
mod space;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};

use super::error::{JobError, PipelineError};
use super::event::{BuildEvent, OnEvent};
use super::resolve::{BackendHere, Resolved};
use super::workspace::Workspace;
use crate::error_kind::ErrorKind;
use crate::store::{Store, WriteLock};
use crate::worker::host::Worker;
use crate::worklist::{Action, BuildKey, BuildRecord, Job, JobState};

/// What came of each job, by its key.
pub type Records = BTreeMap<BuildKey, Result<BuildRecord, JobError>>;

/// What every job needs.
struct Context<'a> {
    workspace: &'a Workspace,
    resolved: &'a Resolved,
    store: &'a Store,
    on_event: OnEvent<'a>,
}

/// Runs what must run of a resolved recipe, in a store that this process has locked. What was resolved is brought up to what
/// the store has now, and to what the searches found.
///
/// # Errors
/// What ends everything: a search that failed, a store that can't be written, the user. The failure of one job is in its record.
pub fn schedule(
    workspace: &Workspace,
    resolved: &mut Resolved,
    store: &Store,
    _lock: &WriteLock,
    on_event: OnEvent<'_>,
) -> Result<Records, PipelineError> {
    search::run_all(workspace, resolved, store, on_event)?;
    resolved.decide(store)?;
    let context = Context { workspace, resolved, store, on_event };
    let mut records = up_to_date(&resolved.jobs);
    let must_run: Vec<&Job> = resolved
        .jobs
        .iter()
        .filter(|(_, state)| matches!(state, JobState::MustRun(_)))
        .map(|(job, _)| job)
        .collect();
    if let Some(fleet) = &workspace.fleet {
        let is_known = |(_, state): &&(Job, JobState)| matches!(state, JobState::UpToDate(_));
        let known = resolved.jobs.iter().filter(is_known).map(|(job, _)| job.key.to_hex()).collect();
        fleet.sweep(workspace, &known, !must_run.is_empty());
    }
    if !must_run.is_empty() {
        for (job, _) in resolved.jobs.iter().filter(|(_, state)| matches!(state, JobState::UpToDate(_))) {
            store.remember_places(job)?;
        }
        on_event(BuildEvent::Starting { jobs: must_run.len() });
        let (lowerings, compilations): (Vec<&Job>, Vec<&Job>) =
            must_run.into_iter().partition(|job| job.input.is_none());
        run_side_by_side(lowerings, &context, &mut records);
        run_everywhere(compilations, &context, &mut records);
    }
    if workspace.cancel.is_cancelled() { Err(PipelineError::Cancelled) } else { Ok(records) }
}

/// Collects the records of the jobs that need not run.
fn up_to_date(jobs: &[(Job, JobState)]) -> Records {
    let record = |(job, state): &(Job, JobState)| match state {
        JobState::UpToDate(record) => Some((job.key, Ok(record.as_ref().clone()))),
        JobState::MustRun(_) => None,
    };
    jobs.iter().filter_map(record).collect()
}

/// Runs compilations: those of each executor on its nodes, the others here, all at the same time.
fn run_everywhere(jobs: Vec<&Job>, context: &Context<'_>, finished: &mut Records) {
    let mut here = Vec::new();
    let mut remote: BTreeMap<&str, Vec<&Job>> = BTreeMap::new();
    for job in jobs {
        match context.resolved.executor_of(job) {
            Some(executor) => remote.entry(executor).or_default().push(job),
            None => here.push(job),
        }
    }
    let lowered = &finished.clone();
    std::thread::scope(|scope| {
        let run = |(executor, jobs)| scope.spawn(move || remote::run(executor, jobs, lowered, context));
        let threads: Vec<_> = remote.into_iter().map(run).collect();
        run_side_by_side(here, context, finished);
        for records in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            finished.extend(records);
        }
    });
}

/// Tells how a job ended.
fn tell_end(job: &Job, result: &Result<BuildRecord, JobError>, context: &Context<'_>) {
    match result {
        Ok(record) => (context.on_event)(BuildEvent::JobFinished {
            title: job.title(),
            total_ms: record.total_ms(),
            size_bytes: record.outputs.iter().map(|output| output.size_bytes).sum(),
        }),
        Err(error) => {
            (context.on_event)(BuildEvent::JobFailed { title: job.title(), message: error.message.clone() })
        }
    }
}

/// What the threads share.
struct Shared<'a> {
    waiting: VecDeque<&'a Job>,
    running: usize,
    running_on_gpu: bool,
    memory_bytes: u64,
    finished: Records,
}

fn run_side_by_side(jobs: Vec<&Job>, context: &Context<'_>, finished: &mut Records) {
    if jobs.is_empty() {
        return;
    }
    let threads = context.workspace.parallel_jobs.clamp(1, jobs.len());
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
        tell_end(job, &result, context);
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.running -= 1;
        shared.memory_bytes -= need_bytes;
        shared.running_on_gpu &= !on_gpu;
        shared.finished.insert(job.key, result);
        changed.notify_all();
    }
}

/// Waits for a job that fits beside those that run; a job alone always fits. `None` once all are taken, or when
/// cancelled.
fn take_job<'a>(
    shared: &Mutex<Shared<'a>>,
    changed: &Condvar,
    budget_bytes: u64,
    context: &Context<'_>,
) -> Option<(&'a Job, u64, bool)> {
    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.waiting.is_empty() || context.workspace.cancel.is_cancelled() {
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
        .is_some_and(|here| matches!(here, BackendHere::Ready(builder) if builder.abilities.gpus.is_some()))
}

fn backend_of<'a>(job: &Job, context: &Context<'a>) -> Option<&'a BackendHere> {
    match &job.document.action {
        Action::Lower => None,
        Action::Compile(name) => {
            context.resolved.builders.iter().find(|(backend, _)| backend.name() == name).map(|(_, here)| here)
        }
    }
}

fn run_job(
    job: &Job,
    input: Option<Result<BuildRecord, JobError>>,
    workers: &mut BTreeMap<String, Worker>,
    context: &Context<'_>,
) -> Result<BuildRecord, JobError> {
    let lowered = input.transpose()?;
    space::check(job, context)?;
    let mut run = |lowered: Option<&BuildRecord>| {
        let record = match (&job.document.action, lowered) {
            (Action::Lower, _) => lower::run(job, context)?,
            (Action::Compile(backend), Some(lowered)) => {
                compile::run(job, backend, lowered, workers, context)?
            }
            (Action::Compile(_), None) => {
                let missing = std::io::Error::other("the lowered graph is missing");
                return Err(JobError::new(ErrorKind::Bug, missing));
            }
        };
        context.store.remember(job, &record)?;
        Ok(record)
    };
    run(lowered.as_ref()).map_err(|error| space::told_if_full(error, job, lowered.as_ref(), context))
}

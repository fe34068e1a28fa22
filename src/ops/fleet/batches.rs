//! Hands requests to an executor's engine, and watches them until each has a result.
//!
//! The engine's job is a *batch*: an array of as many tasks as nodes may work at once; each task takes request after request. So jobs
//! of one kind share an allocation, and a node that comes late takes what is left. What is known is on disk: a coordinator that dies
//! loses nothing, and the next one finds results, goes on waiting for what still runs, and hands in the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::FleetFailure;
use crate::error_kind::ErrorKind;
use crate::exchange::{Batch, Claim, Exchange, Look};
use crate::fleet::exchange::RemoteResult;
use crate::fleet::{Executor, Slurm};
use crate::process::Cancel;
use crate::slurm::{self, Submission, Task, TaskState};
use crate::worker::protocol::Event;

/// How often results are looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often the engine is asked, at first and once it has been quiet for a while.
const FIRST_ASK: Duration = Duration::from_millis(500);
const LAST_ASK: Duration = Duration::from_secs(10);
/// How long the engine may be out of reach.
const OUTAGE: Duration = Duration::from_secs(15 * 60);
/// How often a request is handed in that a node lost.
const ATTEMPTS: u32 = 3;
/// A claim that is being written is whole after so many looks, or never.
const CLAIM_LOOKS: u32 = 50;

/// One executor, as a command uses it.
pub(in crate::ops) struct Batches<'a> {
    /// Its name in the fleet file.
    pub(in crate::ops) name: &'a str,
    /// What the file says of it.
    pub(in crate::ops) executor: &'a Executor,
    /// Its shared folder.
    pub(in crate::ops) exchange: &'a Exchange,
    /// The store that asks, and its machine.
    pub(in crate::ops) owner: String,
    /// This program: nodes have it at the same place, where the fleet file names no other.
    pub(in crate::ops) nimctl: &'a Path,
    /// What jobs may have of this process's environment.
    pub(in crate::ops) environment: &'a BTreeMap<String, OsString>,
    /// Ends everything.
    pub(in crate::ops) cancel: &'a Cancel,
}

/// Something that is asked of a node.
pub(in crate::ops) struct Asked<'a> {
    /// Its name in the exchange: the same request has the same name.
    pub(in crate::ops) id: String,
    /// Puts it in.
    pub(in crate::ops) put: Box<dyn Fn() -> Result<(), FleetFailure> + 'a>,
}

/// What happens to a request.
pub(in crate::ops) enum Happening<'a> {
    /// It waits for a node, for this reason.
    Waits(&'a str),
    /// A node works on it.
    On(&'a str),
    /// The worker tells of it.
    Told(Event),
    /// It was lost, and is handed in again.
    Again(String),
    /// It is done.
    Done(Result<RemoteResult, FleetFailure>),
}

/// A request without a result yet.
struct Pending<'a> {
    asked: Asked<'a>,
    attempts: u32,
    told_bytes: u64,
    claim: Option<Claim>,
    empty_claims: u32,
}

/// A job of the engine that works on requests of ours.
struct Job {
    batch: String,
    requests: BTreeSet<String>,
    is_ours: bool,
    has_started: bool,
    submitted: Instant,
}

impl Batches<'_> {
    /// Waits until every request has a result; `on` is told of each by its place.
    pub(in crate::ops) fn run(&self, asked: Vec<Asked<'_>>, on: &mut dyn FnMut(&str, Happening<'_>)) {
        let pending = asked.into_iter().map(|asked| Pending {
            asked,
            attempts: 0,
            told_bytes: 0,
            claim: None,
            empty_claims: 0,
        });
        let mut watch = Watch {
            of: self,
            pending: pending.collect(),
            jobs: BTreeMap::new(),
            tasks: Vec::new(),
            asked_at: None,
            ask_every: FIRST_ASK,
            answered_at: now(),
        };
        if let Err(failure) = watch.run(on) {
            for Pending { asked, .. } in std::mem::take(&mut watch.pending) {
                on(&asked.id, Happening::Done(Err(failure.clone())));
            }
        }
        watch.leave();
    }

    fn slurm(&self) -> &Slurm {
        &self.executor.slurm
    }

    fn failure(&self, kind: ErrorKind, message: impl Into<String>) -> FleetFailure {
        FleetFailure::new(self.name, kind, message)
    }
}

struct Watch<'a, 'b> {
    of: &'b Batches<'a>,
    pending: Vec<Pending<'b>>,
    /// By the engine's number.
    jobs: BTreeMap<String, Job>,
    /// What the engine said last.
    tasks: Vec<Task>,
    asked_at: Option<Instant>,
    ask_every: Duration,
    answered_at: Instant,
}

#[expect(clippy::disallowed_methods, reason = "waiting has limits")]
fn now() -> Instant {
    Instant::now()
}

/// Returns the engine's number of the job that a task is of.
fn job_of(task: &str) -> &str {
    task.split('_').next().unwrap_or(task)
}

impl<'b> Watch<'_, 'b> {
    fn run(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) -> Result<(), FleetFailure> {
        self.find_jobs()?;
        loop {
            if self.of.cancel.is_cancelled() {
                return Err(self.of.failure(ErrorKind::Interrupted, "interrupted"));
            }
            self.take_results(on)?;
            if self.pending.is_empty() {
                return Ok(());
            }
            if self.asked_at.is_none_or(|at| at.elapsed() >= self.ask_every) && self.ask()? {
                self.check_waiting(on)?;
                self.hand_in_lost(on)?;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Finds the jobs of earlier coordinators that work on what is asked.
    fn find_jobs(&mut self) -> Result<(), FleetFailure> {
        let batches = self.of.exchange.batches().map_err(FleetFailure::of_exchange(self.of.name))?;
        for (name, batch) in batches {
            let is_asked = self.pending.iter().any(|pending| batch.requests.contains(&pending.asked.id));
            if let (true, Some(job)) = (is_asked, batch.job) {
                let requests = batch.requests.into_iter().collect();
                let job_facts =
                    Job { batch: name, requests, is_ours: false, has_started: false, submitted: now() };
                self.jobs.insert(job, job_facts);
            }
        }
        Ok(())
    }

    fn take_results(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) -> Result<(), FleetFailure> {
        let mut left = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let id = pending.asked.id.clone();
            for event in self.of.exchange.told(&id, &mut pending.told_bytes) {
                on(&id, Happening::Told(event));
            }
            match self.of.exchange.look(&id) {
                Ok(Look::Done(result)) => on(&id, Happening::Done(Ok(*result))),
                Err(error) => on(&id, Happening::Done(Err(FleetFailure::of_exchange(self.of.name)(error)))),
                Ok(Look::Claimed(claim)) => {
                    if claim.task.is_empty() {
                        pending.empty_claims += 1;
                    } else if pending.claim.as_ref() != Some(&claim) {
                        on(&id, Happening::On(&claim.node));
                    }
                    pending.claim = Some(claim);
                    left.push(pending);
                }
                Ok(Look::Waiting | Look::Absent) => {
                    pending.claim = None;
                    left.push(pending);
                }
            }
        }
        self.pending = left;
        Ok(())
    }

    /// Asks the engine how its jobs are; whether it answered.
    fn ask(&mut self) -> Result<bool, FleetFailure> {
        self.asked_at = Some(now());
        self.ask_every = (self.ask_every * 3 / 2).min(LAST_ASK);
        let of_claims = self.pending.iter().filter_map(|pending| pending.claim.as_ref());
        let claimed = of_claims.map(|claim| job_of(&claim.task)).filter(|job| !job.is_empty());
        let jobs: BTreeSet<&str> = self.jobs.keys().map(String::as_str).chain(claimed).collect();
        if jobs.is_empty() {
            return Ok(true);
        }
        let jobs: Vec<&str> = jobs.into_iter().collect();
        match slurm::tasks(&jobs, self.of.cancel) {
            Ok(tasks) => {
                for task in &tasks {
                    if let (Some(job), true) =
                        (self.jobs.get_mut(job_of(&task.id)), task.state != TaskState::Waiting)
                    {
                        job.has_started = true;
                    }
                }
                self.tasks = tasks;
                self.answered_at = now();
                Ok(true)
            }
            // A controller that is being restarted answers later.
            Err(error) if self.answered_at.elapsed() >= OUTAGE || self.of.cancel.is_cancelled() => {
                Err(FleetFailure::of_slurm(self.of.name)(error))
            }
            Err(_) => Ok(false),
        }
    }

    fn is_live(&self, job: &str) -> bool {
        self.tasks.iter().any(|task| job_of(&task.id) == job && !matches!(task.state, TaskState::Over(_)))
    }

    fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// Tells what waits for a node, and gives up what has waited too long.
    fn check_waiting(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) -> Result<(), FleetFailure> {
        let limit = self.of.slurm().max_wait;
        let mut given_up = Vec::new();
        for (number, job) in &self.jobs {
            let waiting =
                self.tasks.iter().find(|task| job_of(&task.id) == number && task.state == TaskState::Waiting);
            let Some(task) = waiting else { continue };
            let unclaimed = self.pending.iter().filter(|pending| pending.claim.is_none());
            for pending in unclaimed.filter(|pending| job.requests.contains(&pending.asked.id)) {
                on(&pending.asked.id, Happening::Waits(&task.reason));
            }
            if !job.has_started && job.submitted.elapsed() >= limit.duration() {
                given_up.push((number.clone(), task.reason.clone()));
            }
        }
        for (number, reason) in given_up {
            let Some(job) = self.jobs.remove(&number) else { continue };
            let _ = slurm::cancel(&number);
            let _ = self.of.exchange.remove_batch(&job.batch);
            let (lost, left) =
                std::mem::take(&mut self.pending).into_iter().partition::<Vec<_>, _>(|pending| {
                    pending.claim.is_none() && job.requests.contains(&pending.asked.id)
                });
            self.pending = left;
            for Pending { asked, .. } in lost {
                let message = format!(
                    "job {number} waited for a node for {limit} (Slurm's reason: {reason}), which is `max_wait`, and was cancelled"
                );
                let _ = self.of.exchange.remove(&asked.id);
                on(&asked.id, Happening::Done(Err(self.of.failure(ErrorKind::Unavailable, message))));
            }
        }
        Ok(())
    }

    /// Hands in what no job works on: what is new, and what a job that died had.
    fn hand_in_lost(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) -> Result<(), FleetFailure> {
        let (mut left, mut to_hand_in) = (Vec::new(), Vec::new());
        for mut pending in std::mem::take(&mut self.pending) {
            let id = pending.asked.id.clone();
            let cause = match &pending.claim {
                Some(claim) if claim.task.is_empty() && pending.empty_claims < CLAIM_LOOKS => None,
                Some(claim) => match self.task(&claim.task).map(|task| &task.state) {
                    Some(TaskState::Waiting | TaskState::Running) => None,
                    Some(TaskState::Over(state)) => Some(Some((claim.task.clone(), state.clone()))),
                    // The engine doesn't know it any more.
                    None => Some(Some((claim.task.clone(), String::new()))),
                },
                None => match self.jobs.iter().rev().find(|(_, job)| job.requests.contains(&id)) {
                    Some((number, _)) if self.is_live(number) => None,
                    Some((number, _)) => {
                        let of_job = self.tasks.iter().rev().find(|task| job_of(&task.id) == number);
                        let unknown = || (format!("{number}_1"), String::new());
                        Some(Some(of_job.map_or_else(unknown, |task| (task.id.clone(), state_word(task)))))
                    }
                    None => Some(None),
                },
            };
            let Some(cause) = cause else {
                left.push(pending);
                continue;
            };
            // Between this look and the one before, it may have been done.
            if matches!(self.of.exchange.look(&id), Ok(Look::Done(_))) {
                left.push(pending);
                continue;
            }
            if let Some((task, state)) = cause {
                pending.attempts += 1;
                let is_ours = self.jobs.get(job_of(&task)).is_some_and(|job| job.is_ours);
                if let Some(message) = self.verdict(&task, &state, pending.attempts).filter(|_| is_ours) {
                    let _ = self.of.exchange.remove(&id);
                    on(&id, Happening::Done(Err(self.of.failure(ErrorKind::Unavailable, message))));
                    continue;
                }
                let word = if state.is_empty() { "is gone" } else { state.as_str() };
                on(
                    &id,
                    Happening::Again(format!(
                        "job {task} ended without a result ({word}); it is handed in again"
                    )),
                );
                self.of.exchange.unclaim(&id).map_err(FleetFailure::of_exchange(self.of.name))?;
            }
            pending.claim = None;
            pending.empty_claims = 0;
            to_hand_in.push(pending);
        }
        let numbers: Vec<String> = to_hand_in.iter().map(|pending| pending.asked.id.clone()).collect();
        let mut put = Vec::new();
        for pending in to_hand_in {
            match (pending.asked.put)() {
                Ok(()) => put.push(pending),
                Err(failure) => on(&pending.asked.id, Happening::Done(Err(failure))),
            }
        }
        // A job that is dead covers nothing any more.
        for job in self.jobs.values_mut() {
            job.requests.retain(|id| !numbers.contains(id));
        }
        if !put.is_empty() {
            match self.submit(put.iter().map(|pending| pending.asked.id.clone()).collect()) {
                Ok(()) => left.extend(put),
                Err(failure) => {
                    for Pending { asked, .. } in put {
                        let _ = self.of.exchange.remove(&asked.id);
                        on(&asked.id, Happening::Done(Err(failure.clone())));
                    }
                }
            }
        }
        self.pending = left;
        Ok(())
    }

    /// Returns why a request is not handed in again after the task that had it ended so.
    fn verdict(&self, task: &str, state: &str, attempts: u32) -> Option<String> {
        let tail = || match self.of.exchange.log_tail(task) {
            tail if tail.is_empty() => String::new(),
            tail => format!("; its log ends with: {tail}"),
        };
        match state {
            "CANCELLED" => Some(format!(
                "job {task} was cancelled, and not by this command: ask the cluster's administrator"
            )),
            "TIMEOUT" | "DEADLINE" => {
                Some(format!("job {task} reached its time limit; allow more with the executor's `time`"))
            }
            "OUT_OF_MEMORY" => {
                Some(format!("job {task} ran out of memory; ask for more with the executor's `memory_mib`"))
            }
            _ if attempts >= ATTEMPTS => {
                let word = if state.is_empty() { "is gone" } else { state };
                Some(format!(
                    "job {task} ended without a result ({word}), as {} before it{}",
                    attempts - 1,
                    tail()
                ))
            }
            "FAILED" if attempts >= 2 => Some(format!("job {task} failed{}", tail())),
            _ => None,
        }
    }

    fn submit(&mut self, requests: Vec<String>) -> Result<(), FleetFailure> {
        let Batches { name, exchange, owner, cancel, .. } = self.of;
        let slurm = self.of.slurm();
        let random = tempfile::Builder::new().prefix("").rand_bytes(12).tempfile_in(exchange.logs());
        let random = random.ok().and_then(|file| Some(file.path().file_name()?.to_str()?.to_owned()));
        let batch_name = random.ok_or_else(|| {
            self.of.failure(
                ErrorKind::Unavailable,
                format!("the shared folder {} cannot be written", slurm.shared.display()),
            )
        })?;
        let tasks = slurm.nodes.min(u32::try_from(requests.len()).unwrap_or(u32::MAX)).max(1);
        let mut batch = Batch {
            executor: (*name).to_owned(),
            owner: owner.clone(),
            requests: requests.clone(),
            job: None,
        };
        let of_exchange = FleetFailure::of_exchange(name);
        exchange.put_batch(&batch_name, &batch).map_err(&of_exchange)?;
        let nimctl = slurm.nimctl.as_deref().unwrap_or(self.of.nimctl);
        let command = [
            nimctl.display().to_string(),
            "work".into(),
            "--shared".into(),
            slurm.shared.display().to_string(),
            "--batch".into(),
            batch_name.clone(),
        ];
        let job_name = format!("nimctl-{name}");
        let logs = exchange.logs();
        let submission = Submission {
            name: &job_name,
            tasks,
            logs: &logs,
            command: &command,
            environment: self.of.environment,
        };
        let number = match slurm::submit(slurm, &submission, cancel) {
            Ok(number) => number,
            Err(error) => {
                let _ = exchange.remove_batch(&batch_name);
                return Err(FleetFailure::of_slurm(name)(error));
            }
        };
        batch.job = Some(number.clone());
        let requests = requests.into_iter().collect();
        let job =
            Job { batch: batch_name.clone(), requests, is_ours: true, has_started: false, submitted: now() };
        self.jobs.insert(number, job);
        (self.ask_every, self.asked_at) = (FIRST_ASK, Some(now()));
        exchange.put_batch(&batch_name, &batch).map_err(&of_exchange)
    }

    /// Cancels what this command started and is no longer needed, and removes the batches that are over.
    fn leave(&mut self) {
        let interrupted = self.of.cancel.is_cancelled();
        for (number, job) in &self.jobs {
            let is_unfinished =
                |id: &&String| !matches!(self.of.exchange.look(id), Ok(Look::Done(_) | Look::Absent));
            let unfinished: Vec<&String> = job.requests.iter().filter(is_unfinished).collect();
            // What goes on without us has its result ready for the next command.
            let goes_on = !(job.is_ours && interrupted);
            if goes_on && !unfinished.is_empty() {
                continue;
            }
            let _ = slurm::cancel(number);
            if interrupted {
                unfinished.into_iter().for_each(|id| _ = self.of.exchange.remove(id));
            }
            let _ = self.of.exchange.remove_batch(&job.batch);
        }
    }
}

fn state_word(task: &Task) -> String {
    match &task.state {
        TaskState::Over(state) => state.clone(),
        TaskState::Waiting | TaskState::Running => String::new(),
    }
}

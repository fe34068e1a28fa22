//! Hands requests to an executor's engine, and watches them until each has a result.
//!
//! The engine's job is a *batch*: an array of as many tasks as nodes may work at once; each task takes request after request. So jobs
//! of one kind share an allocation, and a node that comes late takes what is left. What is known is on disk: a coordinator that dies
//! loses nothing, and the next one finds results, goes on waiting for what still runs, and hands in the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::error::FleetFailure;
use super::site::Site;
use crate::error_kind::ErrorKind;
use crate::exchange::{Claim, Exchange, ExchangeError, Look};
use crate::fleet::exchange::RemoteResult;
use crate::fleet::{Executor, Task, TaskState};
use crate::process::Cancel;
use crate::worker::protocol::Event;

/// How long it may take until an interrupt is noticed.
const NAP: Duration = Duration::from_millis(100);
/// How often the engine is asked, at first and once it has been quiet for a while.
pub(super) const FIRST_ASK: Duration = Duration::from_millis(500);
const LAST_ASK: Duration = Duration::from_secs(10);
/// How long the engine may be out of reach.
pub(super) const OUTAGE: Duration = Duration::from_secs(15 * 60);

/// One executor, as a command uses it.
pub(in crate::ops) struct Batches<'a> {
    /// Its name in the fleet file.
    pub(in crate::ops) name: &'a str,
    /// What the file says of it.
    pub(in crate::ops) executor: &'a Executor,
    /// Its engine, with the exchange.
    pub(in crate::ops) site: &'a Site<'a>,
    /// The store that asks, and its machine.
    pub(in crate::ops) owner: String,
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
pub(super) struct Pending<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) attempts: u32,
    pub(super) told_bytes: u64,
    pub(super) claim: Option<Claim>,
    pub(super) empty_claims: u32,
}

/// A job of the engine that works on requests of ours.
pub(super) struct Job {
    pub(super) batch: String,
    /// With the number of the task that Kubernetes gives each to.
    pub(super) requests: BTreeMap<String, usize>,
    pub(super) is_ours: bool,
    /// Since when none of its tasks has run.
    pub(super) waits_since: Instant,
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
            away_since: None,
            unreadable_since: None,
            has_failures: false,
        };
        let ended = watch.run(on);
        watch.leave();
        if let Err(failure) = ended {
            for Pending { asked, .. } in std::mem::take(&mut watch.pending) {
                on(&asked.id, Happening::Done(Err(failure.clone())));
            }
        }
    }

    /// Returns where requests and results are.
    pub(in crate::ops) fn exchange(&self) -> &dyn Exchange {
        self.site.exchange()
    }

    /// Returns the engine's name.
    pub(super) fn engine(&self) -> &'static str {
        self.executor.engine.name()
    }

    pub(super) fn failure(&self, kind: ErrorKind, message: impl Into<String>) -> FleetFailure {
        FleetFailure::new(self.name, kind, message)
    }
}

/// Returns an error with all that caused it.
fn chain(error: &ExchangeError) -> String {
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let words: Vec<String> = causes.map(ToString::to_string).collect();
    format!("{}{hint}", words.join(": "))
}

pub(super) struct Watch<'a, 'b> {
    pub(super) of: &'b Batches<'a>,
    pub(super) pending: Vec<Pending<'b>>,
    /// By the engine's number.
    pub(super) jobs: BTreeMap<String, Job>,
    /// What the engine said last.
    pub(super) tasks: Vec<Task>,
    pub(super) asked_at: Option<Instant>,
    pub(super) ask_every: Duration,
    /// Since when the engine doesn't answer.
    pub(super) away_since: Option<Instant>,
    /// Since when the exchange can't be read.
    pub(super) unreadable_since: Option<Instant>,
    /// Then logs are worth keeping.
    pub(super) has_failures: bool,
}

#[expect(clippy::disallowed_methods, reason = "waiting has limits")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Numbers the requests of a batch.
pub(super) fn numbered(requests: Vec<String>) -> BTreeMap<String, usize> {
    requests.into_iter().enumerate().map(|(number, id)| (id, number)).collect()
}

impl<'b> Watch<'_, 'b> {
    fn run(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) -> Result<(), FleetFailure> {
        self.find_jobs()?;
        loop {
            if self.of.cancel.is_cancelled() {
                return Err(self.of.failure(ErrorKind::Interrupted, "interrupted"));
            }
            self.take_results(on);
            if self.pending.is_empty() {
                return Ok(());
            }
            if self.asked_at.is_none_or(|at| at.elapsed() >= self.ask_every) && self.ask(on)? {
                self.check_waiting(on);
                self.hand_in_lost(on);
            }
            self.nap();
        }
    }

    /// Waits for the next look, or the user: for a registry the longer, the longer nothing happened.
    fn nap(&self) {
        let pace = self.of.exchange().pace();
        let pace = if self.of.site.assigns() { self.ask_every.max(pace) } else { pace };
        let begin = now();
        while begin.elapsed() < pace && !self.of.cancel.is_cancelled() {
            std::thread::sleep(NAP.min(pace));
        }
    }

    /// Finds the jobs of earlier coordinators that work on what is asked.
    fn find_jobs(&mut self) -> Result<(), FleetFailure> {
        let site = self.of.site;
        let batches = loop {
            match self.of.exchange().batches() {
                Ok(batches) => break batches,
                Err(error) if error.is_outage() && self.is_patient() && !self.of.cancel.is_cancelled() => {
                    std::thread::sleep(FIRST_ASK);
                }
                Err(error) => return Err(FleetFailure::of_exchange(self.of.name)(error)),
            }
        };
        for (name, batch) in batches {
            // Another executor's Job may be in another cluster.
            let is_elsewhere = site.assigns() && batch.executor != self.of.name;
            let is_asked = self.pending.iter().any(|pending| batch.requests.contains(&pending.asked.id));
            let job = site.job_ahead(&batch.executor, &name).or(batch.job);
            if let (true, false, Some(job)) = (is_asked, is_elsewhere, job) {
                let requests = numbered(batch.requests);
                let job_facts =
                    Job { batch: name, requests, is_ours: batch.owner == self.of.owner, waits_since: now() };
                self.jobs.insert(job, job_facts);
            }
        }
        Ok(())
    }

    fn take_results(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) {
        let ids: Vec<&str> = self.pending.iter().map(|pending| pending.asked.id.as_str()).collect();
        let looks = match self.of.exchange().look(&ids) {
            Ok(looks) => looks,
            Err(error) => return self.cannot_look(&error, on),
        };
        let mut left = Vec::new();
        for (mut pending, look) in std::mem::take(&mut self.pending).into_iter().zip(looks) {
            let id = pending.asked.id.clone();
            for event in self.of.exchange().told(&id, &mut pending.told_bytes).unwrap_or_default() {
                on(&id, Happening::Told(event));
            }
            match look.map(|look| self.as_assigned(&id, look)) {
                Ok(Look::Done(result)) => on(&id, Happening::Done(Ok(*result))),
                Err(error) if error.is_damage() => {
                    // It is no answer the next time, either.
                    let _ = self.of.exchange().remove(&id);
                    on(&id, Happening::Done(Err(FleetFailure::of_exchange(self.of.name)(error))));
                }
                // A file server or a registry that is being restarted answers later.
                Err(error) => match error.may_pass() && self.is_patient() {
                    true => left.push(pending),
                    false => on(&id, Happening::Done(Err(FleetFailure::of_exchange(self.of.name)(error)))),
                },
                Ok(Look::Claimed(claim)) => {
                    self.unreadable_since = None;
                    if claim.task.is_empty() {
                        pending.empty_claims += 1;
                    } else if pending.claim.as_ref() != Some(&claim) && !claim.node.is_empty() {
                        on(&id, Happening::On(&claim.node));
                    }
                    pending.claim = Some(claim);
                    left.push(pending);
                }
                Ok(Look::Waiting | Look::Absent) => {
                    self.unreadable_since = None;
                    pending.claim = None;
                    left.push(pending);
                }
            }
        }
        self.pending = left;
    }

    /// Goes on for a while with an exchange that can't be read.
    fn cannot_look(&mut self, error: &ExchangeError, on: &mut dyn FnMut(&str, Happening<'_>)) {
        if error.may_pass() && self.is_patient() {
            let reason = format!("{error}; trying again");
            self.pending.iter().for_each(|pending| on(&pending.asked.id, Happening::Waits(&reason)));
            return;
        }
        let failure = FleetFailure::new(self.of.name, error.kind(), chain(error));
        for Pending { asked, .. } in std::mem::take(&mut self.pending) {
            on(&asked.id, Happening::Done(Err(failure.clone())));
        }
    }

    /// Returns whether an exchange that can't be used now is given more time.
    pub(super) fn is_patient(&mut self) -> bool {
        self.unreadable_since.get_or_insert_with(now).elapsed() < OUTAGE
    }

    /// Returns how a request is, where it is the engine that says who works on it.
    fn as_assigned(&self, id: &str, look: Look) -> Look {
        match self.assigned(id) {
            Some(claim) if look == Look::Waiting => Look::Claimed(claim),
            _ => look,
        }
    }

    /// Returns who works on a request, or did, where that is the task of its number.
    pub(super) fn assigned(&self, id: &str) -> Option<Claim> {
        if !self.of.site.assigns() {
            return None;
        }
        let of_job = |(name, job): (&String, &Job)| {
            let task = self.task(&format!("{name}_{}", job.requests.get(id)?))?;
            (task.state != TaskState::Waiting)
                .then(|| Claim { task: task.id.clone(), node: task.node.clone() })
        };
        self.jobs.iter().find_map(of_job)
    }

    /// Asks the engine how its jobs are; whether it answered.
    fn ask(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) -> Result<bool, FleetFailure> {
        self.asked_at = Some(now());
        self.ask_every = (self.ask_every * 3 / 2).min(LAST_ASK);
        let of_claims = self.pending.iter().filter_map(|pending| pending.claim.as_ref());
        let claimed = of_claims.map(|claim| Task::job_of(&claim.task)).filter(|job| !job.is_empty());
        let jobs: BTreeSet<&str> = self.jobs.keys().map(String::as_str).chain(claimed).collect();
        if jobs.is_empty() {
            return Ok(true);
        }
        let jobs: Vec<&str> = jobs.into_iter().collect();
        match self.of.site.tasks(&jobs, self.of.cancel) {
            Ok(tasks) => {
                for task in tasks.iter().filter(|task| task.state == TaskState::Running) {
                    if let Some(job) = self.jobs.get_mut(Task::job_of(&task.id)) {
                        job.waits_since = now();
                    }
                }
                self.tasks = tasks;
                self.away_since = None;
                Ok(true)
            }
            Err(error) if self.of.cancel.is_cancelled() => Err(FleetFailure::of_engine(self.of.name)(error)),
            // A controller that is being restarted answers later.
            Err(error) if error.is_outage() && !self.is_away_for_long() => {
                let reason = format!("{error}; trying again");
                self.pending.iter().for_each(|pending| on(&pending.asked.id, Happening::Waits(&reason)));
                Ok(false)
            }
            Err(error) => Err(FleetFailure::of_engine(self.of.name)(error)),
        }
    }

    /// Returns whether the engine, which is away, has been for too long.
    pub(super) fn is_away_for_long(&mut self) -> bool {
        self.away_since.get_or_insert_with(now).elapsed() >= OUTAGE
    }

    pub(super) fn is_live(&self, job: &str) -> bool {
        self.tasks
            .iter()
            .any(|task| Task::job_of(&task.id) == job && !matches!(task.state, TaskState::Over(_)))
    }

    pub(super) fn task(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    /// Tells what waits for a node, and gives up what has waited too long.
    fn check_waiting(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) {
        let limit = self.of.executor.engine.max_wait();
        let patience = self.of.site.patience().min(limit.duration());
        let mut given_up = Vec::new();
        for (number, job) in &self.jobs {
            let of_job = || self.tasks.iter().filter(|task| Task::job_of(&task.id) == number);
            let waiting = || of_job().filter(|task| task.state == TaskState::Waiting);
            let Some(first) = waiting().next() else { continue };
            let unclaimed = self.pending.iter().filter(|pending| pending.claim.is_none());
            for pending in unclaimed {
                let Some(place) = job.requests.get(&pending.asked.id) else { continue };
                // Of Kubernetes each request has a task of its own.
                let own = waiting().find(|task| task.id == format!("{number}_{place}"));
                let task = if self.of.site.assigns() { own } else { Some(first) };
                if let Some(task) = task {
                    on(&pending.asked.id, Happening::Waits(&task.reason));
                }
            }
            if of_job().any(|task| task.state == TaskState::Running) {
                continue;
            }
            let hopeless = waiting().find(|task| self.of.site.never_starts(&task.reason));
            let waited = job.waits_since.elapsed();
            match hopeless {
                Some(task) if waited >= patience => {
                    given_up.push((number.clone(), task.reason.clone(), true))
                }
                _ if waited >= limit.duration() => {
                    given_up.push((number.clone(), first.reason.clone(), false));
                }
                _ => {}
            }
        }
        let engine = self.of.engine();
        for (number, reason, for_ever) in given_up {
            let Some(job) = self.jobs.remove(&number) else { continue };
            if job.is_ours {
                // A batch tells the next command of a job that is still there.
                if self.of.site.cancel(&[&number]).is_ok() {
                    let _ = self.of.exchange().remove_batch(&job.batch);
                }
            }
            // One that was begun waits, too, if its task was requeued.
            let of_job = |pending: &Pending<'_>| match &pending.claim {
                Some(claim) => Task::job_of(&claim.task) == number,
                None => job.requests.contains_key(&pending.asked.id),
            };
            let (lost, left) = std::mem::take(&mut self.pending).into_iter().partition::<Vec<_>, _>(of_job);
            self.pending = left;
            for Pending { asked, .. } in lost {
                let message = if for_ever {
                    format!(
                        "job {number} can never start ({engine}'s reason: {reason}): correct the executor's keys"
                    )
                } else {
                    format!(
                        "job {number} waited for a node for {limit} ({engine}'s reason: {reason}), which is `max_wait`, and was cancelled"
                    )
                };
                if job.is_ours {
                    let _ = self.of.exchange().remove(&asked.id);
                }
                on(&asked.id, Happening::Done(Err(self.of.failure(ErrorKind::Unavailable, message))));
            }
        }
    }

    /// Cancels what this command started and is no longer needed, and removes the batches that are over.
    fn leave(&mut self) {
        let interrupted = self.of.cancel.is_cancelled();
        let _more_time = self.of.cancel.clean_up();
        let of_jobs: BTreeSet<&str> =
            self.jobs.values().flat_map(|job| job.requests.keys()).map(String::as_str).collect();
        let of_jobs: Vec<&str> = of_jobs.into_iter().collect();
        let looks = self.of.exchange().look(&of_jobs).unwrap_or_default();
        let is_over = |look: &_| matches!(look, Ok(Look::Done(_) | Look::Absent));
        let over: BTreeSet<String> = of_jobs
            .iter()
            .zip(&looks)
            .filter(|(_, look)| is_over(look))
            .map(|(id, _)| (*id).to_owned())
            .collect();
        let is_unfinished = |id: &&String| !over.contains(*id);
        // What goes on without us has its result ready for the next command.
        let goes_on =
            |job: &Job| !(job.is_ours && interrupted) && job.requests.keys().any(|id| is_unfinished(&id));
        let over: Vec<(&String, &Job)> = self.jobs.iter().filter(|(_, job)| !goes_on(job)).collect();
        let live: Vec<&str> = over.iter().map(|(number, _)| number.as_str()).collect();
        // First of all, and all at once: there may be little time left.
        if !live.is_empty() && self.of.site.cancel(&live).is_err() {
            // Batches tell the next command of jobs that are still there.
            return;
        }
        for (number, job) in over {
            if interrupted {
                job.requests.keys().filter(is_unfinished).for_each(|id| _ = self.of.exchange().remove(id));
            }
            let _ = self.of.exchange().remove_batch(&job.batch);
            if !self.has_failures {
                self.of.site.remove_logs(number);
            }
        }
        if interrupted {
            // What was put in, and not submitted yet.
            let is_others =
                |id: &String| self.jobs.values().any(|job| !job.is_ours && job.requests.contains_key(id));
            let waits = |pending: &&Pending<'_>| pending.claim.is_none() && !is_others(&pending.asked.id);
            self.pending.iter().filter(waits).for_each(|one| _ = self.of.exchange().remove(&one.asked.id));
        }
    }
}

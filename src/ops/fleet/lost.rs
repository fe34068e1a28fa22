//! What no job of the engine works on: handed in, or given up.

use super::batches::{Batches, FIRST_ASK, Happening, Job, Pending, Watch, now, numbered};
use super::error::FleetFailure;
use crate::engines::EngineError;
use crate::engines::kubernetes::JobOf;
use crate::error_kind::ErrorKind;
use crate::exchange::{Batch, Look, new_name};
use crate::fleet::{Task, TaskState};

/// A claim that is being written is whole after so many looks, or never.
const CLAIM_LOOKS: u32 = 50;
/// How often a request is handed in that a node lost.
const ATTEMPTS: u32 = 3;

/// What came of handing requests in.
enum Submitted {
    Yes,
    /// The controller can't be reached just now.
    NotYet,
    No(FleetFailure),
}

impl Watch<'_, '_> {
    /// Hands in what no job works on: what is new, and what a job that died had.
    pub(super) fn hand_in_lost(&mut self, on: &mut dyn FnMut(&str, Happening<'_>)) {
        let (mut left, mut to_hand_in) = (Vec::new(), Vec::new());
        for mut pending in std::mem::take(&mut self.pending) {
            let id = pending.asked.id.clone();
            // What the engine said since the last look.
            if pending.claim.is_none()
                && let Some(claim) = self.assigned(&id)
            {
                if !claim.node.is_empty() {
                    on(&id, Happening::On(&claim.node));
                }
                pending.claim = Some(claim);
            }
            let cause = match &pending.claim {
                Some(claim) if claim.task.is_empty() && pending.empty_claims < CLAIM_LOOKS => None,
                Some(claim) => match self.task(&claim.task).map(|task| &task.state) {
                    Some(TaskState::Waiting | TaskState::Running) => None,
                    Some(TaskState::Over(state)) => Some(Some((claim.task.clone(), state.clone()))),
                    // The engine doesn't know it any more.
                    None => Some(Some((claim.task.clone(), String::new()))),
                },
                None => match self.jobs.iter().rev().find(|(_, job)| job.requests.contains_key(&id)) {
                    Some((number, _)) if self.is_live(number) => None,
                    Some((number, _)) => {
                        let of_job = self.tasks.iter().rev().find(|task| Task::job_of(&task.id) == number);
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
            if matches!(self.of.exchange().look_at(&id), Ok(Look::Done(_))) {
                left.push(pending);
                continue;
            }
            if let Some((task, state)) = cause {
                let is_ours = self.jobs.get(Task::job_of(&task)).is_some_and(|job| job.is_ours);
                // What nobody had begun has nothing to do with how the task ended, unless no task can even begin.
                let counts = pending.claim.is_some() || ["FAILED", "COMPLETED", ""].contains(&state.as_str());
                pending.attempts += u32::from(counts);
                let begun = pending.claim.is_some();
                if let Some(message) = self.verdict(&task, &state, pending.attempts, begun, is_ours) {
                    self.has_failures = true;
                    let _ = self.of.exchange().remove(&id);
                    on(&id, Happening::Done(Err(self.of.failure(ErrorKind::Unavailable, message))));
                    continue;
                }
                let word = self.ended_how(&state);
                on(
                    &id,
                    Happening::Again(format!(
                        "job {task} ended without a result ({word}); it is resubmitted"
                    )),
                );
                let unclaimed =
                    pending.claim.as_ref().map_or(Ok(()), |claim| self.of.exchange().unclaim(&id, claim));
                if let Err(error) = unclaimed {
                    on(&id, Happening::Done(Err(FleetFailure::of_exchange(self.of.name)(error))));
                    continue;
                }
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
                // Put in again the next time.
                Err(failure) if failure.is_outage && self.is_patient() => left.push(pending),
                Err(failure) => on(&pending.asked.id, Happening::Done(Err(failure))),
            }
        }
        // A job that is dead covers nothing any more.
        for job in self.jobs.values_mut() {
            job.requests.retain(|id, _| !numbers.contains(id));
        }
        if !put.is_empty() {
            match self.submit(put.iter().map(|pending| pending.asked.id.clone()).collect()) {
                Submitted::Yes | Submitted::NotYet => left.extend(put),
                Submitted::No(failure) => {
                    self.has_failures = true;
                    for Pending { asked, .. } in put {
                        let _ = self.of.exchange().remove(&asked.id);
                        on(&asked.id, Happening::Done(Err(failure.clone())));
                    }
                }
            }
        }
        self.pending = left;
    }

    /// Returns why a request is not resubmitted after a task ended so: the one that had begun it, or one of the job that it waited for.
    fn verdict(&self, task: &str, state: &str, attempts: u32, begun: bool, is_ours: bool) -> Option<String> {
        let reason = self.task(task).map(|task| task.reason.clone()).unwrap_or_default();
        let tail = || match self.of.site.log_tail(task) {
            tail if tail.is_empty() => String::new(),
            tail => format!("; its log ends with: {tail}"),
        };
        match state {
            "CANCELLED" if is_ours => Some(format!(
                "job {task} was cancelled, and not by this command: ask the cluster's administrator"
            )),
            // The first may have been begun when little of the time was left.
            "TIMEOUT" | "DEADLINE" if begun && (attempts >= 2 || self.of.site.retries()) => {
                Some(format!("job {task} reached its time limit; allow more with the executor's `time`"))
            }
            "OUT_OF_MEMORY" if begun && is_ours => {
                Some(format!("job {task} ran out of memory; ask for more with the executor's `memory_mib`"))
            }
            "EVICTED" => Some(format!(
                "the pods of job {task} were evicted {reason}: ask for memory with the executor's `memory_mib`, and look for the reason on the nodes"
            )),
            "FAILED" if self.of.site.retries() => {
                let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
                Some(format!(
                    "the pods of job {task} failed{reason}, however often they were started{}",
                    tail()
                ))
            }
            _ if attempts >= ATTEMPTS => Some(format!(
                "job {task} ended without a result ({}), and so did the {} attempts before it{}",
                self.ended_how(state),
                attempts - 1,
                tail()
            )),
            "FAILED" if attempts >= 2 && is_ours => {
                Some(format!("job {task} failed, as the one before it{}", tail()))
            }
            _ => None,
        }
    }

    fn submit(&mut self, requests: Vec<String>) -> Submitted {
        match self.try_submit(requests) {
            Ok(submitted) => submitted,
            Err(failure) if failure.is_outage && self.is_patient() => Submitted::NotYet,
            Err(failure) => Submitted::No(failure),
        }
    }

    fn try_submit(&mut self, requests: Vec<String>) -> Result<Submitted, FleetFailure> {
        let Batches { name, site, owner, cancel, .. } = self.of;
        let (exchange, batch_name) = (site.exchange(), new_name());
        let mut batch = Batch {
            executor: (*name).to_owned(),
            owner: owner.clone(),
            requests: requests.clone(),
            job: site.job_ahead(name, &batch_name),
        };
        let of_exchange = FleetFailure::of_exchange(name);
        exchange.put_batch(&batch_name, &batch).map_err(&of_exchange)?;
        let of = JobOf { executor: name, batch: &batch_name, requests: requests.len() };
        let job = match site.submit(of, cancel) {
            Ok(job) => job,
            Err(error) => {
                if matches!(error, EngineError::TimedOut { .. } | EngineError::Cancelled) || error.is_outage()
                {
                    // It may have been submitted all the same.
                    let _ = site.cancel_batch(name, &batch_name, None);
                }
                let _ = exchange.remove_batch(&batch_name);
                let may_come = error.is_outage() && !self.is_away_for_long();
                return Ok(if may_come {
                    Submitted::NotYet
                } else {
                    Submitted::No(FleetFailure::of_engine(name)(error))
                });
            }
        };
        self.away_since = None;
        let is_told = batch.job.as_ref() == Some(&job);
        batch.job = Some(job.clone());
        let facts = Job {
            batch: batch_name.clone(),
            requests: numbered(requests),
            is_ours: true,
            waits_since: now(),
        };
        self.jobs.insert(job, facts);
        (self.ask_every, self.asked_at) = (FIRST_ASK, Some(now()));
        if !is_told {
            exchange.put_batch(&batch_name, &batch).map_err(&of_exchange)?;
        }
        Ok(Submitted::Yes)
    }

    fn ended_how(&self, state: &str) -> String {
        if state.is_empty() { format!("{} no longer lists it", self.of.engine()) } else { state.into() }
    }
}

fn state_word(task: &Task) -> String {
    match &task.state {
        TaskState::Over(state) => state.clone(),
        TaskState::Waiting | TaskState::Running => String::new(),
    }
}

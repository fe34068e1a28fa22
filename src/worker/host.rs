//! The host's side: starts a worker, sends it requests one at a time, and survives whatever it does.
//!
//! A worker stays up between requests, because loading an inference library takes a while, unless it builds only one plan
//! per process. [`Worker::is_healthy`] says whether it can go on. One that crashed, hung or broke the protocol is gone with
//! its whole process group by the time the error is returned.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::command::{BackendCommand, Launch};
pub use super::conversation::Answer;
use super::conversation::Conversation;
use super::error::WorkerError;
use super::process::WorkerProcess;
use super::protocol::{
    BenchRequest, BenchResult, BuildRequest, BuildResult, CheckRequest, CheckResult, DescribeRequest,
    Description, Event, InspectRequest, Inspection, PROTOCOL_VERSION, Request, Response, RunRequest,
    RunResult,
};
use crate::benchmark::Machine;
pub use crate::process::Cancel;

/// What stands before an [`Elsewhere`] in the log of a worker that runs on another machine.
pub const NODE_PREFIX: &str = "nimctl: on node ";

/// Where a worker runs that is not on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The node, as its engine calls it.
    pub node: String,
    /// What it is.
    pub machine: Machine,
}

impl Elsewhere {
    /// Reads it from a log.
    fn read(log: &str) -> Option<Self> {
        log.lines().find_map(|line| serde_json::from_str(line.strip_prefix(NODE_PREFIX)?).ok())
    }
}

/// How long a worker may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From its start to its description.
    pub handshake_timeout: Duration,
    /// From a request to its end.
    pub request_timeout: Duration,
    /// From closing its input to killing it, when it is no longer needed.
    pub drop_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(60 * 60),
            drop_grace: Duration::from_millis(500),
        }
    }
}

/// A running worker. Dropping it closes its input, waits a moment, and kills its process group.
pub struct Worker {
    conversation: Conversation,
    description: Description,
    limits: Limits,
    command: BackendCommand,
    /// Where it is, if that was known when it had described itself.
    elsewhere: Option<Elsewhere>,
    /// Whether it was asked for anything but its description.
    is_used: bool,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("backend", &self.conversation.backend).finish_non_exhaustive()
    }
}

impl Worker {
    /// Starts a worker and makes it describe itself.
    ///
    /// # Errors
    /// It can't be started, speaks another protocol version, or fails as in [`Worker::request`].
    pub fn spawn(command: &BackendCommand, limits: Limits) -> Result<Self, WorkerError> {
        Self::spawn_unless(command, limits, &Cancel::new())
    }

    /// Does so, unless it is cancelled meanwhile: what runs on another machine may wait for it for hours.
    ///
    /// # Errors
    /// As [`Worker::spawn`], and [`WorkerError::Cancelled`].
    pub fn spawn_unless(
        command: &BackendCommand,
        limits: Limits,
        cancel: &Cancel,
    ) -> Result<Self, WorkerError> {
        let process = WorkerProcess::spawn(command)
            .map_err(|source| WorkerError::CannotStart { path: command.path.clone(), source })?;
        let is_here = command.through.is_none();
        let mut conversation =
            Conversation { process, backend: command.name(), last_id: 0, is_here, ended: false };
        let wait = command.through.as_ref().map_or(Duration::ZERO, |launch| launch.wait);
        let handshake_timeout = limits.handshake_timeout + wait;
        let request = Request::Describe(DescribeRequest { protocol_versions: vec![PROTOCOL_VERSION] });
        let response = conversation.request(request, handshake_timeout, cancel, &mut |_| {})?.result;
        match response {
            Response::Describe(description) => Ok(Self {
                elsewhere: Elsewhere::read(&conversation.process.log_tail()),
                conversation,
                description: *description,
                limits,
                command: command.clone(),
                is_used: false,
            }),
            other => Err(conversation.wrong_answer("describe", &other)),
        }
    }

    /// Returns the description that the worker sent when it started.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Returns the number of the worker's process, which is that of its group.
    pub fn process_id(&self) -> u32 {
        self.conversation.process.id()
    }

    /// Returns where the worker runs, if it is not on this machine: what starts it there has written that into its log, before anything
    /// that the worker writes.
    pub fn elsewhere(&self) -> Option<Elsewhere> {
        self.elsewhere.clone().or_else(|| Elsewhere::read(&self.conversation.process.log_tail()))
    }

    /// Whether the worker can take another request.
    pub fn is_healthy(&self) -> bool {
        !self.conversation.ended && !self.conversation.process.has_ended()
    }

    /// Sends a request and waits for its end; `on_event` gets the progress and the warnings before it. A worker that builds
    /// one plan per process is started anew for the next one.
    ///
    /// # Errors
    /// [`WorkerError::Reported`] if the worker fails, [`WorkerError::Unsendable`] if the request can't be written.
    /// After any other the worker is gone: it crashed, took too long, broke the protocol, or was cancelled.
    pub fn request(
        &mut self,
        request: Request,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<Response>, WorkerError> {
        let needs_new_process =
            matches!(request, Request::Build(_)) && self.description.one_build_per_process && self.is_used;
        if needs_new_process && self.is_healthy() {
            // First it goes, and its memory.
            self.conversation.process.end(self.limits.drop_grace);
            *self = Self::spawn(&self.command, self.limits)?;
        }
        self.is_used = true;
        self.conversation.request(request, self.limits.request_timeout, cancel, on_event)
    }

    /// Builds a plan.
    ///
    /// # Errors
    /// As [`Worker::request`].
    pub fn build(
        &mut self,
        request: BuildRequest,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<BuildResult>, WorkerError> {
        let Answer { result, peak_memory_bytes } = self.request(Request::Build(request), cancel, on_event)?;
        match result {
            Response::Build(result) => Ok(Answer { result, peak_memory_bytes }),
            other => Err(self.conversation.wrong_answer("build", &other)),
        }
    }

    /// Names the nodes of a graph that can't be compiled.
    ///
    /// # Errors
    /// As [`Worker::request`].
    pub fn check(
        &mut self,
        request: CheckRequest,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<CheckResult>, WorkerError> {
        let Answer { result, peak_memory_bytes } = self.request(Request::Check(request), cancel, on_event)?;
        match result {
            Response::Check(result) => Ok(Answer { result, peak_memory_bytes }),
            other => Err(self.conversation.wrong_answer("check", &other)),
        }
    }

    /// Inspects a graph or plan.
    ///
    /// # Errors
    /// As [`Worker::request`].
    pub fn inspect(
        &mut self,
        request: InspectRequest,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<Inspection>, WorkerError> {
        let Answer { result, peak_memory_bytes } =
            self.request(Request::Inspect(request), cancel, on_event)?;
        match result {
            Response::Inspect(result) => Ok(Answer { result, peak_memory_bytes }),
            other => Err(self.conversation.wrong_answer("inspect", &other)),
        }
    }

    /// Runs a graph or plan once.
    ///
    /// # Errors
    /// As [`Worker::request`].
    pub fn run(
        &mut self,
        request: RunRequest,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<RunResult>, WorkerError> {
        let Answer { result, peak_memory_bytes } = self.request(Request::Run(request), cancel, on_event)?;
        match result {
            Response::Run(result) => Ok(Answer { result, peak_memory_bytes }),
            other => Err(self.conversation.wrong_answer("run", &other)),
        }
    }

    /// Measures a graph or plan.
    ///
    /// # Errors
    /// As [`Worker::request`].
    pub fn bench(
        &mut self,
        request: BenchRequest,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<BenchResult>, WorkerError> {
        let Answer { result, peak_memory_bytes } = self.request(Request::Bench(request), cancel, on_event)?;
        match result {
            Response::Bench(result) => Ok(Answer { result, peak_memory_bytes }),
            other => Err(self.conversation.wrong_answer("bench", &other)),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.conversation.process.end(self.limits.drop_grace);
    }
}

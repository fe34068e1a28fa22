//! One request to a worker and what can come back: an answer, an error, silence, nonsense, or its end.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use super::error::WorkerError;
use super::lines::{Line, excerpt};
use super::process::{Ending, WorkerProcess};
use super::protocol::{Event, MAX_LINE_BYTES, PROTOCOL_VERSION, Problem, Request, RequestLine, Response};
use crate::machine::memory;
use crate::process::Cancel;

/// How often cancelling and the worker's health are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long output that a dead worker had written may take to arrive.
const DRAIN: Duration = Duration::from_millis(200);
/// How long a worker that closed its output may take to end.
const EXIT_GRACE: Duration = Duration::from_millis(500);

/// The result of a request, and its cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The result.
    pub result: T,
    /// The largest resident memory of the worker during the request; `None` where the system doesn't report it.
    pub peak_memory_bytes: Option<u64>,
}

pub(crate) struct Conversation {
    pub(crate) process: WorkerProcess,
    pub(crate) backend: String,
    pub(crate) last_id: u64,
    /// Whether the process is the worker, and not what passes on what the worker says.
    pub(crate) is_here: bool,
    /// The worker is gone, or can't be trusted and was ended.
    pub(crate) ended: bool,
}

impl Conversation {
    pub(crate) fn request(
        &mut self,
        request: Request,
        timeout: Duration,
        cancel: &Cancel,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<Answer<Response>, WorkerError> {
        let name = request.name();
        if self.ended {
            return Err(WorkerError::Ended { backend: self.backend.clone() });
        }
        let id = self.last_id + 1;
        let line = self.encode(id, request)?;
        self.last_id = id;
        memory::reset_peak(self.process.id());
        self.process.send(line);
        #[expect(clippy::disallowed_methods, reason = "a request has a time limit")]
        let started = Instant::now();
        loop {
            if cancel.is_cancelled() {
                self.end(Duration::ZERO);
                return Err(WorkerError::Cancelled { backend: self.backend.clone(), request: name });
            }
            let Some(left) = timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(self.hung(name, timeout));
            };
            let line = match self.process.next_line(left.min(TICK)) {
                Some(line) => line,
                None if !self.process.has_ended() => continue,
                // Its output may be held open by a process that it started.
                None => self.process.next_line(DRAIN).unwrap_or(Ok(Line::End)),
            };
            let line = match line {
                Ok(Line::Whole(line)) => line,
                Ok(Line::TooLong(_)) => {
                    self.end(Duration::ZERO);
                    return Err(WorkerError::LineTooLong { backend: self.backend.clone(), request: name });
                }
                Ok(Line::Partial(line)) => return Err(self.died(name, Some(&line))),
                Ok(Line::End) | Err(_) => return Err(self.died(name, None)),
            };
            match read_event(&line, id, name) {
                Ok(Some(Event::Result(result))) => {
                    let peak = || memory::peak_bytes(self.process.id());
                    let peak_memory_bytes = self.is_here.then(peak).flatten();
                    return Ok(Answer { result, peak_memory_bytes });
                }
                Ok(Some(Event::Error(Problem { code, message, needs }))) => {
                    let backend = self.backend.clone();
                    return Err(WorkerError::Reported { backend, request: name, code, message, needs });
                }
                Ok(Some(event @ (Event::Progress(_) | Event::Warning(_)))) => on_event(event),
                Ok(None) => {}
                Err(Unreadable::Version(offered)) => {
                    self.end(Duration::ZERO);
                    let expected = vec![PROTOCOL_VERSION];
                    return Err(WorkerError::Handshake { backend: self.backend.clone(), offered, expected });
                }
                Err(Unreadable::Nonsense(reason)) => return Err(self.nonsense(name, reason, excerpt(&line))),
            }
        }
    }

    /// Ends a worker that answered a different request.
    pub(crate) fn wrong_answer(&mut self, request: &'static str, response: &Response) -> WorkerError {
        let reason = format!("the worker sent a result of `{}`", response.name());
        self.nonsense(request, reason, String::new())
    }

    fn encode(&self, id: u64, request: Request) -> Result<Vec<u8>, WorkerError> {
        let name = request.name();
        let unsendable =
            |reason| WorkerError::Unsendable { backend: self.backend.clone(), request: name, reason };
        let mut line =
            serde_json::to_vec(&RequestLine { id, request }).map_err(|e| unsendable(e.to_string()))?;
        line.push(b'\n');
        if line.len() > MAX_LINE_BYTES {
            return Err(unsendable(format!("it is longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(line)
    }

    fn end(&mut self, grace: Duration) -> Ending {
        self.ended = true;
        self.process.end(grace)
    }

    fn died(&mut self, request: &'static str, partial_line: Option<&[u8]>) -> WorkerError {
        let Ending { how, from_outside } = self.end(EXIT_GRACE);
        let backend = self.backend.clone();
        let stderr_tail = self.process.log_tail();
        match partial_line {
            Some(line) => {
                let excerpt = excerpt(line);
                WorkerError::DiedMidLine { backend, request, how, from_outside, excerpt, stderr_tail }
            }
            None => WorkerError::Crashed { backend, request, how, from_outside, stderr_tail },
        }
    }

    fn hung(&mut self, request: &'static str, timeout: Duration) -> WorkerError {
        self.end(Duration::ZERO);
        let stderr_tail = self.process.log_tail();
        WorkerError::Hung { backend: self.backend.clone(), request, timeout, stderr_tail }
    }

    fn nonsense(&mut self, request: &'static str, reason: String, excerpt: String) -> WorkerError {
        self.end(Duration::ZERO);
        let stderr_tail = self.process.log_tail();
        WorkerError::Nonsense { backend: self.backend.clone(), request, reason, excerpt, stderr_tail }
    }
}

/// Why a line is not an event.
enum Unreadable {
    Nonsense(String),
    /// A description in a protocol version that we don't speak, the rest of which may read otherwise.
    Version(u64),
}

/// An event before its kind is known.
#[derive(Deserialize)]
struct RawLine {
    id: Option<u64>,
    event: serde_json::Map<String, Value>,
}

/// Reads an event of the request `id`; `None` is one to ignore.
fn read_event(line: &[u8], id: u64, request: &str) -> Result<Option<Event>, Unreadable> {
    let nonsense = |reason: String| Unreadable::Nonsense(reason);
    let RawLine { id: event_id, event } = serde_json::from_slice(line)
        .map_err(|error| nonsense(format!("the line is not an event ({error})")))?;
    let mut members = event.iter();
    let (Some((kind, body)), None) = (members.next(), members.next()) else {
        return Err(nonsense("an event must have exactly one kind".into()));
    };
    let ends_request = match kind.as_str() {
        "progress" | "warning" => false,
        "result" | "error" => true,
        // A kind from a newer worker.
        _ => return Ok(None),
    };
    if event_id != Some(id) && !(kind == "error" && event_id.is_none()) {
        if ends_request {
            return Err(nonsense(format!("the answer is not to request {id}")));
        }
        return Ok(None);
    }
    if kind == "result" {
        let Some(result) = body.get(request) else {
            return Err(nonsense(format!("the result is not one of `{request}`")));
        };
        if let Some(offered) = result.get("protocol_version").and_then(Value::as_u64)
            && request == "describe"
            && offered != u64::from(PROTOCOL_VERSION)
        {
            return Err(Unreadable::Version(offered));
        }
    }
    serde_json::from_value(Value::Object(event))
        .map(Some)
        .map_err(|error| nonsense(format!("the line is not an event ({error})")))
}

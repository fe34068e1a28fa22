//! The loop of a worker written in Rust: reads requests, calls a [`Backend`], writes events.
//!
//! Libraries print to standard output as they like, so the loop first takes that channel for itself alone and points
//! standard output at standard error. Requests are handled on the calling thread, one after the other; another thread
//! reads them, so that the host's end is noticed while a library is busy.

use std::any::Any;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use serde::Deserialize;
use serde_json::Value;

use crate::lines::{Line, excerpt, read_line};
use crate::protocol::{
    BenchRequest, BenchResult, BuildRequest, BuildResult, CheckRequest, CheckResult, Description, ErrorCode,
    Event, EventLine, InspectRequest, Inspection, MAX_LINE_BYTES, Problem, Progress, Request, Response,
    RunRequest, RunResult, Warning,
};

/// What a worker can do. A request that is not implemented is answered with `unsupported_request`.
pub trait Backend {
    /// Says what the worker is and can do here; loads its library if it has to.
    fn describe(&mut self) -> Description;

    /// Builds a plan.
    ///
    /// # Errors
    /// What the host should know.
    fn build(&mut self, _request: &BuildRequest, _events: &Events) -> Result<BuildResult, Problem> {
        Err(unsupported("build"))
    }

    /// Names the nodes of a graph that can't be compiled.
    ///
    /// # Errors
    /// What the host should know.
    fn check(&mut self, _request: &CheckRequest, _events: &Events) -> Result<CheckResult, Problem> {
        Err(unsupported("check"))
    }

    /// Says what a file holds.
    ///
    /// # Errors
    /// What the host should know.
    fn inspect(&mut self, _request: &InspectRequest, _events: &Events) -> Result<Inspection, Problem> {
        Err(unsupported("inspect"))
    }

    /// Runs a graph or plan once.
    ///
    /// # Errors
    /// What the host should know.
    fn run(&mut self, _request: &RunRequest, _events: &Events) -> Result<RunResult, Problem> {
        Err(unsupported("run"))
    }

    /// Measures a graph or plan.
    ///
    /// # Errors
    /// What the host should know.
    fn bench(&mut self, _request: &BenchRequest, _events: &Events) -> Result<BenchResult, Problem> {
        Err(unsupported("bench"))
    }
}

/// Sends what happens during one request; may be cloned and used from any thread. After the request's end it is mute.
#[derive(Clone)]
pub struct Events {
    id: u64,
    channel: Arc<Mutex<Channel>>,
}

impl Events {
    /// Tells how far the request is.
    pub fn progress(&self, stage: impl Into<String>, done: Option<u64>, total: Option<u64>) {
        self.send(Event::Progress(Progress { stage: stage.into(), done, total }));
    }

    /// Tells something that the user should know.
    pub fn warning(&self, message: impl Into<String>) {
        self.send(Event::Warning(Warning { message: message.into() }));
    }

    fn send(&self, event: Event) {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if channel.current == Some(self.id) {
            // A host that is gone is noticed where requests are read.
            let _ = channel.write(Some(self.id), event);
        }
    }
}

/// Serves requests until standard input closes. `make_backend` is called once standard output is safe to print to.
pub fn serve<B: Backend>(make_backend: impl FnOnce() -> B) -> ExitCode {
    let Ok(file) = take_stdout() else { return ExitCode::FAILURE };
    let channel = Arc::new(Mutex::new(Channel { file, current: None }));
    let unfinished = Arc::new(AtomicU32::new(0));
    let (sender, receiver) = mpsc::channel();
    let counter = Arc::clone(&unfinished);
    let reader = std::thread::Builder::new().name("requests".into()).spawn(move || {
        read_requests(&sender, &counter);
    });
    if reader.is_err() {
        return ExitCode::FAILURE;
    }
    let mut backend = make_backend();
    while let Ok(Incoming { id, request }) = receiver.recv() {
        channel.lock().unwrap_or_else(PoisonError::into_inner).current = id;
        let counted = request.as_ref().is_ok_and(must_not_outlive_host);
        let outcome = request.and_then(|request| {
            let events = Events { id: id.unwrap_or_default(), channel: Arc::clone(&channel) };
            catch_unwind(AssertUnwindSafe(|| handle(&mut backend, request, &events)))
                .unwrap_or_else(|panic| Err(bug(panic.as_ref())))
        });
        let event = outcome.map_or_else(Event::Error, Event::Result);
        let mut channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.current = None;
        if counted {
            unfinished.fetch_sub(1, Ordering::SeqCst);
        }
        if channel.write(id, event).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Returns the absolute paths of the files mapped into this process whose names contain one of `name_parts`: the
/// libraries that were really loaded, whatever path was requested. Empty on systems that don't report them.
pub fn mapped_files(name_parts: &[&str]) -> Vec<String> {
    let maps = fs_err::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<String> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|start| line[start..].to_owned()))
        .filter(|path| {
            let file_name = path.rsplit('/').next().unwrap_or_default();
            name_parts.iter().any(|part| file_name.contains(part))
        })
        .collect();
    files.sort();
    files.dedup();
    files
}

struct Channel {
    file: File,
    /// The request whose events may be written now.
    current: Option<u64>,
}

impl Channel {
    fn write(&mut self, id: Option<u64>, event: Event) -> io::Result<()> {
        let encode = |event: Event| serde_json::to_vec(&EventLine { id, event }).map_err(io::Error::other);
        let is_end = matches!(event, Event::Result(_) | Event::Error(_));
        let line = encode(event).and_then(|line| {
            if line.len() < MAX_LINE_BYTES {
                return Ok(line);
            }
            Err(io::Error::other(format!("the answer is longer than {MAX_LINE_BYTES} bytes")))
        });
        let mut line = match line {
            Ok(line) => line,
            Err(_) if !is_end => return Ok(()),
            Err(error) => encode(Event::Error(Problem::new(ErrorCode::WorkerBug, error.to_string())))?,
        };
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

struct Incoming {
    id: Option<u64>,
    request: Result<Request, Problem>,
}

/// Keeps what was standard output, and points standard output at standard error.
fn take_stdout() -> io::Result<File> {
    let channel = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(channel))
}

fn read_requests(requests: &mpsc::Sender<Incoming>, unfinished: &AtomicU32) {
    let mut stdin = BufReader::new(io::stdin());
    loop {
        let incoming = match read_line(&mut stdin, MAX_LINE_BYTES) {
            Ok(Line::Whole(line)) => decode(&line),
            Ok(Line::TooLong(line)) => {
                let message = format!(
                    "a request of more than {MAX_LINE_BYTES} bytes, which begins \"{}\"",
                    excerpt(&line)
                );
                if stdin.skip_until(b'\n').is_err() {
                    break;
                }
                Incoming { id: None, request: Err(Problem::new(ErrorCode::InvalidRequest, message)) }
            }
            Ok(Line::Partial(_) | Line::End) | Err(_) => break,
        };
        if incoming.request.as_ref().is_ok_and(must_not_outlive_host) {
            unfinished.fetch_add(1, Ordering::SeqCst);
        }
        if requests.send(incoming).is_err() {
            return;
        }
    }
    if unfinished.load(Ordering::SeqCst) > 0 {
        // Not `exit`: it would run the destructors of a library that is at work on another thread.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Whether a request's work is useless once the host is gone. A description is short, and asking for one from a
/// shell (`echo … | nimctl-backend-x`) is handy.
fn must_not_outlive_host(request: &Request) -> bool {
    !matches!(request, Request::Describe(_))
}

fn decode(line: &[u8]) -> Incoming {
    #[derive(Deserialize)]
    struct RawRequest {
        id: u64,
        #[serde(default)]
        request: Value,
    }
    let invalid = |reason: String| Problem::new(ErrorCode::InvalidRequest, reason);
    let RawRequest { id, request } = match serde_json::from_slice(line) {
        Ok(raw) => raw,
        Err(error) => {
            let message = format!("not a request ({error}): \"{}\"", excerpt(line));
            return Incoming { id: None, request: Err(invalid(message)) };
        }
    };
    let name = match &request {
        Value::Object(members) if members.len() == 1 => members.keys().next().cloned().unwrap_or_default(),
        _ => {
            let message = "`request` must be an object with one member, the request's name";
            return Incoming { id: Some(id), request: Err(invalid(message.into())) };
        }
    };
    let request = if ["describe", "build", "check", "inspect", "run", "bench"].contains(&name.as_str()) {
        serde_json::from_value(request).map_err(|error| invalid(format!("`{name}` is malformed: {error}")))
    } else {
        Err(unsupported(&name))
    };
    Incoming { id: Some(id), request }
}

fn handle(backend: &mut impl Backend, request: Request, events: &Events) -> Result<Response, Problem> {
    match request {
        Request::Describe(_) => Ok(Response::Describe(Box::new(backend.describe()))),
        Request::Build(request) => backend.build(&request, events).map(Response::Build),
        Request::Check(request) => backend.check(&request, events).map(Response::Check),
        Request::Inspect(request) => backend.inspect(&request, events).map(Response::Inspect),
        Request::Run(request) => backend.run(&request, events).map(Response::Run),
        Request::Bench(request) => backend.bench(&request, events).map(Response::Bench),
    }
}

fn unsupported(name: &str) -> Problem {
    let name = excerpt(name.as_bytes());
    Problem::new(ErrorCode::UnsupportedRequest, format!("this worker doesn't know the request `{name}`"))
}

fn bug(panic: &(dyn Any + Send)) -> Problem {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Problem::new(ErrorCode::WorkerBug, format!("a bug in the worker: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, id: Option<u64>, expected: &ErrorCode) {
        let incoming = decode(line.as_bytes());
        assert_eq!(incoming.id, id);
        assert_eq!(&incoming.request.unwrap_err().code, expected);
    }

    #[test]
    fn bad_requests_are_told_apart() {
        check("{", None, &ErrorCode::InvalidRequest);
        check(r#"{"request":{"describe":{}}}"#, None, &ErrorCode::InvalidRequest);
        check(r#"{"id":-1}"#, None, &ErrorCode::InvalidRequest);
        check(r#"{"id":3}"#, Some(3), &ErrorCode::InvalidRequest);
        check(r#"{"id":3,"request":{"build":{}}}"#, Some(3), &ErrorCode::InvalidRequest);
        check(r#"{"id":3,"request":{"fly":{}}}"#, Some(3), &ErrorCode::UnsupportedRequest);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let line = br#"{"id":3,"trace":"x","request":{"inspect":{"path":"/m","depth":2}}}"#;
        assert_eq!(decode(line).request.unwrap(), Request::Inspect(InspectRequest { path: "/m".into() }));
    }
}

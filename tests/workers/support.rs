//! Finds workers and talks to them, with and without the host's code.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nimctl::worker::error::WorkerError;
use nimctl::worker::host::{BackendCommand, Limits, Worker};
use nimctl::worker::protocol::Problem;
use serde_json::Value;

/// Returns the scripted worker, set to misbehave in one way (or, with an empty text, not at all).
pub(crate) fn fake(behaviour: &str) -> BackendCommand {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/nimctl-backend-fake");
    let mut command = BackendCommand::new(path);
    command.environment.insert("FAKE_BEHAVIOUR".into(), behaviour.into());
    command
}

/// Returns a real worker.
///
/// # Panics
/// The folder of real workers is not known: the tests that need them are chosen by name, not left out here.
pub(crate) fn real(name: &str) -> BackendCommand {
    built(&format!("nimctl-backend-{name}"))
}

/// Returns an example of the kit, which is built where the real workers are.
///
/// # Panics
/// As for a real one.
pub(crate) fn example(name: &str) -> BackendCommand {
    built(&format!("examples/nimctl-backend-{name}"))
}

fn built(file: &str) -> BackendCommand {
    let path = real_folder().join(file);
    assert!(path.is_file(), "{} is missing: build it, or run `cargo xtask test`", path.display());
    BackendCommand::new(path)
}

/// Returns the folder of real workers.
///
/// # Panics
/// It is not known.
pub(crate) fn real_folder() -> PathBuf {
    let folder = std::env::var_os("NIMCTL_TEST_BACKENDS").expect(
        "NIMCTL_TEST_BACKENDS does not name the folder of the backend executables: run `cargo xtask test`, which builds \
         them, or test without them (`cargo nextest run`, or `cargo test -- --skip real::`)",
    );
    folder.into()
}

/// Starts a worker that has two minutes a request.
pub(crate) fn start(command: &BackendCommand) -> Worker {
    let limits = Limits { request_timeout: Duration::from_secs(120), ..Limits::default() };
    Worker::spawn(command, limits).unwrap_or_else(|error| panic!("{error}: {:?}", error.stderr_tail()))
}

/// Sends lines as they are, each after the end of the one before, then closes the input. Returns the events that
/// ended them, and the exit status.
pub(crate) fn exchange(command: &BackendCommand, lines: &[&str]) -> (Vec<Value>, ExitStatus) {
    let mut child = Command::new(&command.path)
        .envs(&command.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ends = Vec::new();
    for line in lines {
        writeln!(stdin, "{line}").unwrap();
        loop {
            let event: Value = serde_json::from_str(&events.next().unwrap().unwrap()).unwrap();
            if event["event"].get("result").or(event["event"].get("error")).is_some() {
                ends.push(event);
                break;
            }
        }
    }
    drop(stdin);
    assert_eq!(events.next().map(Result::unwrap), None, "events after the last request");
    (ends, child.wait().unwrap())
}

/// Waits until a process is gone (or a zombie of somebody else's).
pub(crate) fn wait_until_gone(process: u32) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let status = fs_err::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let state = status.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(Instant::now() < deadline, "process {process} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the worker's own report of a failure, and checks that it went on living.
#[track_caller]
pub(crate) fn problem<T: std::fmt::Debug>(worker: &Worker, result: Result<T, WorkerError>) -> Problem {
    let error = result.unwrap_err();
    let problem = error.problem().unwrap_or_else(|| panic!("{error}: {:?}", error.stderr_tail()));
    assert!(worker.is_healthy());
    problem
}

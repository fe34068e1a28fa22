//! The host against a worker that does each wrong thing once. Afterwards nothing of the worker may be left.

use std::time::{Duration, Instant};

use nimctl::error_kind::ErrorKind;
use nimctl::worker::error::WorkerError;
use nimctl::worker::host::{BackendCommand, Cancel, Limits, Worker};
use nimctl::worker::protocol::{BuildRequest, BuildResult, Event, InspectRequest};

use crate::support::{fake, start, wait_until_gone};

fn request(folder: &tempfile::TempDir) -> BuildRequest {
    BuildRequest {
        graph: folder.path().join("graph.onnx"),
        plan: folder.path().join("plan"),
        compute_capabilities: Vec::new(),
        shape_ranges: Default::default(),
        workspace_mib: None,
    }
}

/// Builds with a worker that misbehaves, and returns the error; the worker must be dead, and say so.
#[track_caller]
fn failure(behaviour: &str) -> WorkerError {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { request_timeout: Duration::from_secs(2), ..Limits::default() };
    let mut worker = Worker::spawn(&fake(behaviour), limits).unwrap();
    let process = worker.process_id();
    let error = worker.build(request(&folder), &Cancel::new(), &mut |_| {}).unwrap_err();
    wait_until_gone(process);
    assert!(!worker.is_healthy());
    let again = worker.build(request(&folder), &Cancel::new(), &mut |_| {}).unwrap_err();
    assert!(matches!(again, WorkerError::Ended { .. }), "{again}");
    error
}

/// Returns what is said of a worker that misbehaves in each of these ways.
#[track_caller]
fn messages(behaviours: &[&str]) -> String {
    let message = |behaviour: &&str| {
        let error = failure(behaviour);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        format!("{behaviour}: {error}\n")
    };
    behaviours.iter().map(message).collect()
}

#[test]
fn a_crash_is_told_with_its_signal_and_last_words() {
    insta::assert_snapshot!(messages(&["signal", "exit"]));
}

#[test]
fn a_broken_protocol_is_told_with_the_line() {
    let error = failure("nonsense");
    assert!(
        matches!(&error, WorkerError::Nonsense { excerpt, .. } if excerpt == "Loading model, please wait")
    );
    insta::assert_snapshot!(messages(&["mid-line", "long-line"]));
    for behaviour in ["wrong-id", "wrong-answer"] {
        let error = failure(behaviour);
        assert!(matches!(&error, WorkerError::Nonsense { .. }), "{error}");
    }
}

#[test]
fn a_hung_worker_is_ended_in_time() {
    let started = Instant::now();
    insta::assert_snapshot!(messages(&["hang"]));
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_closed_output_is_an_end() {
    insta::assert_snapshot!(messages(&["close-output"]));
}

#[test]
fn a_worker_that_never_starts_up_is_told() {
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..Limits::default() };
    let error = Worker::spawn(&fake("hang-at-start"), limits).unwrap_err();
    assert!(matches!(error, WorkerError::Hung { request: "describe", .. }), "{error}");
    let error = Worker::spawn(&fake("exit-at-start"), limits).unwrap_err();
    insta::assert_snapshot!(error);
    let error = Worker::spawn(&BackendCommand::new("/nonexistent/nimctl-backend-x"), limits).unwrap_err();
    assert!(matches!(error, WorkerError::CannotStart { .. }), "{error}");
}

#[test]
fn another_protocol_version_is_refused() {
    let error = Worker::spawn(&fake("version"), Limits::default()).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn cancelling_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grandchild");
    let mut command = fake("grandchild");
    command.environment.insert("FAKE_FILE".into(), file.clone().into());
    let mut worker = start(&command);
    let cancel = Cancel::new();
    let canceller = std::thread::spawn({
        let (cancel, file) = (cancel.clone(), file.clone());
        move || {
            while fs_err::read_to_string(&file).unwrap_or_default().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            cancel.cancel();
            Instant::now()
        }
    });
    let error = worker.build(request(&folder), &cancel, &mut |_| {}).unwrap_err();
    let latency = canceller.join().unwrap().elapsed();
    assert!(matches!(error, WorkerError::Cancelled { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(latency < Duration::from_millis(500), "{latency:?}");
    wait_until_gone(fs_err::read_to_string(&file).unwrap().trim().parse().unwrap());
}

#[test]
fn what_a_dead_worker_left_behind_is_ended_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grandchild");
    let mut command = fake("orphan");
    command.environment.insert("FAKE_FILE".into(), file.clone().into());
    let mut worker = start(&command);
    // The orphan holds the worker's output open, so that its end doesn't show there.
    let error = worker.build(request(&folder), &Cancel::new(), &mut |_| {}).unwrap_err();
    assert!(matches!(&error, WorkerError::Crashed { how, .. } if how == "exit status 4"), "{error}");
    wait_until_gone(fs_err::read_to_string(&file).unwrap().trim().parse().unwrap());
}

#[test]
fn dropping_a_worker_ends_it() {
    for behaviour in ["", "hang"] {
        let worker = start(&fake(behaviour));
        let process = worker.process_id();
        drop(worker);
        wait_until_gone(process);
    }
}

#[test]
fn a_proper_worker_is_used_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = start(&fake("noisy"));
    for _ in 0..2 {
        let mut events = Vec::new();
        let answer = worker.build(request(&folder), &Cancel::new(), &mut |event| events.push(event)).unwrap();
        // The event of an unknown kind and the unknown field are ignored.
        assert!(matches!(events[..], [Event::Progress(_), Event::Warning(_)]), "{events:?}");
        let expected = BuildResult {
            plan_size_bytes: 4,
            parse_ms: 1,
            build_ms: 2,
            write_ms: 3,
            inputs: Vec::new(),
            outputs: Vec::new(),
            warnings: Vec::new(),
        };
        assert_eq!(answer.result, expected);
        assert!(!cfg!(target_os = "linux") || answer.peak_memory_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(worker.is_healthy());
    }
    let error = worker
        .inspect(InspectRequest { path: "/nonexistent".into() }, &Cancel::new(), &mut |_| {})
        .unwrap_err();
    insta::assert_snapshot!(error);
    assert!(worker.is_healthy());
}

#[test]
fn requests_that_cannot_be_sent_harm_nobody() {
    use std::os::unix::ffi::OsStringExt as _;
    let mut worker = start(&fake(""));
    let path = std::ffi::OsString::from_vec(vec![b'/', 0xff]);
    for path in [path, "x".repeat(17_000_000).into()] {
        let error =
            worker.inspect(InspectRequest { path: path.into() }, &Cancel::new(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, WorkerError::Unsendable { .. }));
        assert!(worker.is_healthy());
    }
}

//! What every worker does alike, whoever wrote it.

use nimctl::worker::error::WorkerError;
use nimctl::worker::host::{BackendCommand, Cancel, Worker};
use nimctl::worker::protocol::{
    CheckRequest, DescribeRequest, ErrorCode, Execution, InspectRequest, PROTOCOL_VERSION, Request, Response,
    RunRequest, Support,
};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::support::{exchange, fake, start};

/// Runs the whole suite over one worker.
pub(crate) fn check_all(command: &BackendCommand) {
    let mut worker = start(command);
    describes_itself(&mut worker, &command.name());
    survives_files_that_are_not_there(&mut worker);
    does_what_it_says_of_run(&mut worker);
    let process = worker.process_id();
    drop(worker);
    crate::support::wait_until_gone(process);
    speaks_the_protocol(command);
    ends_with_its_input(command);
}

fn describes_itself(worker: &mut Worker, name: &str) {
    let description = worker.description().clone();
    assert_eq!(description.protocol_version, PROTOCOL_VERSION);
    assert_eq!(description.backend, name);
    assert!(!description.worker_version.is_empty());
    for file in description.library.iter().flat_map(|library| &library.files) {
        assert!(std::path::Path::new(file).is_absolute(), "{file}");
    }
    for support in [&description.build, &description.run] {
        if let Support::Unavailable(problem) = support {
            assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{}", problem.message);
        }
    }
    let request = Request::Describe(DescribeRequest { protocol_versions: vec![PROTOCOL_VERSION, 99] });
    let again = worker.request(request, &Cancel::new(), &mut |_| {}).unwrap().result;
    assert_eq!(again, Response::Describe(Box::new(description)), "a second description differs");
}

fn survives_files_that_are_not_there(worker: &mut Worker) {
    let error = worker
        .inspect(InspectRequest { path: "/nonexistent/graph".into() }, &Cancel::new(), &mut |_| {})
        .unwrap_err();
    let allowed =
        [ErrorCode::Io, ErrorCode::NoDriver, ErrorCode::LibraryMissing, ErrorCode::UnsupportedRequest];
    assert!(matches!(&error, WorkerError::Reported { code, .. } if allowed.contains(code)), "{error}");
    assert!(worker.is_healthy());
    let error = worker
        .check(CheckRequest { graph: "/nonexistent/graph".into() }, &Cancel::new(), &mut |_| {})
        .unwrap_err();
    assert!(matches!(&error, WorkerError::Reported { code, .. } if allowed.contains(code)), "{error}");
    assert!(worker.is_healthy());
}

fn does_what_it_says_of_run(worker: &mut Worker) {
    let Support::Unavailable(expected) = worker.description().run.clone() else { return };
    let folder = tempfile::tempdir().unwrap();
    let request = RunRequest {
        digests: BTreeMap::new(),
        path: folder.path().join("plan"),
        inputs: Default::default(),
        output_folder: folder.path().into(),
        execution: Execution::default(),
    };
    let error = worker.run(request, &Cancel::new(), &mut |_| {}).unwrap_err();
    assert_eq!(error.problem().map(|problem| problem.code), Some(expected.code));
    assert!(worker.is_healthy());
}

fn speaks_the_protocol(command: &BackendCommand) {
    let lines = [
        r#"{"id":5,"trace":[1],"request":{"describe":{"protocol_versions":[1],"colour":"red"}}}"#,
        r#"{"id":6,"request":{"levitate":{}}}"#,
        "levitate!",
        r#"{"id":8,"request":{"describe":{"protocol_versions":[1]}}}"#,
    ];
    let (ends, status) = exchange(command, &lines);
    assert!(status.success(), "{status} though idle when its input closed");
    let ids: Vec<&Value> = ends.iter().map(|end| &end["id"]).collect();
    assert_eq!(ids, [&Value::from(5), &Value::from(6), &Value::Null, &Value::from(8)]);
    assert_eq!(ends[0]["event"]["result"]["describe"]["protocol_version"], PROTOCOL_VERSION);
    assert_eq!(ends[1]["event"]["error"]["code"], "unsupported_request");
    assert_eq!(ends[2]["event"]["error"]["code"], "invalid_request");
    assert_eq!(ends[0]["event"], ends[3]["event"]);
}

fn ends_with_its_input(command: &BackendCommand) {
    let (_, status) = exchange(command, &[]);
    assert!(status.success(), "{status} though it had nothing to do");
}

#[test]
fn fake_worker() {
    check_all(&fake(""));
}

//! The `tensorrt-rtx` worker with the real library. Nothing here needs a GPU.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nimctl::backend::{Builds, facts_of};
use nimctl::compute_capability::ComputeCapability;
use nimctl::digest::Sha256;
use nimctl::shape_range::ShapeRange;
use nimctl::worker::error::WorkerError;
use nimctl::worker::host::{Answer, Cancel, Worker};
use nimctl::worker::protocol::{
    BuildRequest, BuildResult, ErrorCode, Execution, FileKind, InspectRequest, Request, RequestLine,
    RunRequest, Support,
};

use crate::graph::{self, Precision};
use crate::support::{problem, real, start};

const SM75: ComputeCapability = ComputeCapability::new(7, 5);
const SM80: ComputeCapability = ComputeCapability::new(8, 0);
const SM89: ComputeCapability = ComputeCapability::new(8, 9);
const SM90: ComputeCapability = ComputeCapability::new(9, 0);

/// A request for the tiny graph with a batch of 1 to 16.
fn request(graph: &Path, targets: &[ComputeCapability]) -> BuildRequest {
    let range = ShapeRange { min: vec![1, 4], opt: vec![8, 4], max: vec![16, 4] };
    BuildRequest {
        graph: graph.into(),
        plan: graph.with_file_name("plan"),
        compute_capabilities: targets.into(),
        shape_ranges: BTreeMap::from([("x".into(), range)]),
        workspace_mib: None,
    }
}

fn tiny(folder: &tempfile::TempDir, precision: Precision) -> PathBuf {
    let path = folder.path().join("graph.onnx");
    graph::write(&path, precision);
    path
}

fn build(worker: &mut Worker, request: &BuildRequest) -> Result<Answer<BuildResult>, WorkerError> {
    worker.build(request.clone(), &Cancel::new(), &mut |_| {})
}

#[test]
fn the_worker_builds_for_what_the_table_of_backends_says() {
    let worker = start(&real("tensorrt-rtx"));
    let capabilities = worker.description().compute_capabilities.as_slice();
    assert!(
        matches!(facts_of("tensorrt-rtx").builds, Builds::AheadOfTime(known) if known == capabilities),
        "{capabilities:?}"
    );
}

#[test]
#[expect(clippy::print_stderr, reason = "the digests are worth a look")]
fn equal_requests_give_equal_plans_in_one_process_and_in_two() {
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let graph = tiny(&folder, Precision::Float16);
    let mut one = start(&command);
    let mut two = start(&command);
    assert_eq!(one.description().build, Support::Available);
    let library = one.description().library.clone().unwrap();
    assert_eq!(library.files.len(), 2, "{:?}", library.files);
    assert_eq!(library.version.split('.').count(), 4, "{}", library.version);
    let mut digests = BTreeMap::new();
    for targets in [&[SM75][..], &[SM80], &[SM89], &[SM89, SM80]] {
        let request = request(&graph, targets);
        for worker in [&mut one, &mut two] {
            for _ in 0..2 {
                let answer = build(worker, &request).unwrap();
                let (digest, size_bytes) = Sha256::of_file(&request.plan).unwrap();
                assert_eq!(size_bytes, answer.result.plan_size_bytes);
                // The library alone is larger than this.
                assert!(answer.peak_memory_bytes.is_some_and(|bytes| bytes > 50_000_000), "{answer:?}");
                assert_eq!(answer.result.inputs[0].shape, [-1, 4]);
                assert_eq!(answer.result.outputs[0].name, "y");
                assert_eq!(*digests.entry(targets.to_vec()).or_insert(digest), digest, "{targets:?}");
            }
        }
        eprintln!("{targets:?}: {}", digests[targets]);
    }
    // The order of targets means nothing, and every set of them gives a plan of its own.
    build(&mut one, &request(&graph, &[SM80, SM89, SM80])).unwrap();
    let (digest, _) = Sha256::of_file(&folder.path().join("plan")).unwrap();
    assert_eq!(digest, digests[&vec![SM89, SM80]]);
    let mut distinct: Vec<_> = digests.values().collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn a_graph_with_external_data_builds_to_the_same_plan() {
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let mut worker = start(&command);
    let path = folder.path().join("graph.onnx");
    graph::write_external(&path, Precision::Float16);
    build(&mut worker, &request(&path, &[SM89])).unwrap();
    fs_err::remove_file(folder.path().join("w.bin")).unwrap();
    let result = build(&mut worker, &request(&path, &[SM89]));
    let problem = problem(&worker, result);
    assert_eq!(problem.code, ErrorCode::InvalidGraph);
    assert!(problem.message.contains("w.bin"), "{}", problem.message);
}

#[test]
fn it_inspects_graphs() {
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let path = tiny(&folder, Precision::Float16);
    let mut worker = start(&command);
    let inspection = worker.inspect(InspectRequest { path }, &Cancel::new(), &mut |_| {}).unwrap().result;
    assert_eq!(inspection.kind, FileKind::Onnx);
    assert_eq!(
        (inspection.inputs[0].name.as_str(), inspection.inputs[0].element_type.as_str()),
        ("x", "float16")
    );
    assert_eq!(inspection.outputs[0].shape, [-1, 3]);
    assert!(inspection.layer_count.is_some_and(|count| count > 2));
}

#[test]
fn it_says_what_is_wrong_with_a_request() {
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let graph = tiny(&folder, Precision::Float16);
    let mut worker = start(&command);
    let mut messages = Vec::new();
    let mut check = |request: BuildRequest, code: ErrorCode| {
        let result = build(&mut worker, &request);
        let problem = problem(&worker, result);
        assert_eq!(problem.code, code, "{}", problem.message);
        messages.push(problem.message.replace(folder.path().to_str().unwrap(), "~"));
    };
    let range = |min: &[i64], opt: &[i64], max: &[i64]| ShapeRange {
        min: min.into(),
        opt: opt.into(),
        max: max.into(),
    };
    let with = |name: &str, range: ShapeRange| {
        let mut request = request(&graph, &[SM89]);
        request.shape_ranges.insert(name.into(), range);
        request
    };
    check(request(&graph, &[SM89, SM90]), ErrorCode::UnsupportedTarget);
    let mut open = request(&graph, &[SM89]);
    open.shape_ranges.clear();
    check(open, ErrorCode::InvalidRequest);
    check(with("z", range(&[1], &[1], &[1])), ErrorCode::InvalidRequest);
    check(with("x", range(&[1], &[1], &[1])), ErrorCode::InvalidRequest);
    check(with("x", range(&[2, 4], &[1, 4], &[4, 4])), ErrorCode::InvalidRequest);
    check(with("x", range(&[1, 4], &[1, 4], &[1, 5])), ErrorCode::InvalidRequest);
    let mut large = request(&graph, &[SM89]);
    large.workspace_mib = Some(u64::MAX);
    check(large, ErrorCode::InvalidRequest);
    check(request(&folder.path().join("absent"), &[SM89]), ErrorCode::Io);
    let mut nowhere = request(&graph, &[SM89]);
    nowhere.plan = folder.path().join("absent/plan");
    check(nowhere, ErrorCode::Io);
    let garbage = folder.path().join("garbage.onnx");
    fs_err::write(&garbage, "not a graph").unwrap();
    check(request(&garbage, &[SM89]), ErrorCode::InvalidGraph);
    let wide = tiny(&folder, Precision::Float32);
    check(request(&wide, &[SM75]), ErrorCode::BuildFailed);
    let version = worker.description().library.clone().unwrap().version;
    insta::assert_snapshot!(messages.join("\n").replace(&version, "<version>"));
}

#[test]
fn without_a_driver_plans_are_refused_and_the_worker_lives() {
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let graph = tiny(&folder, Precision::Float16);
    let mut worker = start(&command);
    let expected = if worker.description().devices.is_empty() {
        ErrorCode::NoDriver
    } else {
        ErrorCode::UnsupportedRequest
    };
    let request = request(&graph, &[SM80]);
    build(&mut worker, &request).unwrap();
    let inspect = InspectRequest { path: request.plan.clone() };
    let result = worker.inspect(inspect, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, expected);
    let run = RunRequest {
        digests: BTreeMap::new(),
        path: request.plan.clone(),
        inputs: BTreeMap::new(),
        output_folder: folder.path().into(),
        execution: Execution::default(),
    };
    let result = worker.run(run, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, expected);
    build(&mut worker, &request).unwrap();
}

#[test]
fn a_missing_library_is_an_error_that_says_what_to_do() {
    let mut command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let graph = tiny(&folder, Precision::Float16);
    command.environment.insert("NIMCTL_TENSORRT_RTX_LIB".into(), folder.path().into());
    let mut worker = start(&command);
    let result = build(&mut worker, &request(&graph, &[SM89]));
    let problem = problem(&worker, result);
    assert_eq!(problem.code, ErrorCode::LibraryMissing);
    assert!(problem.needs[0].contains("nimctl toolchain install tensorrt-rtx"), "{:?}", problem.needs);
}

#[test]
fn a_builder_does_not_outlive_its_host() {
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("graph.onnx");
    graph::write_slow(&graph, 1024, 200);
    let mut slow = request(&graph, &[SM89]);
    slow.shape_ranges
        .insert("x".into(), ShapeRange { min: vec![1, 1024], opt: vec![8, 1024], max: vec![16, 1024] });
    let mut child = Command::new(&command.path)
        .envs(&command.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let line = serde_json::to_string(&RequestLine { id: 1, request: Request::Build(slow) }).unwrap();
    writeln!(stdin, "{line}").unwrap();
    let mut events = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    events.read_line(&mut first).unwrap();
    assert!(first.contains("progress"), "{first}");
    drop(stdin);
    let closed = Instant::now();
    let status = child.wait().unwrap();
    assert!(closed.elapsed() < Duration::from_secs(1), "{:?}", closed.elapsed());
    assert!(!status.success(), "{status}");
    let mut rest = String::new();
    events.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("result"), "{rest}");
}

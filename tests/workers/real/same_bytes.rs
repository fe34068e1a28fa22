//! What the `tensorrt-rtx` worker does so that equal requests give equal plans: an allocator of its own, threads that take turns,
//! and one build per process. Without the first, the graph here gives another plan almost every time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nimctl::compute_capability::ComputeCapability;
use nimctl::digest::Sha256;
use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::{BackendCommand, Cancel};
use nimctl::worker::protocol::{BuildRequest, ErrorCode};

use crate::graph;
use crate::support::{exchange, problem, real, start};

/// A request for a graph of three open dimensions; its file is written first.
fn request(folder: &Path) -> BuildRequest {
    let graph = folder.join("graph.onnx");
    graph::write_open(&graph);
    let range = ShapeRange { min: vec![1, 3, 32, 32], opt: vec![1, 3, 64, 64], max: vec![4, 3, 128, 128] };
    BuildRequest {
        plan: folder.join("plan"),
        graph,
        compute_capabilities: vec![ComputeCapability::new(8, 9)],
        shape_ranges: BTreeMap::from([("x".into(), range)]),
        workspace_mib: None,
    }
}

#[test]
fn plans_are_equal_in_every_environment_and_beside_other_work() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    let busy = AtomicBool::new(true);
    let mut digests = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        for variables in [0, 1, 30] {
            let mut command = real("tensorrt-rtx");
            for number in 0..variables {
                command.environment.insert(format!("VARIABLE_{number}"), "x".repeat(number * 97 + 1).into());
            }
            let mut worker = start(&command);
            for _ in 0..2 {
                let process = worker.process_id();
                worker.build(request.clone(), &Cancel::new(), &mut |_| {}).unwrap();
                digests.push((process != worker.process_id(), Sha256::of_file(&request.plan).unwrap().0));
            }
        }
        busy.store(false, Ordering::Relaxed);
    });
    let (is_new_process, digests): (Vec<_>, Vec<_>) = digests.into_iter().unzip();
    assert_eq!(is_new_process, [false, true, false, true, false, true]);
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_process_builds_one_plan() {
    let folder = tempfile::tempdir().unwrap();
    let request = serde_json::to_string(&request(folder.path())).unwrap();
    let lines = [
        r#"{"id":1,"request":{"describe":{"protocol_versions":[1]}}}"#.to_owned(),
        format!(r#"{{"id":2,"request":{{"build":{request}}}}}"#),
        format!(r#"{{"id":3,"request":{{"build":{request}}}}}"#),
    ];
    let (ends, _) = exchange(&real("tensorrt-rtx"), &lines.each_ref().map(String::as_str));
    assert_eq!(ends[0]["event"]["result"]["describe"]["one_build_per_process"], true);
    assert!(ends[1]["event"]["result"]["build"]["plan_size_bytes"].is_u64(), "{}", ends[1]);
    let error = &ends[2]["event"]["error"];
    assert_eq!(error["code"], "unsupported_request");
    assert!(error["message"].as_str().unwrap().contains("needs a new process"), "{error}");
}

#[test]
fn without_address_space_there_is_no_plan_and_the_reason_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("nimctl-backend-tensorrt-rtx");
    let worker = real("tensorrt-rtx").path;
    // Room for the library, but none for a region to allocate in.
    let text = format!("#!/bin/sh\nulimit -v 900000\nexec {}\n", worker.display());
    fs_err::write(&script, text).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&script).status().unwrap().success());
    let mut worker = start(&BackendCommand::new(script));
    let result = worker.build(request(folder.path()), &Cancel::new(), &mut |_| {});
    let problem = problem(&worker, result);
    assert_eq!(problem.code, ErrorCode::BuildFailed);
    assert!(problem.message.contains("address space"), "{}", problem.message);
    assert!(problem.needs[0].contains("ulimit -v"), "{:?}", problem.needs);
}

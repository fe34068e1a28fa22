//! The `tensorrt` worker on machines that lack what it needs.

use nimctl::worker::host::Cancel;
use nimctl::worker::protocol::{BuildRequest, ErrorCode, Execution, RunRequest, Support};
use std::collections::BTreeMap;

use crate::graph::{self, Precision};
use crate::support::{problem, real, start};

#[test]
fn without_a_driver_it_says_so_and_stays_alive() {
    let mut command = real("tensorrt");
    let folder = tempfile::tempdir().unwrap();
    // Whatever this machine has, the library is missing.
    command.environment.insert("NIMCTL_TENSORRT_LIB".into(), folder.path().into());
    let mut worker = start(&command);
    assert!(worker.description().needs_gpu_to_build);
    assert!(!worker.description().portable_plans);
    assert_eq!(worker.description().library, None);
    let has_gpu = !worker.description().devices.is_empty();
    let Support::Unavailable(expected) = worker.description().build.clone() else {
        panic!("it claims to build without its library")
    };
    let graph = folder.path().join("graph.onnx");
    graph::write(&graph, Precision::Float16);
    for _ in 0..2 {
        let request = BuildRequest {
            graph: graph.clone(),
            plan: folder.path().join("plan"),
            compute_capabilities: Vec::new(),
            shape_ranges: Default::default(),
            workspace_mib: None,
        };
        let result = worker.build(request, &Cancel::new(), &mut |_| {});
        assert_eq!(problem(&worker, result), expected);
        let request = RunRequest {
            digests: BTreeMap::new(),
            path: graph.clone(),
            inputs: Default::default(),
            output_folder: folder.path().into(),
            execution: Execution::default(),
        };
        let result = worker.run(request, &Cancel::new(), &mut |_| {});
        problem(&worker, result);
    }
    if has_gpu {
        assert_eq!(expected.code, ErrorCode::LibraryMissing);
    } else {
        assert_eq!(expected.code, ErrorCode::NoDriver);
        assert!(expected.message.starts_with("no NVIDIA driver: "), "{}", expected.message);
        assert!(
            matches!(&expected.needs[..], [driver, library] if driver.contains("libcuda.so.1") && library.contains("TensorRT 11")),
            "{:?}",
            expected.needs
        );
    }
}

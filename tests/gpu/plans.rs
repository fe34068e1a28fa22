//! A tiny plan: built, inspected, run, measured, on the real GPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nimctl::shape_range::ShapeRange;
use nimctl::worker::host::{BackendCommand, Cancel, Worker};
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{
    BenchRequest, BuildRequest, ErrorCode, Execution, FileKind, InspectRequest, RunRequest, RuntimeCacheUse,
    Support,
};

use crate::graph::{self, Precision, X, Y};
use crate::nvidia::{first_gpu, is_known_to_rtx, is_without};
use crate::support::{problem, real, start};

/// What FP16 may cost here: the values are small, and exact in it but for the sums.
const TOLERANCE: f64 = 0.02;

/// A folder with the tiny graph, and a plan of it for this GPU.
struct Scene {
    folder: tempfile::TempDir,
    command: BackendCommand,
}

impl Scene {
    fn new(backend: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scene = Self { folder, command: real(backend) };
        graph::write(&scene.path("graph.onnx"), Precision::Float16);
        Tensor::new(&[2, 4], &X.map(half::f16::from_f32)).unwrap().write(&scene.path("x.npy")).unwrap();
        let mut worker = start(&scene.command);
        let shapes = ShapeRange { min: vec![1, 4], opt: vec![2, 4], max: vec![16, 4] };
        let request = BuildRequest {
            graph: scene.path("graph.onnx"),
            plan: scene.path("plan"),
            compute_capabilities: vec![first_gpu().compute_capability],
            shape_ranges: BTreeMap::from([("x".into(), shapes)]),
            workspace_mib: None,
        };
        worker.build(request, &Cancel::new(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run_request(&self) -> RunRequest {
        RunRequest {
            digests: BTreeMap::new(),
            path: self.path("plan"),
            inputs: BTreeMap::from([("x".into(), self.path("x.npy"))]),
            output_folder: self.folder.path().into(),
            execution: Execution::default(),
        }
    }

    fn bench_request(&self, streams: u32, execution: Execution) -> BenchRequest {
        BenchRequest {
            digests: BTreeMap::new(),
            path: self.path("plan"),
            inputs: BTreeMap::from([("x".into(), self.path("x.npy"))]),
            streams,
            warm_up_ms: 50,
            window_ms: 50,
            budget_ms: 1000,
            execution,
            samples: self.path("samples.npy"),
        }
    }
}

#[track_caller]
fn check_numbers(path: &Path) {
    let y = Tensor::read(path).unwrap();
    assert_eq!(y.shape(), [2, 3]);
    for (found, expected) in y.to_f64().into_iter().zip(Y) {
        assert!((found - f64::from(expected)).abs() <= TOLERANCE, "{found} in place of {expected}");
    }
}

/// Everything that a plan can do, with one flavour.
fn check_plan(backend: &str) {
    let gpu = first_gpu();
    let scene = Scene::new(backend);
    let mut worker = start(&scene.command);
    assert_eq!(worker.description().run, Support::Available);
    let inspect = InspectRequest { path: scene.path("plan") };
    let inspection = worker.inspect(inspect, &Cancel::new(), &mut |_| {}).unwrap().result;
    assert_eq!(inspection.kind, FileKind::Plan);
    assert_eq!((inspection.inputs[0].name.as_str(), inspection.outputs[0].name.as_str()), ("x", "y"));
    for _ in 0..3 {
        let result = run(&mut worker, scene.run_request());
        check_numbers(&result.outputs["y"]);
        assert_eq!(result.ran_on.device.unwrap().name, gpu.name);
    }
    for (streams, cuda_graph) in [(1, false), (2, false), (1, true), (2, true)] {
        let request =
            scene.bench_request(streams, Execution { cuda_graph: Some(cuda_graph), ..Execution::default() });
        let result = worker.bench(request, &Cancel::new(), &mut |_| {}).unwrap().result;
        assert!(result.sample_count >= 10);
        let on_device = result.device_p50_ns.unwrap();
        let samples = Tensor::read(&scene.path("samples.npy")).unwrap().elements::<i64>().unwrap();
        let mut durations: Vec<i64> = samples.chunks(3).map(|row| row[2]).collect();
        durations.sort_unstable();
        let host = durations[durations.len() / 2];
        assert!(on_device > 0 && i64::try_from(on_device).unwrap() < host, "{on_device} of {host} ns");
    }
    // The numbers are right after all that too.
    check_numbers(&run(&mut worker, scene.run_request()).outputs["y"]);
    // A plan for something else is refused in the library's words, and the worker lives on.
    let broken = scene.path("broken");
    let mut bytes = fs_err::read(scene.path("plan")).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs_err::write(&broken, bytes).unwrap();
    let result = worker.run(RunRequest { path: broken, ..scene.run_request() }, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, ErrorCode::RunFailed);
    check_numbers(&run(&mut worker, scene.run_request()).outputs["y"]);
}

fn run(worker: &mut Worker, request: RunRequest) -> nimctl::worker::protocol::RunResult {
    worker.run(request, &Cancel::new(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}")).result
}

#[test]
fn tensorrt_rtx_plans_run() {
    let gpu = first_gpu();
    if is_known_to_rtx(gpu.compute_capability) {
        return check_plan("tensorrt-rtx");
    }
    // It can't be built for this GPU, and the worker says what it can be built for.
    let command = real("tensorrt-rtx");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.onnx");
    graph::write(&path, Precision::Float16);
    let request = BuildRequest {
        graph: path,
        plan: folder.path().join("plan"),
        compute_capabilities: vec![gpu.compute_capability],
        shape_ranges: BTreeMap::new(),
        workspace_mib: None,
    };
    let mut worker = start(&command);
    let result = worker.build(request, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, ErrorCode::UnsupportedTarget);
}

#[test]
fn tensorrt_rtx_keeps_the_kernels_that_it_compiles() {
    if !is_known_to_rtx(first_gpu().compute_capability) {
        return;
    }
    let scene = Scene::new("tensorrt-rtx");
    let mut found = Vec::new();
    for _ in 0..2 {
        // A process each: what matters is the file.
        let mut worker = start(&scene.command);
        let execution = Execution { runtime_cache: Some(scene.path("kernels")), ..Execution::default() };
        let result = run(&mut worker, RunRequest { execution, ..scene.run_request() });
        check_numbers(&result.outputs["y"]);
        found.push(result.ran_on.runtime_cache);
    }
    assert_eq!(found, [Some(RuntimeCacheUse::Cold), Some(RuntimeCacheUse::Warm)]);
}

#[test]
fn tensorrt_plans_run() {
    first_gpu();
    if !is_without("TENSORRT") {
        check_plan("tensorrt");
    }
}

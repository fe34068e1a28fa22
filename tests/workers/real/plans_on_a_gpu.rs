//! Plans on a GPU, up to the driver's door: the real workers of both flavours, with a driver and a TensorRT that are played
//! (`tests/gpu_stand_in`). What only a GPU can show is in `tests/gpu`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nimctl::worker::host::{BackendCommand, Cancel, Worker};
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{
    BenchRequest, ErrorCode, Execution, FileKind, GraphOptimization, InspectRequest, Problem, Provider,
    RunRequest, RunResult, RuntimeCacheUse, Support, TensorDescription,
};
use serde_json::Value;

use super::gpu_stand_in::{Flavour, worker};
use crate::support::{problem, start};

/// y[i][j] is the sum of x[i], plus j.
const PLAN: &str = "vtrt toy\ninput x float32 -1,4\nmost 8\noutput y float32 -1,3\n";
const X: [f32; 8] = [1.0, 2.0, 3.0, 4.0, 0.0, -1.0, 0.5, 0.25];
const Y: [f32; 6] = [10.0, 11.0, 12.0, -0.25, 0.75, 1.75];

/// A folder with a plan and an input.
struct Scene {
    folder: tempfile::TempDir,
    command: BackendCommand,
}

impl Scene {
    fn new(flavour: Flavour) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = worker(flavour);
        command.environment.insert("STAND_IN_REPORT".into(), folder.path().join("report.json").into());
        let scene = Self { folder, command };
        scene.write("plan", PLAN);
        scene.input("x", &[2, 4], &X);
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs_err::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn input(&self, name: &str, shape: &[usize], values: &[f32]) -> PathBuf {
        let path = self.path(&format!("{name}.npy"));
        Tensor::new(shape, values).unwrap().write(&path).unwrap();
        path
    }

    fn with_fault(mut self, fault: &str) -> Self {
        self.command.environment.insert("STAND_IN_FAULT".into(), fault.into());
        self
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

    fn bench_request(&self, streams: u32, cuda_graph: bool) -> BenchRequest {
        BenchRequest {
            digests: BTreeMap::new(),
            path: self.path("plan"),
            inputs: BTreeMap::from([("x".into(), self.path("x.npy"))]),
            streams,
            warm_up_ms: 1,
            // Long enough for every stream to have its turn.
            window_ms: 20,
            budget_ms: 200,
            execution: Execution { cuda_graph: Some(cuda_graph), ..Execution::default() },
            samples: self.path("samples.npy"),
        }
    }

    /// Ends a worker, and returns what its driver saw.
    fn report(&self, worker: Worker) -> Value {
        drop(worker);
        serde_json::from_str(&fs_err::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }
}

fn run(worker: &mut Worker, request: RunRequest) -> RunResult {
    worker.run(request, &Cancel::new(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}")).result
}

#[track_caller]
fn check_numbers(result: &RunResult) {
    let y = Tensor::read(&result.outputs["y"]).unwrap();
    assert_eq!((y.shape(), y.elements::<f32>().unwrap().as_slice()), (&[2, 3][..], &Y[..]));
}

/// Returns why a run fails.
#[track_caller]
fn refused(worker: &mut Worker, request: RunRequest) -> Problem {
    let result = worker.run(request, &Cancel::new(), &mut |_| {});
    problem(worker, result)
}

fn scenes() -> impl Iterator<Item = (Flavour, Scene)> {
    Flavour::ALL.into_iter().map(|flavour| (flavour, Scene::new(flavour)))
}

#[test]
fn a_worker_with_a_gpu_says_so() {
    for (flavour, scene) in scenes() {
        let worker = start(&scene.command);
        let description = worker.description();
        assert_eq!(description.run, Support::Available, "{flavour:?}");
        let devices: Vec<_> = description
            .devices
            .iter()
            .map(|device| {
                (device.name.as_str(), device.compute_capability.sm(), device.pci_address.as_deref().unwrap())
            })
            .collect();
        assert_eq!(
            devices,
            [("NVIDIA L40S", 89, "00000000:C1:00.0"), ("NVIDIA A100-SXM4-80GB", 80, "00000000:C2:00.0")]
        );
    }
}

#[test]
fn a_plan_is_inspected() {
    for (_, scene) in scenes() {
        let mut worker = start(&scene.command);
        let request = InspectRequest { path: scene.path("plan") };
        let found = worker.inspect(request, &Cancel::new(), &mut |_| {}).unwrap().result;
        let tensor = |name: &str, shape: &[i64]| TensorDescription {
            name: name.into(),
            element_type: "float32".into(),
            shape: shape.into(),
        };
        assert_eq!(found.kind, FileKind::Plan);
        assert_eq!((found.inputs, found.outputs), (vec![tensor("x", &[-1, 4])], vec![tensor("y", &[-1, 3])]));
        assert_eq!(found.layer_count, Some(7));
        assert_eq!(scene.report(worker)["left"], 0);
    }
}

#[test]
fn a_plan_is_run_again_and_again_and_nothing_is_left() {
    for (flavour, scene) in scenes() {
        let mut worker = start(&scene.command);
        for _ in 0..3 {
            let result = run(&mut worker, scene.run_request());
            check_numbers(&result);
            assert_eq!(result.ran_on.device.unwrap().name, "NVIDIA L40S");
            assert_eq!(result.ran_on.runtime_cache, None, "{flavour:?}: none was asked for");
        }
        let mut on_second = scene.run_request();
        on_second.execution.device = Some(1);
        assert_eq!(run(&mut worker, on_second).ran_on.device.unwrap().compute_capability.sm(), 80);
        let report = scene.report(worker);
        assert_eq!((&report["left"], &report["launches"]), (&0.into(), &4.into()), "{report}");
    }
}

#[test]
fn memory_comes_from_drivers_without_pools_too() {
    for (_, mut scene) in scenes() {
        scene.command.environment.insert("STAND_IN_WITHOUT_POOLS".into(), "1".into());
        let mut worker = start(&scene.command);
        check_numbers(&run(&mut worker, scene.run_request()));
        assert_eq!(scene.report(worker)["left"], 0);
    }
}

#[test]
fn compiled_kernels_are_kept_where_the_library_compiles_them() {
    for (flavour, scene) in scenes() {
        let mut worker = start(&scene.command);
        let mut request = scene.run_request();
        request.execution.runtime_cache = Some(scene.path("kernels"));
        if flavour == Flavour::Plain {
            let problem = refused(&mut worker, request);
            assert_eq!(problem.code, ErrorCode::UnsupportedRequest);
            insta::assert_snapshot!(problem.message);
            continue;
        }
        for expected in [RuntimeCacheUse::Cold, RuntimeCacheUse::Warm] {
            let result = run(&mut worker, request.clone());
            check_numbers(&result);
            assert_eq!(result.ran_on.runtime_cache, Some(expected));
            assert_eq!(fs_err::read_to_string(scene.path("kernels")).unwrap(), "toy kernels:all");
        }
        // What another version wrote is not taken, and replaced.
        scene.write("kernels", "of another version");
        assert_eq!(run(&mut worker, request.clone()).ran_on.runtime_cache, Some(RuntimeCacheUse::Cold));
        assert_eq!(fs_err::read_to_string(scene.path("kernels")).unwrap(), "toy kernels:all");
    }
}

#[test]
fn a_plan_is_measured_in_several_streams() {
    for (flavour, scene) in scenes() {
        for (streams, cuda_graph) in [(1, false), (3, false), (2, true)] {
            let mut worker = start(&scene.command);
            let mut stages = Vec::new();
            let request = scene.bench_request(streams, cuda_graph);
            let result = worker
                .bench(request, &Cancel::new(), &mut |event| stages.push(format!("{event:?}")))
                .unwrap()
                .result;
            let samples = Tensor::read(&scene.path("samples.npy")).unwrap();
            assert_eq!(samples.shape(), [usize::try_from(result.sample_count).unwrap(), 3]);
            let rows = samples.elements::<i64>().unwrap();
            for stream in 0..i64::from(streams) {
                assert!(rows.chunks(3).any(|row| row[0] == stream && row[2] > 0), "{flavour:?}: {stream}");
            }
            let stage = |name: &str| stages.iter().position(|event| event.contains(name)).unwrap();
            assert!(stage("\"load\"") < stage("first_result") && stage("first_result") < stage("measure"));
            assert_eq!(result.ran_on.device.unwrap().name, "NVIDIA L40S");
            assert_eq!(result.ran_on.cuda_graph, cuda_graph);
            assert!(result.device_p50_ns.is_some());
            // The plan, and input and output of each stream.
            let least = PLAN.len() as u64 + u64::from(streams) * (32 + 24);
            assert_eq!(result.device_memory_bytes, Some(least));
            assert!(result.boundary.contains("inputs copied from page-locked host memory"));
            let report = scene.report(worker);
            assert_eq!(report["left"], 0, "{flavour:?} {streams} {cuda_graph}");
            let replays = report["replays"].as_u64().unwrap();
            // TensorRT for RTX captures by itself, which can't be seen from outside.
            let captured_here = cuda_graph && flavour == Flavour::Plain;
            assert_eq!(replays >= result.sample_count, captured_here, "{report}");
            assert!(captured_here || replays == 0, "{report}");
        }
    }
}

#[test]
fn requests_that_fit_no_plan_are_refused_in_words() {
    let mut messages = Vec::new();
    for (_, scene) in scenes() {
        let mut worker = start(&scene.command);
        let with = |change: &dyn Fn(&mut RunRequest)| {
            let mut request = scene.run_request();
            change(&mut request);
            request
        };
        let execution = |execution: Execution| with(&|request| request.execution = execution.clone());
        let default = Execution::default;
        let text = scene.write("graph.onnx", "no plan");
        let broken = scene.write("broken", "vtrt of another version");
        let on_host = scene
            .write("host", "vtrt toy\ninput x float32 -1,4\ninput shape host 2\noutput y float32 -1,3\n");
        let odd = scene.write("odd", "vtrt toy\ninput x float32 -1,4\noutput y float32 -1,-1\n");
        let wide = scene.input("wide", &[2, 5], &[0.0; 10]);
        let many = scene.input("many", &[9, 4], &[0.0; 36]);
        let cases: Vec<(RunRequest, ErrorCode)> = vec![
            (
                execution(Execution { provider: Some(Provider::Cpu), ..default() }),
                ErrorCode::UnsupportedRequest,
            ),
            (execution(Execution { threads: Some(2), ..default() }), ErrorCode::UnsupportedRequest),
            (
                execution(Execution { graph_optimization: Some(GraphOptimization::Off), ..default() }),
                ErrorCode::UnsupportedRequest,
            ),
            (execution(Execution { device: Some(2), ..default() }), ErrorCode::InvalidRequest),
            (with(&|request| request.path = text.clone()), ErrorCode::InvalidRequest),
            (with(&|request| request.path = broken.clone()), ErrorCode::RunFailed),
            (with(&|request| request.path = on_host.clone()), ErrorCode::RunFailed),
            (with(&|request| request.path = odd.clone()), ErrorCode::RunFailed),
            (with(&|request| request.inputs.clear()), ErrorCode::InvalidRequest),
            (with(&|request| _ = request.inputs.insert("x".into(), wide.clone())), ErrorCode::InvalidRequest),
            (with(&|request| _ = request.inputs.insert("x".into(), many.clone())), ErrorCode::InvalidRequest),
        ];
        for (request, code) in cases {
            let found = refused(&mut worker, request);
            assert_eq!(found.code, code, "{}", found.message);
            messages.push(found.message.replace(scene.folder.path().to_str().unwrap(), "~"));
        }
        check_numbers(&run(&mut worker, scene.run_request()));
        assert_eq!(scene.report(worker)["left"], 0);
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn what_the_driver_refuses_is_told_in_its_words() {
    for (_, scene) in scenes() {
        let scene = scene.with_fault("out-of-memory");
        let mut worker = start(&scene.command);
        check_numbers(&run(&mut worker, scene.run_request()));
        let found = refused(&mut worker, scene.run_request());
        // No verdict on the plan: another run may have the memory.
        assert_eq!(found.code, ErrorCode::OutOfMemory);
        assert!(found.message.ends_with("out of memory (CUDA_ERROR_OUT_OF_MEMORY)"), "{}", found.message);
        assert_eq!(scene.report(worker)["left"], 0);
    }
    for (_, scene) in scenes() {
        let scene = scene.with_fault("illegal-address");
        let mut worker = start(&scene.command);
        let found = refused(&mut worker, scene.run_request());
        assert_eq!(found.code, ErrorCode::RunFailed);
        assert_eq!(
            found.message,
            "could not run the plan: an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS)"
        );
    }
    for (_, scene) in scenes() {
        let scene = scene.with_fault("no-device");
        let mut worker = start(&scene.command);
        let found = refused(&mut worker, scene.run_request());
        assert_eq!(found.code, ErrorCode::NoDriver);
        assert_eq!(found.message, "no NVIDIA driver: it sees no GPU (CUDA_ERROR_NO_DEVICE)");
    }
}

/// A plan whose path leads nowhere is an error of the file, not of the library.
#[test]
fn a_missing_plan_is_an_error_that_names_it() {
    for (_, scene) in scenes() {
        let mut worker = start(&scene.command);
        let mut request = scene.run_request();
        request.path = Path::new("/nonexistent/plan").into();
        let found = refused(&mut worker, request);
        assert_eq!(found.code, ErrorCode::Io);
        assert!(found.message.contains("/nonexistent/plan"), "{}", found.message);
    }
}

#[test]
fn a_driver_that_is_there_and_cannot_be_loaded_says_why() {
    for (_, mut scene) in scenes() {
        let folder = scene.path("driver");
        fs_err::create_dir_all(&folder).unwrap();
        fs_err::write(folder.join("libcuda.so.1"), "no library").unwrap();
        scene.command.environment.insert("LD_LIBRARY_PATH".into(), folder.into());
        let worker = start(&scene.command);
        let Support::Unavailable(problem) = worker.description().run.clone() else { panic!("it runs") };
        assert_eq!(problem.code, ErrorCode::NoDriver);
        // The loader's own words: they differ from one system to the next.
        assert!(problem.message.contains("/driver/libcuda.so.1: "), "{}", problem.message);
    }
}

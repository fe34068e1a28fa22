//! The `onnxruntime` worker with the real library.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nimctl::digest::Blake3;
use nimctl::worker::host::{Cancel, Worker};
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{
    BenchRequest, BuildRequest, Digests, ErrorCode, Execution, FileKind, GraphOptimization, InspectRequest,
    Provider, RunRequest, Support, TensorDescription,
};

use crate::graph::{self, Precision, X, Y};
use crate::support::{problem, real, start};

/// A graph and its input, in a folder that goes away.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        graph::write(&folder.path().join("graph.onnx"), Precision::Float32);
        Tensor::new(&[2, 4], &X).unwrap().write(&folder.path().join("x.npy")).unwrap();
        Self(folder)
    }

    fn to_run(&self, execution: Execution) -> RunRequest {
        let folder = self.0.path();
        RunRequest {
            digests: BTreeMap::new(),
            path: folder.join("graph.onnx"),
            inputs: BTreeMap::from([("x".into(), folder.join("x.npy"))]),
            output_folder: folder.into(),
            execution,
        }
    }
}

#[test]
fn it_runs_a_graph_and_gives_the_right_numbers() {
    let command = real("onnxruntime");
    let folder = tempfile::tempdir().unwrap();
    let mut worker = start(&command);
    let library = worker.description().library.clone().unwrap();
    assert_eq!(library.name, "ONNX Runtime");
    assert!(library.version.starts_with("1."), "{}", library.version);
    assert!(library.files.iter().any(|file| file.contains("libonnxruntime.so")), "{:?}", library.files);
    assert_eq!(worker.description().run, Support::Available);
    for (precision, external) in
        [(Precision::Float32, false), (Precision::Float16, false), (Precision::Float32, true)]
    {
        let path = folder.path().join("graph.onnx");
        if external {
            graph::write_external(&path, precision);
        } else {
            graph::write(&path, precision);
        }
        let element_type = match precision {
            Precision::Float32 => "float32",
            Precision::Float16 => "float16",
        };
        let inspection = worker
            .inspect(InspectRequest { path: path.clone() }, &Cancel::new(), &mut |_| {})
            .unwrap()
            .result;
        assert_eq!(inspection.kind, FileKind::Onnx);
        let tensor = |name: &str, shape: &[i64]| TensorDescription {
            name: name.into(),
            element_type: element_type.into(),
            shape: shape.into(),
        };
        assert_eq!(inspection.inputs, [tensor("x", &[-1, 4])]);
        assert_eq!(inspection.outputs, [tensor("y", &[-1, 3])]);

        let x = folder.path().join("x.npy");
        match precision {
            Precision::Float32 => Tensor::new(&[2, 4], &X),
            Precision::Float16 => Tensor::new(&[2, 4], &X.map(half::f16::from_f32)),
        }
        .unwrap()
        .write(&x)
        .unwrap();
        let request = RunRequest {
            digests: BTreeMap::new(),
            path: path.clone(),
            inputs: BTreeMap::from([("x".into(), x)]),
            output_folder: folder.path().into(),
            execution: Execution::default(),
        };
        let result = worker.run(request, &Cancel::new(), &mut |_| {}).unwrap().result;
        let y = Tensor::read(&result.outputs["y"]).unwrap();
        assert_eq!((y.shape(), y.element_type().name()), (&[2, 3][..], element_type));
        assert_eq!(y.to_f64(), Y.map(f64::from));
    }
}

/// Microsoft's builds report what is run, and leave a number for the device, unless they are told not to.
#[test]
fn it_leaves_nothing_behind_and_opens_no_socket() {
    let mut command = real("onnxruntime");
    let files = Files::new();
    let homes = tempfile::tempdir().unwrap();
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"]
    {
        let home = homes.path().join(variable);
        fs_err::create_dir(&home).unwrap();
        command.environment.insert(variable.into(), home.into());
    }
    // Where one of these is set, ONNX Runtime is silent by itself.
    for variable in ["CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY"] {
        command.environment.insert(variable.into(), "".into());
    }
    let mut worker = start(&command);
    worker.run(files.to_run(Execution::default()), &Cancel::new(), &mut |_| {}).unwrap();
    let left: Vec<PathBuf> = walkdir::WalkDir::new(homes.path())
        .min_depth(2)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for entry in fs_err::read_dir(format!("/proc/{}/fd", worker.process_id())).unwrap() {
        if let Ok(target) = fs_err::read_link(entry.unwrap().path()) {
            assert!(!target.to_string_lossy().starts_with("socket:"), "{target:?}");
        }
    }
}

/// With digests, the library gets the bytes that were hashed, of the graph and of its external data.
#[test]
fn it_loads_only_what_it_hashed() {
    let command = real("onnxruntime");
    let files = Files::new();
    let folder = files.0.path();
    let mut worker = start(&command);
    for external in [false, true] {
        let path = folder.join("graph.onnx");
        if external {
            graph::write_external(&path, Precision::Float32);
        }
        let inputs = ["x.npy"].map(|name| folder.join(name));
        let mut digests = Digests::new();
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !inputs.contains(&path) && path.extension() != Some("npy".as_ref()) {
                let name = path.file_name().unwrap().into();
                digests.insert(name, Blake3::of_file(&path).unwrap().to_string());
            }
        }
        assert_eq!(digests.len(), if external { 2 } else { 1 }, "{digests:?}");
        let request = RunRequest { digests, ..files.to_run(Execution::default()) };
        let run = |worker: &mut Worker, request: &RunRequest| {
            worker.run(request.clone(), &Cancel::new(), &mut |_| {})
        };
        let result = run(&mut worker, &request).unwrap().result;
        assert_eq!(Tensor::read(&result.outputs["y"]).unwrap().to_f64(), Y.map(f64::from));
        for name in request.digests.keys() {
            let path = folder.join(name);
            let bytes = fs_err::read(&path).unwrap();
            let mut other = bytes.clone();
            *other.last_mut().unwrap() ^= 1;
            fs_err::write(&path, other).unwrap();
            let result = run(&mut worker, &request);
            let problem = problem(&worker, result);
            assert_eq!(problem.code, ErrorCode::DamagedFile);
            assert!(problem.message.starts_with(&path.display().to_string()), "{}", problem.message);
            fs_err::write(&path, bytes).unwrap();
        }
        run(&mut worker, &request).unwrap();
    }
}

/// Nor does it look for what was not hashed where it happens to run: a hostile graph names a file of the worker's folder.
#[test]
fn it_loads_nothing_that_lies_in_its_own_folder() {
    let command = real("onnxruntime");
    let files = Files::new();
    let path = files.0.path().join("graph.onnx");
    let location = "Cargo.toml";
    assert!(std::env::current_dir().unwrap().join(location).is_file(), "the worker runs where the test does");
    graph::write_external_elsewhere(&path, Precision::Float32, location);
    let digests = Digests::from([("graph.onnx".into(), Blake3::of_file(&path).unwrap().to_string())]);
    let request = RunRequest { digests, ..files.to_run(Execution::default()) };
    let mut worker = start(&command);
    let result = worker.run(request, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, ErrorCode::InvalidGraph);
}

#[test]
fn it_says_which_input_is_wrong() {
    let command = real("onnxruntime");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.onnx");
    graph::write(&path, Precision::Float32);
    let right = folder.path().join("right.npy");
    Tensor::new(&[2, 4], &X).unwrap().write(&right).unwrap();
    let long = folder.path().join("long.npy");
    Tensor::new(&[1, 8], &X).unwrap().write(&long).unwrap();
    let mut worker = start(&command);
    let mut messages = Vec::new();
    let mut check = |inputs: &[(&str, &PathBuf)], code: ErrorCode| {
        let inputs = inputs.iter().map(|(name, path)| ((*name).to_owned(), (*path).clone())).collect();
        let request = RunRequest {
            digests: BTreeMap::new(),
            path: path.clone(),
            inputs,
            output_folder: folder.path().into(),
            execution: Execution::default(),
        };
        let result = worker.run(request, &Cancel::new(), &mut |_| {});
        let problem = problem(&worker, result);
        assert_eq!(problem.code, code, "{}", problem.message);
        messages.push(problem.message.replace(folder.path().to_str().unwrap(), "~"));
    };
    check(&[], ErrorCode::InvalidRequest);
    check(&[("x", &right), ("z", &right)], ErrorCode::InvalidRequest);
    check(&[("x", &long)], ErrorCode::InvalidRequest);
    check(&[("x", &path)], ErrorCode::InvalidRequest);
    check(&[("x", &folder.path().join("absent.npy"))], ErrorCode::Io);
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn it_runs_as_it_is_asked_to_and_says_what_ran_the_nodes() {
    let command = real("onnxruntime");
    let files = Files::new();
    let mut worker = start(&command);
    let mut run = |execution: Execution| {
        let result = worker.run(files.to_run(execution), &Cancel::new(), &mut |_| {}).unwrap().result;
        let y = Tensor::read(&result.outputs["y"]).unwrap();
        assert_eq!(y.to_f64(), Y.map(f64::from));
        assert_eq!(result.ran_on.device, None);
        result.ran_on.nodes
    };
    // Recording costs time; nobody asked.
    assert_eq!(run(Execution::default()), BTreeMap::new());
    let mut nodes = |level: Option<GraphOptimization>| {
        let nodes = run(Execution {
            provider: Some(Provider::Cpu),
            threads: Some(1),
            graph_optimization: level,
            ..Execution::default()
        });
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["CPUExecutionProvider"]);
        nodes["CPUExecutionProvider"]
    };
    assert_eq!(nodes(Some(GraphOptimization::Off)), 3);
    assert_eq!(nodes(None), nodes(Some(GraphOptimization::All)));
    // MatMul and Add become one operator of the library's own.
    assert!(nodes(Some(GraphOptimization::All)) < nodes(Some(GraphOptimization::Off)));
    assert!(nodes(Some(GraphOptimization::Extended)) <= nodes(Some(GraphOptimization::Basic)));
}

#[test]
fn it_refuses_ways_to_run_that_it_does_not_have() {
    let command = real("onnxruntime");
    let files = Files::new();
    let mut worker = start(&command);
    let mut check = |execution: Execution, expected: &str| {
        let run = files.to_run(execution);
        let bench = BenchRequest {
            digests: BTreeMap::new(),
            path: run.path.clone(),
            inputs: run.inputs.clone(),
            streams: 1,
            warm_up_ms: 0,
            window_ms: 1,
            budget_ms: 1,
            execution: run.execution.clone(),
            samples: run.output_folder.join("samples.npy"),
        };
        let of_run = worker.run(run, &Cancel::new(), &mut |_| {}).map(drop);
        let of_bench = worker.bench(bench, &Cancel::new(), &mut |_| {}).map(drop);
        for result in [of_run, of_bench] {
            let problem = problem(&worker, result);
            assert_eq!(problem.code, ErrorCode::UnsupportedRequest);
            assert!(problem.message.contains(expected), "{}", problem.message);
        }
    };
    let default = Execution::default;
    // The library of the toolchain is the one for the CPU.
    check(
        Execution { provider: Some(Provider::Cuda), ..default() },
        "this ONNX Runtime was built without the CUDA provider: name one that has it in NIMCTL_ONNXRUNTIME_LIB",
    );
    check(Execution { device: Some(0), ..default() }, "use the provider `cuda`");
    check(Execution { cuda_graph: Some(true), ..default() }, "does not capture CUDA graphs");
    check(
        Execution { runtime_cache: Some("/c".into()), ..default() },
        "compiles nothing when it loads a graph",
    );
}

#[test]
fn it_refuses_what_it_cannot_do() {
    let command = real("onnxruntime");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("graph.onnx");
    fs_err::write(&path, "not a graph").unwrap();
    let mut worker = start(&command);
    let result = worker.inspect(InspectRequest { path: path.clone() }, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, ErrorCode::InvalidGraph);
    let request = BuildRequest {
        graph: path.clone(),
        plan: folder.path().join("plan"),
        compute_capabilities: Vec::new(),
        shape_ranges: BTreeMap::new(),
        workspace_mib: None,
    };
    let result = worker.build(request, &Cancel::new(), &mut |_| {});
    assert_eq!(problem(&worker, result).code, ErrorCode::UnsupportedRequest);
}

#[test]
fn a_missing_library_is_an_error_that_says_what_to_do() {
    let mut command = real("onnxruntime");
    let folder = tempfile::tempdir().unwrap();
    let not_a_library = folder.path().join("libonnxruntime.so");
    for value in [folder.path().join("absent.so"), folder.path().into(), not_a_library.clone()] {
        command.environment.insert("NIMCTL_ONNXRUNTIME_LIB".into(), value.into());
        let mut worker = start(&command);
        assert_eq!(worker.description().library, None);
        assert!(matches!(&worker.description().run, Support::Unavailable(_)));
        let request = InspectRequest { path: folder.path().join("graph.onnx") };
        let result = worker.inspect(request, &Cancel::new(), &mut |_| {});
        let problem = problem(&worker, result);
        assert_eq!(problem.code, ErrorCode::LibraryMissing);
        assert!(problem.needs[0].contains("nimctl toolchain install onnxruntime"), "{:?}", problem.needs);
        fs_err::write(&not_a_library, "not a library").unwrap();
    }
}

//! `nimctl bench`: with the real `onnxruntime` worker, with one whose samples are known, and with one that misbehaves.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::real;

/// Between the sizes of the small graphs in FP16 and in FP32: 1.4 and 1.9 MB, 2.6 and 3.7 MB.
const BETWEEN_BYTES: &str = "2200000";

/// A home with two built profiles of the same graphs, `onnx-fp32` and `onnx-fp16`.
struct Home {
    folder: tempfile::TempDir,
    /// The real worker's folder.
    real: PathBuf,
}

impl Home {
    fn new(graphs: &[&str]) -> Option<Self> {
        let real = real("onnxruntime")?.path.parent().unwrap().to_path_buf();
        let home = Self { folder: tempfile::tempdir().unwrap(), real };
        let graph = |tower: &&str| {
            let (shapes, samples) = match *tower {
                "vision" => (
                    "IMAGE: { min: [1, 3, 224, 224], opt: [4, 3, 224, 224], max: [8, 3, 224, 224] }",
                    "IMAGE: { normal: {} }",
                ),
                _ => (
                    "TEXT: { min: [1, 77], opt: [4, 77], max: [8, 77] }",
                    "TEXT: { integers: { low: 0, high: 1024 } }",
                ),
            };
            format!(
                "  {tower}:\n    source: {{ synth: {{ model: nvclip, size: tiny, tower: {tower}, seed: 20 }} }}\n    \
                 shapes: {{ {shapes} }}\n    samples: {{ {samples} }}\n"
            )
        };
        let graphs: String = graphs.iter().map(graph).collect();
        let text = format!(
            "schema: nimctl.recipe/1\nmodel: {{ name: m, release: 1.0.0 }}\ngraphs:\n{graphs}profiles:\n  - {{ backend: \
             onnxruntime, precisions: [fp32, fp16], targets: generic }}\n"
        );
        fs_err::write(home.path("r.yaml"), text).unwrap();
        let (code, text) = home.run(&["build", "r.yaml"], &home.real, &[]);
        assert_eq!(code, Some(0), "{text}");
        Some(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder with another `onnxruntime` worker.
    fn worker(&self, make: impl FnOnce(&Path)) -> PathBuf {
        let folder = self.path("workers");
        fs_err::create_dir_all(&folder).unwrap();
        make(&folder.join("nimctl-backend-onnxruntime"));
        folder
    }

    fn run(&self, arguments: &[&str], workers: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
        // Away from the workers that were built beside it, which it would find first.
        let nimctl = self.path("nimctl");
        if !nimctl.exists() {
            let built = env!("CARGO_BIN_EXE_nimctl");
            fs_err::hard_link(built, &nimctl).or_else(|_| fs_err::copy(built, &nimctl).map(drop)).unwrap();
        }
        let output = Command::new(nimctl)
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NIMCTL_DATA_DIR", self.path("data"))
            .env("NIMCTL_BACKENDS", workers)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    }

    /// Runs with `--output json --quiet`.
    fn json(&self, arguments: &[&str], workers: &Path, environment: &[(&str, &str)], code: i32) -> Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["--output", "json", "--quiet"]).collect();
        let (found, text) = self.run(&all, workers, environment);
        assert_eq!(found, Some(code), "{text}");
        // Problems come after the data, on standard error.
        serde_json::Deserializer::from_str(&text).into_iter().next().unwrap().unwrap()
    }
}

#[test]
fn a_real_profile_is_measured_and_every_sample_kept() {
    let Some(home) = Home::new(&["text"]) else { return };
    let bench =
        ["bench", "r.yaml", "--only", "onnx-fp16", "--batch", "1,3", "--rounds", "2", "--budget-ms", "200"];
    let view = home.json(&bench, &home.real, &[], 0);
    let cases = &view["profiles"][0]["bench"]["measured"]["cases"];
    for (index, batch) in [1, 3].into_iter().enumerate() {
        let case = &cases[index];
        assert_eq!((&case["batch"], &case["clock"]), (&json!(batch), &json!("CLOCK_MONOTONIC")));
        assert_eq!(case["rounds"].as_array().unwrap().len(), 2);
        let (median, least) = (&case["latency"]["curve_ms"][50], &case["latency"]["min_ms"]);
        assert!(median.as_f64().unwrap() >= least.as_f64().unwrap() && least.as_f64().unwrap() > 0.0);
        for round in case["rounds"].as_array().unwrap() {
            let (load, first) =
                (round["load_ms"].as_f64().unwrap(), round["first_result_ms"].as_f64().unwrap());
            assert!(0.0 < load && load < first, "{round}");
        }
    }
    let id = view["profiles"][0]["profile_id"].as_str().unwrap();
    let archive = fs_err::File::open(home.path(&format!("data/store/nimctl/bench/{id}.npz"))).unwrap();
    let archive = zip::ZipArchive::new(archive).unwrap();
    let mut names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["text-b1-s1-r0.npy", "text-b1-s1-r1.npy", "text-b3-s1-r0.npy", "text-b3-s1-r1.npy"]);
    let passport = home.path(&format!("data/store/nimctl/passports/{id}.json"));
    let passport: Value = serde_json::from_slice(&fs_err::read(passport).unwrap()).unwrap();
    assert_eq!(passport["bench"]["measured"]["cases"], *cases);

    let (code, text) = home.run(&["bench", "r.yaml", "--batch", "9"], &home.real, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("batch 9 is not in the shapes of input `TEXT`, [1, 77] to [8, 77]"), "{text}");
}

/// Builds the worker whose samples are drawn.
fn compile(executable: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/fake_bench.c");
    let compiled = Command::new("cc").args(["-O1", "-o"]).arg(executable).arg(source).arg("-lm").status();
    assert!(compiled.unwrap().success());
}

const REPETITIONS: usize = 100;

/// Compares `onnx-fp16` with `onnx-fp32` again and again; returns what is said of the median, each time.
fn verdicts(slow: &str) -> Option<Vec<String>> {
    let home = Home::new(&["text"])?;
    let workers = home.worker(compile);
    let arguments =
        ["bench", "r.yaml", "--compare", "onnx-fp32", "onnx-fp16", "--batch", "1", "--rounds", "15"];
    let verdicts = (0..REPETITIONS).map(|repetition| {
        let seed = repetition.to_string();
        let view = home.json(&arguments, &workers, &[("FAKE_SEED", &seed), ("FAKE_SLOW", slow)], 0);
        let found = view["comparisons"].as_array().unwrap().iter().find(|found| found["metric"] == "p50");
        found.unwrap()["verdict"].as_str().unwrap().to_owned()
    });
    Some(verdicts.collect())
}

#[test]
fn two_runs_of_the_same_are_called_equal() {
    let Some(verdicts) = verdicts("") else { return };
    let equal = verdicts.iter().filter(|verdict| *verdict == "no_difference").count();
    assert!(equal >= 95, "{equal} of {REPETITIONS}");
}

#[test]
fn a_slow_down_of_5_percent_is_found() {
    let Some(verdicts) = verdicts("onnx-fp16") else { return };
    let found = verdicts.iter().filter(|verdict| *verdict == "slower").count();
    assert!(found >= 90, "{found} of {REPETITIONS}");
}

#[test]
fn a_gate_says_no_to_a_slow_down_and_yes_to_none() {
    let Some(home) = Home::new(&["text"]) else { return };
    let workers = home.worker(compile);
    let bench = ["bench", "r.yaml", "--batch", "1", "--rounds", "20"];
    let baseline = home.json(&bench, &workers, &[], 0);
    fs_err::write(home.path("baseline.json"), baseline.to_string()).unwrap();
    let gate = ["--baseline", "baseline.json", "--fail-if", "p50 > +2%"];
    let gated: Vec<&str> = bench.into_iter().chain(gate).collect();
    let view = home.json(&gated, &workers, &[("FAKE_SEED", "1")], 0);
    assert_eq!(view["failed_gates"], json!([]));
    let environment = [("FAKE_SEED", "1"), ("FAKE_SLOW", "onnx-fp16")];
    let view = home.json(&gated, &workers, &environment, 3);
    let failed = view["failed_gates"][0].as_str().unwrap();
    assert!(failed.starts_with("p50 > +2%: p50 of onnx-fp16 text at batch 1, 1 streams is +"), "{failed}");

    let (code, text) = home.run(&["bench", "r.yaml", "--fail-if", "p50 > +3%"], &workers, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--fail-if compares"), "{text}");
    let (code, text) = home.run(&["bench", "r.yaml", "--baseline", "r.yaml"], &workers, &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("not a measurement of `nimctl bench`"), "{text}");
}

/// Runs a command with a worker that misbehaves with `onnx-fp16` only; returns the profiles by name.
fn with_fault(command: &[&str], fault: &str) -> Option<(Value, Value)> {
    let home = Home::new(&["vision"])?;
    let proxy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/misbehaving_proxy.py");
    let workers = home.worker(|place| {
        fs_err::os::unix::fs::symlink(proxy, place).unwrap();
    });
    let real = home.real.join("nimctl-backend-onnxruntime");
    let environment = [
        ("PROXY_WORKER", real.to_str().unwrap()),
        ("PROXY_BELOW_BYTES", BETWEEN_BYTES),
        ("PROXY_FAULT", fault),
    ];
    let view = home.json(command, &workers, &environment, 3);
    let of = |name: &str| {
        let profiles = view["profiles"].as_array().unwrap();
        profiles.iter().find(|profile| profile["name"] == name).unwrap().clone()
    };
    Some((of("onnx-fp32"), of("onnx-fp16")))
}

#[track_caller]
fn check_validation(fault: &str, expected: &str) {
    let Some((good, bad)) = with_fault(&["validate", "r.yaml", "--timeout", "4"], fault) else { return };
    assert_eq!(good["verdict"], "passed", "{good}");
    assert_eq!(bad["verdict"], "failed", "{bad}");
    let said = bad["status"]["executed"].to_string();
    assert!(said.contains(expected), "expected {expected:?} in {said}");
}

#[test]
fn a_worker_that_hangs_in_run_fails_one_profile() {
    check_validation("hang-in-run", "did not finish `run` within 4 s and was ended");
}

#[test]
fn a_worker_that_crashes_in_run_fails_one_profile() {
    check_validation("crash-in-run", "ended during `run` with signal 6 (SIGABRT); its log ends with");
}

#[test]
fn a_wrong_shape_fails_one_profile() {
    check_validation("wrong-shape", "output `LOGITS_PER_IMAGE` of graph `vision` has shape [1024, ");
}

#[test]
fn numbers_that_are_not_finite_fail_one_profile() {
    check_validation("not-finite", r#""gate":"finite","subject":"vision/LOGITS_PER_IMAGE""#);
}

#[track_caller]
fn check_bench(fault: &str, expected: &str) {
    let bench = ["bench", "r.yaml", "--batch", "1", "--rounds", "1", "--budget-ms", "100", "--timeout", "2"];
    let Some((good, bad)) = with_fault(&bench, fault) else { return };
    assert!(good["bench"]["measured"]["cases"][0]["latency"].is_object(), "{good}");
    let failure = &bad["bench"]["measured"]["cases"][0]["failure"];
    assert!(failure.as_str().is_some_and(|failure| failure.contains(expected)), "{failure}");
}

#[test]
fn a_worker_that_crashes_in_bench_fails_one_profile() {
    check_bench("crash-in-bench", "ended during `bench` with signal 6 (SIGABRT); its log ends with");
}

#[test]
fn a_worker_that_hangs_in_bench_fails_one_profile() {
    check_bench("hang-in-bench", "did not finish `bench` within");
}

#[test]
fn a_worker_without_samples_fails_one_profile() {
    check_bench("no-samples", "the worker broke the protocol during `bench`");
}

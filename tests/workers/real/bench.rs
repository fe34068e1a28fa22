//! `nimctl bench`: with the real `onnxruntime` worker, with one whose samples are known, and with one that misbehaves.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::towers::{FP32_AND_FP16, TEXT, Tower, VISION, recipe};
use crate::home::{Home, scripted_backends};
use crate::support::real;

/// Between the sizes of the small graphs in FP16 and in FP32: 1.4 and 1.9 MB, 2.6 and 3.7 MB.
const BETWEEN_BYTES: &str = "2200000";

/// A home with two built profiles of the same graph, `onnx-fp32` and `onnx-fp16`.
fn built(tower: Tower<'_>) -> Home {
    let home = super::home();
    home.write("r.yaml", recipe(&[tower], FP32_AND_FP16));
    home.set_up(&["build", "r.yaml"]).exits(0);
    home
}

/// Returns the place of another `onnxruntime` worker, which the home will use.
fn place_of_worker(home: &mut Home) -> PathBuf {
    let folder = home.path("workers");
    fs_err::create_dir_all(&folder).unwrap();
    home.set("NIMCTL_BACKENDS", &folder);
    folder.join("nimctl-backend-onnxruntime")
}

/// Runs with `--output json --quiet`.
#[track_caller]
fn json_of(home: &Home, variables: &[(&str, &str)], arguments: &[&str], code: i32) -> Value {
    let json = [arguments, &["--output", "json", "--quiet"]].concat();
    home.run_with(variables, &json).exits(code).json()
}

#[test]
fn a_real_profile_is_measured_and_every_sample_kept() {
    let home = built(TEXT);
    let bench =
        ["bench", "r.yaml", "--only", "onnx-fp16", "--batch", "1,3", "--rounds", "2", "--budget-ms", "200"];
    let view = json_of(&home, &[], &bench, 0);
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

    insta::assert_snapshot!(home.run(&["bench", "r.yaml", "--batch", "9"]).exits(1));
}

/// Builds the worker whose samples are drawn.
fn compile(executable: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/fake_bench.c");
    let compiled = Command::new("cc").args(["-O1", "-o"]).arg(executable).arg(source).arg("-lm").status();
    assert!(compiled.unwrap().success());
}

const REPETITIONS: usize = 100;

/// Compares `onnx-fp16` with `onnx-fp32` again and again; returns what is said of the median, each time.
fn verdicts(slow: &str) -> Vec<String> {
    let mut home = built(TEXT);
    compile(&place_of_worker(&mut home));
    let arguments =
        ["bench", "r.yaml", "--compare", "onnx-fp32", "onnx-fp16", "--batch", "1", "--rounds", "15"];
    let verdicts = (0..REPETITIONS).map(|repetition| {
        let seed = repetition.to_string();
        let view = json_of(&home, &[("FAKE_SEED", &seed), ("FAKE_SLOW", slow)], &arguments, 0);
        let found = view["comparisons"].as_array().unwrap().iter().find(|found| found["metric"] == "p50");
        found.unwrap()["verdict"].as_str().unwrap().to_owned()
    });
    verdicts.collect()
}

#[test]
fn two_runs_of_the_same_are_called_equal() {
    let verdicts = verdicts("");
    let equal = verdicts.iter().filter(|verdict| *verdict == "no_difference").count();
    assert!(equal >= 95, "{equal} of {REPETITIONS}");
}

#[test]
fn a_slow_down_of_5_percent_is_found() {
    let verdicts = verdicts("onnx-fp16");
    let found = verdicts.iter().filter(|verdict| *verdict == "slower").count();
    assert!(found >= 90, "{found} of {REPETITIONS}");
}

#[test]
fn a_gate_says_no_to_a_slow_down_and_yes_to_none() {
    let mut home = built(TEXT);
    compile(&place_of_worker(&mut home));
    let bench = ["bench", "r.yaml", "--batch", "1", "--rounds", "20"];
    let baseline = json_of(&home, &[], &bench, 0);
    home.write("baseline.json", baseline.to_string());
    let gate = ["--baseline", "baseline.json", "--fail-if", "p50 > +2%"];
    let gated: Vec<&str> = bench.into_iter().chain(gate).collect();
    let view = json_of(&home, &[("FAKE_SEED", "1")], &gated, 0);
    assert_eq!(view["failed_gates"], json!([]));
    let environment = [("FAKE_SEED", "1"), ("FAKE_SLOW", "onnx-fp16")];
    let view = json_of(&home, &environment, &gated, 3);
    let failed = view["failed_gates"][0].as_str().unwrap();
    assert!(
        failed.starts_with("p50 > +2%: p50 of onnx-fp16 text at batch 1, 1 streams differs by +"),
        "{failed}"
    );

    home.transcript();
    home.run(&["bench", "r.yaml", "--fail-if", "p50 > +3%"]).exits(1);
    home.run(&["bench", "r.yaml", "--baseline", "r.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

/// Runs a command with a worker that misbehaves with `onnx-fp16` only; returns the profiles by name.
#[track_caller]
fn with_fault(command: &[&str], fault: &str) -> (Value, Value) {
    let mut home = built(VISION);
    let place = place_of_worker(&mut home);
    fs_err::os::unix::fs::symlink(scripted_backends().join("misbehaving_proxy.py"), place).unwrap();
    let real = real("onnxruntime").path;
    let environment = [
        ("PROXY_WORKER", real.to_str().unwrap()),
        ("PROXY_BELOW_BYTES", BETWEEN_BYTES),
        ("PROXY_FAULT", fault),
    ];
    let view = json_of(&home, &environment, command, 3);
    let of = |name: &str| {
        let profiles = view["profiles"].as_array().unwrap();
        profiles.iter().find(|profile| profile["name"] == name).unwrap().clone()
    };
    (of("onnx-fp32"), of("onnx-fp16"))
}

#[track_caller]
fn check_validation(fault: &str, expected: &str) {
    let (good, bad) = with_fault(&["validate", "r.yaml", "--timeout", "4"], fault);
    assert_eq!(good["verdict"], "passed", "{good}");
    assert_eq!(bad["verdict"], "failed", "{bad}");
    let said = bad["status"]["executed"].to_string();
    assert!(said.contains(expected), "expected {expected:?} in {said}");
}

#[test]
fn a_worker_that_hangs_in_run_fails_one_profile() {
    check_validation("hang-in-run", "did not finish `run` within 4 s and was stopped");
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
    let (good, bad) = with_fault(&bench, fault);
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

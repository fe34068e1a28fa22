//! Plans that are run, from the command line to the worker: with a backend whose GPUs are made up, and whose numbers the real
//! `onnxruntime` worker computes (`nimctl-backend-borrowed`).

use serde_json::{Value, json};

use super::towers::{FP16, TEXT, recipe};
use crate::home::{Home, scripted_backends};
use crate::nvml_stand_in;
use crate::support::{real, real_folder};

const L4: &str = "NVIDIA L4=8.9";
const L40S: &str = "NVIDIA L40S=8.9";
const A100: &str = "NVIDIA A100-SXM4-80GB=8.0";

const BORROWED: &str = "  - { backend: borrowed, precisions: [fp16], targets: { gpus: [l4] } }\n";

/// A home with two built profiles of one graph, a plan for the L4 and the graph itself, on a machine with an L4.
fn built() -> Home {
    let backends = std::env::join_paths([scripted_backends(), real_folder()]).unwrap();
    let mut home = super::home()
        .with("NIMCTL_BACKENDS", backends)
        .with("BORROWED_WORKER", real("onnxruntime").path)
        .with("BORROWED_GPUS", "");
    home.write("r.yaml", recipe(&[TEXT], &format!("{BORROWED}{FP16}")));
    home.set_up(&["build", "r.yaml"]).exits(0).has(&["borrowed-l4-fp16", "onnx-fp16"]);
    home.set("BORROWED_GPUS", L4);
    home
}

/// Returns what `validate` says of the plan.
#[track_caller]
fn validated(home: &Home, variables: &[(&str, &str)], more: &[&str], code: i32) -> Value {
    let arguments = [&["validate", "r.yaml", "--output", "json", "--quiet"], more].concat();
    home.run_with(variables, &arguments).exits(code).json()["profiles"][0]["status"].clone()
}

#[test]
fn a_plan_is_executed_where_a_gpu_fits_and_the_result_says_on_which() {
    let home = built();
    let check = |gpus: &str, more: &[&str], place: &str| {
        let executed = &validated(&home, &[("BORROWED_GPUS", gpus)], more, 0)["executed"];
        assert_eq!(executed["ran_on"], json!(format!("Borrowed 2.0 on {place}")));
        assert_eq!(executed["passed"], json!(true));
        assert_eq!(executed["not_executed_because"], Value::Null);
        assert!(executed["gates"].as_array().unwrap().len() > 4);
    };
    check(L4, &[], "NVIDIA L4 (8.9)");
    // The very product comes before another of its compute capability, unless the user chooses.
    let both = [L40S, L4].join(";");
    check(&both, &[], "NVIDIA L4 (8.9)");
    check(&both, &["--gpu", "0"], "NVIDIA L40S (8.9)");
    let printed = home.run(&["validate", "r.yaml"]);
    printed.exits(0).has(&["borrowed-l4-fp16", "executed"]);
    assert!(!printed.stdout.contains("static"), "{printed}");
}

#[test]
fn a_plan_is_static_where_no_gpu_fits_and_the_reason_is_told() {
    let home = built();
    let reason = |gpus: &str, more: &[&str]| {
        let status = validated(&home, &[("BORROWED_GPUS", gpus)], more, 0);
        assert_eq!(status["static"]["passed"], json!(true));
        status["static"]["not_executed_because"].as_str().unwrap().to_owned()
    };
    let both = [L4, A100].join(";");
    let reasons =
        [reason("", &[]), reason(A100, &[]), reason(&both, &["--gpu", "1"]), reason(&both, &["--gpu", "7"])];
    insta::assert_snapshot!(reasons.join("\n"));
}

#[test]
fn a_provider_that_is_not_there_is_no_failure_of_a_profile() {
    let home = built();
    home.set_up(&["validate", "r.yaml"]).exits(0);
    home.run(&["validate", "r.yaml", "--provider", "cuda"]).exits(5);
    home.run(&["bench", "r.yaml", "--provider", "cuda"]).exits(5);
    home.run(&["validate", "r.yaml", "--only", "onnx-*", "--replay", "text/opt/0", "--provider", "cuda"])
        .exits(5);
    insta::assert_snapshot!(home.transcript());
    // What was found before stands.
    let passports = fs_err::read_dir(home.path("data/store/nimctl/passports")).unwrap();
    for passport in passports.map(|entry| fs_err::read(entry.unwrap().path()).unwrap()) {
        let passport: Value = serde_json::from_slice(&passport).unwrap();
        assert_eq!(passport["validation"]["executed"]["passed"], json!(true), "{passport}");
    }
}

#[test]
fn a_plan_that_gives_other_numbers_or_crashes_fails_alone() {
    let home = built();
    let wrong = [("BORROWED_FAULT", "wrong-numbers")];
    let status = validated(&home, &wrong, &[], 3);
    let failed = status["executed"]["gates"].as_array().unwrap().iter();
    let failed: Vec<&Value> = failed.filter(|gate| gate["passed"] == json!(false)).collect();
    assert!(failed.iter().any(|gate| gate["gate"] == json!("row_cosine")), "{failed:?}");
    // One row of it again, in the same worker, and the row is as wrong.
    let replay = ["validate", "r.yaml", "--only", "borrowed-l4-fp16", "--replay", "text/opt/2"];
    home.run_with(&wrong, &replay).exits(3).has(&["Borrowed 2.0 on NVIDIA L4 (8.9)", "FAILED"]);
    let printed = home.run_with(&[("BORROWED_FAULT", "crash")], &["validate", "r.yaml"]);
    printed.exits(3).has(&["ended during `run` with signal 6", "an illegal memory access was encountered"]);
    let row = |name: &str| printed.stdout.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("borrowed-l4-fp16").contains("failed"), "{printed}");
    assert!(row("onnx-fp16").contains("passed"), "{printed}");
}

#[test]
fn plans_are_measured_where_a_gpu_fits() {
    let home = built();
    let bench = ["bench", "r.yaml", "--batch", "2", "--rounds", "1", "--budget-ms", "100", "--cuda-graph"];
    let line = "borrowed-l4-fp16 text batch 2 streams 1: device-only p50 1.250 ms, 5.0 MB of device memory";
    home.run(&bench).exits(0).has(&[line]);
    let view = home.run(&[&bench[..], &["--output", "json", "--quiet"]].concat()).exits(0).json();
    let measured = &view["profiles"][0]["bench"]["measured"];
    assert_eq!(measured["cases"][0]["ran_on"], json!("Borrowed 2.0 on NVIDIA L4 (8.9)"));
    assert_eq!(measured["settings"]["cuda_graph"], json!(true));
    assert_eq!(view["profiles"][1]["bench"]["measured"]["cases"][0]["failure"], Value::Null);
    let only = home.run(&[&bench[..], &["--only", "onnx-*"]].concat());
    only.exits(0).has(&["onnx-fp16"]);
    assert!(!only.to_string().contains("borrowed"), "{only}");
    home.run_with(&[("BORROWED_GPUS", A100)], &bench).exits(0).has(&[
        "borrowed-l4-fp16: borrowed cannot run it here: it needs compute capability 8.9, but NVIDIA A100-SXM4-80GB is 8.0",
    ]);
}

#[test]
fn samples_of_a_gpu_that_was_too_hot_are_left_out_and_counted() {
    let home = built();
    let library = nvml_stand_in::library(home.folder(), "HOT");
    let environment = [("NIMCTL_NVML_LIB", library.to_str().unwrap())];
    let bench = ["bench", "r.yaml", "--only", "borrowed-l4-fp16", "--batch", "1", "--rounds", "1"];
    let long = ["--window-ms", "1500", "--budget-ms", "1500", "--output", "json", "--quiet"];
    let view = home.run_with(&environment, &[&bench[..], &long].concat()).exits(0).json();
    let measured = &view["profiles"][0]["bench"]["measured"];
    let round = &measured["cases"][0]["rounds"][0];
    let (left, out) = (round["count"].as_u64().unwrap(), round["discarded"].as_u64().unwrap());
    // A quarter of the time is hot, and a period at both ends of it is left out as well; how many runs fall into it depends on
    // how busy this machine is.
    assert!(left > 0 && out > 0, "{left} and {out}");
    let gpu = &round["gpu"];
    assert_eq!((&gpu["sm_clock_mhz"]["max"], &gpu["sm_clock_mhz"]["min"]), (&json!(2040.0), &json!(600.0)));
    assert_eq!((&gpu["temperature_max_c"], &gpu["energy_is_counted"]), (&json!(93), &json!(true)));
    assert_eq!(gpu["memory_used_max_bytes"], json!(2000_u64 << 20));
    let share = gpu["throttle"]["hardware_thermal"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "{share}");
    // 72 W, over no less than the window.
    let energy_mj = gpu["energy_mj_per_item"].as_f64().unwrap() * (left + out) as f64;
    assert!((1.4..100.0).contains(&(energy_mj / 72_000.0)), "{energy_mj} mJ");
    let warnings = measured["warnings"].to_string();
    assert!(
        warnings.contains("samples were discarded because the GPU was throttled (hardware thermal limit)")
    );
    assert!(warnings.contains("the GPU's clock went from 600 to 2040 MHz: lock it"), "{warnings}");
}

#[test]
fn a_gpu_at_the_limit_of_its_power_is_told_and_nothing_is_left_out() {
    let home = built();
    let library = nvml_stand_in::library(home.folder(), "CAPPED");
    let bench = ["bench", "r.yaml", "--batch", "1", "--rounds", "1", "--budget-ms", "200"];
    home.run_with(&[("NIMCTL_NVML_LIB", library.to_str().unwrap())], &bench).exits(0).has(&[
        "2040 MHz, 71.5 W, up to 64 °C",
        "mJ per item",
        "the GPU's power limit was active in 1 of 1 rounds",
    ]);
    // Without NVML the numbers stand, and what is not known is said.
    let nowhere = [("NIMCTL_NVML_LIB", "/nonexistent/libnvidia-ml.so.1")];
    home.run_with(&nowhere, &bench)
        .exits(0)
        .has(&["the GPU's clocks, power and throttling were not recorded: NVML can't start"]);
}

#[test]
fn a_release_that_accepts_executed_plans_alone_needs_the_gpu() {
    let home = built();
    let policy = "schema: nimctl.release-policy/1\nrequired: [borrowed-l4-fp16]\naccept: [executed]\n";
    home.write("policy.yaml", policy);
    let release = ["release", "r.yaml", "-o", "dist/a", "--policy", "policy.yaml", "--no-bench"];
    home.run_with(&[("BORROWED_GPUS", "")], &release).exits(3).has(&["borrowed-l4-fp16"]);
    assert!(!home.path("dist/a").exists());
    home.run(&release).exits(0);
    home.run(&["verify", "dist/a"]).exits(0);
}

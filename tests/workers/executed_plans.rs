//! Plans that are run, from the command line to the worker: with a backend whose GPUs are made up, and whose numbers the real
//! `onnxruntime` worker computes (`nimctl-backend-borrowed`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nimctl::nvml::Watch;
use serde_json::{Value, json};

use crate::gpu_stand_in::nvml;
use crate::support::{check, real};

const L4: &str = "NVIDIA L4=8.9";
const L40S: &str = "NVIDIA L40S=8.9";
const A100: &str = "NVIDIA A100-SXM4-80GB=8.0";

/// A home with two built profiles of one graph: a plan for the L4, and the graph itself.
struct Home {
    folder: tempfile::TempDir,
    real: PathBuf,
}

impl Home {
    fn new() -> Option<Self> {
        let real = real("onnxruntime")?.path;
        let home = Self { folder: tempfile::tempdir().unwrap(), real };
        let recipe = "schema: nimctl.recipe/1\nmodel: { name: m, release: 1.0.0 }\ngraphs:\n  text:\n    source: { synth: { \
                      model: nvclip, size: tiny, tower: text, seed: 20 } }\n    shapes: { TEXT: { min: [1, 77], opt: [4, \
                      77], max: [8, 77] } }\n    samples: { TEXT: { integers: { low: 0, high: 1024 } } }\nprofiles:\n  - { \
                      backend: borrowed, precisions: [fp16], targets: { gpus: [l4] } }\n  - { backend: onnxruntime, \
                      precisions: [fp16], targets: generic }\n";
        fs_err::write(home.path("r.yaml"), recipe).unwrap();
        home.run(&["build", "r.yaml"], "", &[], 0, &["borrowed-l4-fp16", "onnx-fp16"]);
        Some(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs nimctl on a machine with these GPUs.
    #[track_caller]
    fn run(
        &self,
        arguments: &[&str],
        gpus: &str,
        environment: &[(&str, &str)],
        code: i32,
        pieces: &[&str],
    ) -> String {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers");
        let folders = [here.as_path(), self.real.parent().unwrap()];
        let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NIMCTL_DATA_DIR", self.path("data"))
            .env("NIMCTL_BACKENDS", std::env::join_paths(folders).unwrap())
            .env("BORROWED_WORKER", &self.real)
            .env("BORROWED_GPUS", gpus)
            .envs(environment.iter().copied());
        check(&mut command, code, pieces)
    }

    /// Returns what `validate` says of the plan.
    fn validated(&self, gpus: &str, more: &[&str], environment: &[(&str, &str)], code: i32) -> Value {
        let arguments = [&["validate", "r.yaml", "--output", "json", "--quiet"], more].concat();
        let view: Value = serde_json::from_str(&self.run(&arguments, gpus, environment, code, &[])).unwrap();
        view["profiles"][0]["status"].clone()
    }
}

#[test]
fn a_plan_is_executed_where_a_gpu_fits_and_the_result_says_on_which() {
    let Some(home) = Home::new() else { return };
    let check = |gpus: &str, more: &[&str], place: &str| {
        let executed = &home.validated(gpus, more, &[], 0)["executed"];
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
    let passport = home.run(&["validate", "r.yaml"], L4, &[], 0, &["borrowed-l4-fp16", "executed"]);
    assert!(!passport.contains("static"), "{passport}");
}

#[test]
fn a_plan_is_static_where_no_gpu_fits_and_the_reason_is_told() {
    let Some(home) = Home::new() else { return };
    let check = |gpus: &str, more: &[&str], why: &str| {
        let status = home.validated(gpus, more, &[], 0);
        assert_eq!(
            status["static"]["not_executed_because"],
            json!(format!("borrowed cannot run it here: {why}"))
        );
        assert_eq!(status["static"]["passed"], json!(true));
    };
    check("", &[], "no NVIDIA driver");
    check(A100, &[], "it needs compute capability 8.9, and NVIDIA A100-SXM4-80GB is 8.0");
    let both = [L4, A100].join(";");
    check(&both, &["--gpu", "1"], "it needs compute capability 8.9, and NVIDIA A100-SXM4-80GB is 8.0");
    check(&both, &["--gpu", "7"], "there is no GPU 7: the worker sees 2");
}

#[test]
fn a_provider_that_is_not_there_is_no_failure_of_a_profile() {
    let Some(home) = Home::new() else { return };
    home.run(&["validate", "r.yaml"], L4, &[], 0, &[]);
    let words = "the provider `cuda` can't be had here: the onnxruntime worker sees no GPU";
    home.run(&["validate", "r.yaml", "--provider", "cuda"], L4, &[], 5, &[words]);
    home.run(&["bench", "r.yaml", "--provider", "cuda"], L4, &[], 5, &[words]);
    let replay = ["validate", "r.yaml", "--only", "onnx-*", "--replay", "text/opt/0", "--provider", "cuda"];
    home.run(&replay, L4, &[], 5, &[words]);
    // What was found before stands.
    let passports = fs_err::read_dir(home.path("data/store/nimctl/passports")).unwrap();
    for passport in passports.map(|entry| fs_err::read(entry.unwrap().path()).unwrap()) {
        let passport: Value = serde_json::from_slice(&passport).unwrap();
        assert_eq!(passport["validation"]["executed"]["passed"], json!(true), "{passport}");
    }
}

#[test]
fn a_plan_that_gives_other_numbers_or_crashes_fails_alone() {
    let Some(home) = Home::new() else { return };
    let wrong = home.validated(L4, &[], &[("BORROWED_FAULT", "wrong-numbers")], 3);
    let failed = wrong["executed"]["gates"].as_array().unwrap().iter();
    let failed: Vec<&Value> = failed.filter(|gate| gate["passed"] == json!(false)).collect();
    assert!(failed.iter().any(|gate| gate["gate"] == json!("row_cosine")), "{failed:?}");
    // One row of it again, in the same worker, and the row is as wrong.
    let replay = ["validate", "r.yaml", "--only", "borrowed-l4-fp16", "--replay", "text/opt/2"];
    home.run(
        &replay,
        L4,
        &[("BORROWED_FAULT", "wrong-numbers")],
        3,
        &["Borrowed 2.0 on NVIDIA L4 (8.9)", "FAILED"],
    );
    let text = home.run(
        &["validate", "r.yaml"],
        L4,
        &[("BORROWED_FAULT", "crash")],
        3,
        &["the borrowed worker ended during `run` with signal 6", "an illegal memory access was encountered"],
    );
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("borrowed-l4-fp16").contains("failed"), "{text}");
    assert!(row("onnx-fp16").contains("passed"), "{text}");
}

#[test]
fn plans_are_measured_where_a_gpu_fits() {
    let Some(home) = Home::new() else { return };
    let bench = ["bench", "r.yaml", "--batch", "2", "--rounds", "1", "--budget-ms", "100", "--cuda-graph"];
    let text = home.run(&bench, L4, &[], 0, &[]);
    let line =
        "borrowed-l4-fp16 text batch 2 streams 1: p50 on the device alone 1.250 ms, 5.0 MB of its memory";
    assert!(text.contains(line), "{text}");
    let json = home.run(&[&bench[..], &["--output", "json", "--quiet"]].concat(), L4, &[], 0, &[]);
    let view: Value = serde_json::from_str(&json).unwrap();
    let measured = &view["profiles"][0]["bench"]["measured"];
    assert_eq!(measured["cases"][0]["ran_on"], json!("Borrowed 2.0 on NVIDIA L4 (8.9)"));
    assert_eq!(measured["settings"]["cuda_graph"], json!(true));
    assert_eq!(view["profiles"][1]["bench"]["measured"]["cases"][0]["failure"], Value::Null);
    let only = home.run(&[&bench[..], &["--only", "onnx-*"]].concat(), L4, &[], 0, &["onnx-fp16"]);
    assert!(!only.contains("borrowed"), "{only}");
    home.run(
        &bench,
        A100,
        &[],
        0,
        &["borrowed-l4-fp16: borrowed cannot run it here: it needs compute capability 8.9, and NVIDIA A100-SXM4-80GB is 8.0"],
    );
}

#[test]
fn samples_of_a_gpu_that_was_too_hot_are_left_out_and_counted() {
    let Some(home) = Home::new() else { return };
    let library = nvml(home.folder.path(), "HOT");
    let environment = [("NIMCTL_NVML_LIB", library.to_str().unwrap())];
    let bench = ["bench", "r.yaml", "--only", "borrowed-l4-fp16", "--batch", "1", "--rounds", "1"];
    let long = ["--window-ms", "1500", "--budget-ms", "1500", "--output", "json", "--quiet"];
    let view: Value =
        serde_json::from_str(&home.run(&[&bench[..], &long].concat(), L4, &environment, 0, &[])).unwrap();
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
        warnings
            .contains("samples were left out, since the GPU was slowed down meanwhile (heat (by itself))")
    );
    assert!(warnings.contains("the GPU's clock went from 600 to 2040 MHz: lock it"), "{warnings}");
}

#[test]
fn a_gpu_at_the_limit_of_its_power_is_told_and_nothing_is_left_out() {
    let Some(home) = Home::new() else { return };
    let library = nvml(home.folder.path(), "CAPPED");
    let environment = [("NIMCTL_NVML_LIB", library.to_str().unwrap())];
    let bench = ["bench", "r.yaml", "--batch", "1", "--rounds", "1", "--budget-ms", "200"];
    home.run(
        &bench,
        L4,
        &environment,
        0,
        &[
            "2040 MHz, 71.5 W, up to 64 °C",
            "mJ an item",
            "the limit of its power held the GPU back in 1 of 1 rounds",
        ],
    );
    // Without NVML the numbers stand, and what is not known is said.
    let nowhere = [("NIMCTL_NVML_LIB", "/nonexistent/libnvidia-ml.so.1")];
    home.run(
        &bench,
        L4,
        &nowhere,
        0,
        &["nothing is known of the GPU's clocks, power and slow-downs: NVML can't be asked"],
    );
}

#[test]
fn a_driver_that_hangs_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let watched = |host: &str, address: &str| {
        let watch = Watch::start(Some(&nvml(folder.path(), host)), address);
        std::thread::sleep(Duration::from_millis(600));
        let started = Instant::now();
        let found = watch.finish();
        assert!(started.elapsed() < Duration::from_secs(10));
        found
    };
    let hot = watched("HOT", "00000000:00:00.0");
    assert_eq!(hot.problem, None);
    assert!(hot.readings.len() >= 3 && hot.readings.is_sorted_by_key(|reading| reading.at), "{hot:?}");
    let stranger = watched("HOT", "00000000:07:00.0");
    assert!(stranger.problem.unwrap().starts_with("NVML knows no GPU at 00000000:07:00.0"));
    let hanging = watched("HANGS", "00000000:00:00.0");
    assert_eq!(hanging.problem.as_deref(), Some("NVML did not answer within 2 s"));
}

#[test]
fn a_release_that_accepts_executed_plans_alone_needs_the_gpu() {
    let Some(home) = Home::new() else { return };
    let policy = "schema: nimctl.release-policy/1\nrequired: [borrowed-l4-fp16]\naccept: [executed]\n";
    fs_err::write(home.path("policy.yaml"), policy).unwrap();
    let release = ["release", "r.yaml", "-o", "dist/a", "--policy", "policy.yaml", "--no-bench"];
    home.run(&release, "", &[], 3, &["borrowed-l4-fp16"]);
    assert!(!home.path("dist/a").exists());
    home.run(&release, L4, &[], 0, &[]);
    home.run(&["verify", "dist/a"], "", &[], 0, &[]);
}

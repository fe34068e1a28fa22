//! Plans that are run, from the command line to the worker: with a backend whose GPUs are made up, and whose numbers the real
//! `onnxruntime` worker computes (`nimctl-backend-borrowed`).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

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
        "borrowed-l4-fp16 text batch 2 streams 1: p50 on the device alone 1.25 ms, 5.0 MB of its memory";
    assert!(text.contains(line), "{text}");
    let json = home.run(&[&bench[..], &["--output", "json", "--quiet"]].concat(), L4, &[], 0, &[]);
    let view: Value = serde_json::from_str(&json).unwrap();
    let measured = &view["profiles"][0]["bench"]["measured"];
    assert_eq!(measured["cases"][0]["ran_on"], json!("Borrowed 2.0 on NVIDIA L4 (8.9)"));
    assert_eq!(measured["settings"]["cuda_graph"], json!(true));
    assert_eq!(view["profiles"][1]["bench"]["measured"]["cases"][0]["failure"], Value::Null);
    home.run(
        &bench,
        A100,
        &[],
        0,
        &["borrowed-l4-fp16: borrowed cannot run it here: it needs compute capability 8.9, and NVIDIA A100-SXM4-80GB is 8.0"],
    );
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

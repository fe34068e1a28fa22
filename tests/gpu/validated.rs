//! The demo, built and validated on this GPU: its plans are `executed`, and their numbers are right.

use std::process::Command;

use serde_json::Value;

use crate::nvidia::{self, first_gpu, is_known_to_rtx, is_without, root};
use crate::support::real_folder;

#[test]
fn the_demos_plans_are_executed_and_pass() {
    let gpu = first_gpu();
    let backend = match is_known_to_rtx(gpu.compute_capability) {
        true => "tensorrt-rtx",
        false if is_without("TENSORRT") => return,
        false => "tensorrt",
    };
    let home = tempfile::tempdir().unwrap();
    let demo = fs_err::read_to_string(root().join("recipes/nvclip-demo.yaml")).unwrap();
    let (head, _) = demo.split_once("\nprofiles:").unwrap();
    let capability = gpu.compute_capability;
    let recipe = format!(
        "{head}\nprofiles:\n  - {{ backend: {backend}, precisions: [fp16], targets: {{ compute_capabilities: \
         [\"{capability}\"] }} }}\n"
    );
    fs_err::write(home.path().join("demo.yaml"), recipe).unwrap();
    let nimctl = |arguments: &[&str]| {
        let mut command = Command::new(nvidia::nimctl());
        command
            .args(arguments)
            .current_dir(home.path())
            .env("NIMCTL_STORE", home.path().join("store"))
            .env("NIMCTL_BACKENDS", real_folder());
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
        String::from_utf8(output.stdout).unwrap()
    };
    nimctl(&["build", "demo.yaml"]);
    let view: Value =
        serde_json::from_str(&nimctl(&["validate", "demo.yaml", "--output", "json", "--quiet"])).unwrap();
    let executed = &view["profiles"][0]["status"]["executed"];
    assert_eq!(executed["passed"], true, "{view}");
    assert!(executed["ran_on"].as_str().unwrap().contains(&gpu.name), "{view}");
    let bench = nimctl(&["bench", "demo.yaml", "--rounds", "2", "--output", "json", "--quiet"]);
    let view: Value = serde_json::from_str(&bench).unwrap();
    for case in view["profiles"][0]["bench"]["measured"]["cases"].as_array().unwrap() {
        assert_eq!(case["failure"], Value::Null, "{case}");
        assert!(case["rounds"][0]["device_p50_ms"].as_f64().unwrap() > 0.0, "{case}");
    }
}

//! `nimctl reproduce` with the real compilers: the same release in another place, and plans that differ.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::towers::{TEXT, recipe};
use crate::graph;
use crate::home::{Home, scripted_backends};
use crate::support::{real, real_folder};

/// The graph of three open dimensions, whose plans were other ones in every build before the worker had an allocator of its own.
const OPEN: &str = "schema: nimctl.recipe/1
model: { name: open, release: 1.0.0 }
graphs:
  main:
    source: { path: graph.onnx }
    shapes:
      x: { min: [1, 3, 32, 32], opt: [1, 3, 64, 64], max: [4, 3, 128, 128] }
profiles:
  - { backend: tensorrt-rtx, precisions: [fp32, fp16], targets: { compute_capabilities: [\"8.9\"] } }
  - { backend: onnxruntime, precisions: [fp32, fp16], targets: generic }
";

/// Another place: nothing in its environment is as in the first one, and it has other data, users and folders.
fn elsewhere() -> Home {
    let mut home = super::home();
    for (variable, value) in
        [("USER", "somebody"), ("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8"), ("HOME", "/nonexistent")]
    {
        home.set(variable, value);
    }
    for number in 0..30 {
        home.set(&format!("VARIABLE_{number}"), "x".repeat(number * 97 + 1));
    }
    home
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let place = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(place).unwrap();
        } else {
            fs_err::copy(entry.path(), place).unwrap();
        }
    }
}

/// Reproduces `release` in another place with another umask; returns the verdicts, which are of all profiles.
fn verdicts_elsewhere(first: &Home, options: &[&str]) -> Vec<(String, String)> {
    let second = elsewhere();
    copy(&first.path("release"), &second.path("far away/release"));
    if first.path("graph.onnx").exists() {
        second.write("graphs/g", fs_err::read(first.path("graph.onnx")).unwrap());
    }
    let nimctl = second.command(&[]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(nimctl.get_program());
    shell.args(["reproduce", "far away/release", "--output", "json", "--quiet"]).args(options);
    shell.current_dir(second.folder()).env_clear();
    shell.envs(nimctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let result = second.output(&mut shell).json();
    let profiles = result["profiles"].as_array().unwrap().iter();
    profiles
        .map(|profile| {
            let text = |name: &str| profile[name].as_str().unwrap_or_default().to_owned();
            if profile["verdict"] == "identical" {
                assert_eq!(text("profile_id"), text("rebuilt_profile_id"));
            }
            (text("name"), text("verdict"))
        })
        .collect()
}

fn identical(names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|&name| (name.into(), "identical".into())).collect()
}

/// A home with a release of the graph of three open dimensions; `PROXY_PLAN` changes its plans from now on.
fn released_open() -> Home {
    let mut home = super::home();
    let folder = home.path("workers");
    fs_err::create_dir_all(&folder).unwrap();
    let place = folder.join("nimctl-backend-tensorrt-rtx");
    fs_err::os::unix::fs::symlink(scripted_backends().join("renumbering_proxy.py"), place).unwrap();
    home.set("NIMCTL_BACKENDS", format!("{}:{}", folder.display(), real_folder().display()));
    home.set("PROXY_WORKER", real("tensorrt-rtx").path);
    graph::write_open(&home.path("graph.onnx"));
    home.write("r.yaml", OPEN);
    home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:published"]).exits(0);
    home.set_up(&["pull", "oci:published", "--all", "-o", "release"]).exits(0);
    home
}

#[test]
fn a_release_with_open_dimensions_is_reproduced_elsewhere() {
    let home = released_open();
    let names = ["tensorrt-rtx-sm89-fp32", "tensorrt-rtx-sm89-fp16", "onnx-fp32", "onnx-fp16"];
    for options in [["--graphs", "graphs", "--jobs", "1"], ["--graphs", "graphs", "--jobs", "4"]] {
        assert_eq!(verdicts_elsewhere(&home, &options), identical(&names));
    }
}

/// The demo, as it is committed, for two of its GPUs and the generic profile.
#[test]
fn a_release_of_the_demo_is_reproduced_elsewhere() {
    let home = super::home();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/nvclip-demo.yaml");
    home.write("demo.yaml", fs_err::read(recipe).unwrap());
    let manifest = ["build", "demo.yaml", "--no-check"];
    for only in ["gpu=l4", "gpu=a10g", "onnx-*"] {
        home.set_up(&[&manifest[..], &["--only", only]].concat()).exits(0);
    }
    for (folder, only) in [("one", "tensorrt-rtx-l4-*"), ("two", "tensorrt-rtx-a10g-*"), ("three", "onnx-*")]
    {
        home.set_up(&["publish", "demo.yaml", "--only", only, "--to", &format!("oci:{folder}")]).exits(0);
        let arguments = ["reproduce", &format!("oci:{folder}"), "--recipe", "demo.yaml", "--output", "json"];
        let result = home.set_up(&arguments).exits(0).json();
        assert_eq!(result["verdict"], "identical", "{result:#}");
    }
}

/// A backend whose plans are graphs, and which runs them as if there were a GPU: its plans may differ, what they compute may not.
#[test]
fn plans_that_compute_the_same_are_reproduced() {
    let mut home = super::home();
    let folder = home.path("workers");
    fs_err::create_dir_all(&folder).unwrap();
    let place = folder.join("nimctl-backend-borrowed");
    fs_err::os::unix::fs::symlink(scripted_backends().join("renumbering_proxy.py"), place).unwrap();
    home.set("NIMCTL_BACKENDS", format!("{}:{}", folder.display(), real_folder().display()));
    home.set("PROXY_WORKER", scripted_backends().join("nimctl-backend-borrowed"));
    home.set("BORROWED_WORKER", real("onnxruntime").path);
    home.set("BORROWED_GPUS", "NVIDIA L4=8.9");
    let profiles = "  - { backend: borrowed, precisions: [fp16], targets: { gpus: [l4] } }\n";
    home.write("r.yaml", recipe(&[TEXT], profiles));
    home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:published"]).exits(0);
    let reproduce = |variables: &[(&str, &str)], options: &[&str], code: i32| {
        let arguments =
            [&["reproduce", "oci:published", "--recipe", "r.yaml", "--output", "json"], options].concat();
        let variables = [&[("PROXY_PLAN", "note")], variables].concat();
        home.run_with(&variables, &arguments).exits(code).json()["profiles"][0].clone()
    };
    let text = |profile: &Value| profile["findings"].as_array().unwrap().last().unwrap()["text"].to_string();
    let without = reproduce(&[], &[], 3);
    assert!(text(&without).contains("--run compares what they compute"), "{without:#}");
    let ran = reproduce(&[], &["--run"], 0);
    assert_eq!(ran["verdict"], "equivalent", "{ran:#}");
    for (place, which) in [(0, "the released plan passed all "), (1, "the rebuilt plan passed all ")] {
        let compared = ran["files"][0]["compared"][place].as_str().unwrap();
        assert!(compared.starts_with(which) && compared.contains("NVIDIA L4"), "{ran:#}");
    }
    let wrong = reproduce(&[("BORROWED_FAULT", "wrong-numbers")], &["--run"], 3);
    assert!(text(&wrong).contains("the released one failed the gate"), "{wrong:#}");
    let nowhere = reproduce(&[("BORROWED_GPUS", "NVIDIA T4=7.5")], &["--run"], 3);
    assert!(text(&nowhere).contains("the released one cannot be run here"), "{nowhere:#}");
}

fn first_profile(home: &Home, change: &str, code: i32) -> Value {
    let arguments = [
        "reproduce",
        "release",
        "--graphs",
        "graph.onnx",
        "--only",
        "tensorrt-rtx-*-fp16",
        "--output",
        "json",
    ];
    let result = home.run_with(&[("PROXY_PLAN", change)], &arguments).exits(code).json();
    result["profiles"][0].clone()
}

#[test]
fn plans_that_differ_are_reproduced_with_what_differs() {
    let home = released_open();
    let renumbered = first_profile(&home, "renumber", 0);
    assert_eq!(renumbered["verdict"], "equivalent", "{renumbered:#}");
    assert_ne!(renumbered["profile_id"], renumbered["rebuilt_profile_id"]);
    let compared = renumbered["files"][0]["compared"].as_array().unwrap();
    assert!(
        compared[0].as_str().unwrap().starts_with("the text of its layers is the same but for the numbering"),
        "{renumbered:#}"
    );
    let renamed = first_profile(&home, "rename", 3);
    assert_eq!(renamed["verdict"], "different");
    let finding = &renamed["findings"][0];
    assert!(finding["recorded"].as_str().unwrap().contains("__myl_"), "{renamed:#}");
    assert!(finding["found"].as_str().unwrap().contains("__myX_"), "{renamed:#}");
    let weight = first_profile(&home, "weight", 3);
    assert_eq!(weight["verdict"], "different");
    let text = weight["findings"][0]["text"].as_str().unwrap();
    assert!(text.contains("; the text of its layers is the same; 1 of "), "{text}");
}

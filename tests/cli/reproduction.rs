//! `nimctl reproduce`: a release is built again in another place, and what was changed on purpose is found and named.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::graph::{self, Precision};
use crate::home::{Home, scripted_backends};
use crate::interruption::{is_alive, signal, wait_for};
use crate::recipes::{FAKE, GENERIC, X_RANGE, recipe};

/// The same graph as FP16: for what is lowered.
const LOWERED: &str = "  - { backend: onnxruntime, precisions: [fp16], targets: generic }\n";

/// A home with a release of a small graph: in a folder, and in the OCI image layout.
fn released() -> Home {
    let home = Home::new();
    fs_err::create_dir(home.path("models")).unwrap();
    graph::write_external(&home.path("models/graph.onnx"), Precision::Float32);
    home.write("r.yaml", of_models(&recipe(X_RANGE, &format!("{FAKE}{GENERIC}{LOWERED}"))));
    home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:published"]).exits(0);
    home.set_up(&["pull", "oci:published", "--all", "-o", "release"]).exits(0);
    home
}

fn of_models(recipe: &str) -> String {
    recipe.replace("path: graph.onnx", "path: models/graph.onnx")
}

/// Runs `nimctl reproduce`, and returns its result.
#[track_caller]
fn json(home: &Home, arguments: &[&str], code: i32) -> Value {
    let arguments = [&["reproduce"], arguments, &["--output", "json"]].concat();
    home.set_up(&arguments).exits(code).json()
}

fn verdicts(result: &Value) -> Vec<&str> {
    result["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|profile| profile["verdict"].as_str().unwrap())
        .collect()
}

/// Copies a folder.
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

#[test]
fn a_release_is_reproduced_wherever_and_by_whomever() {
    let first = released();
    let second = Home::new()
        .with("USER", "somebody")
        .with("HOME", "/nonexistent")
        .with("TZ", "Asia/Kathmandu")
        .with("LC_ALL", "tr_TR.UTF-8")
        .with("SOMETHING", "x".repeat(5000));
    for folder in ["release", "published"] {
        copy(&first.path(folder), &second.path(&format!("some where/{folder}")));
    }
    // Graphs are found by their digests, whatever they are called.
    let source = first.path("models");
    second.write("else/where/a.bin", fs_err::read(source.join("graph.onnx")).unwrap());
    second.write("else/where/w.bin", fs_err::read(source.join("w.bin")).unwrap());
    second.run(&["reproduce", "some where/release", "--graphs", "else", "--jobs", "1"]).exits(0);
    second
        .run(&["reproduce", "oci:some where/published", "--graphs", "else/where/a.bin", "--jobs", "7"])
        .exits(0);
    let result = json(&second, &["some where/release", "--graphs", "else"], 0);
    assert_eq!(result["schema"], "nimctl.reproduction/1");
    assert_eq!(verdicts(&result), ["identical"; 4]);
    for profile in result["profiles"].as_array().unwrap() {
        assert_eq!(profile["profile_id"], profile["rebuilt_profile_id"], "{profile}");
        assert_ne!(profile["files"].as_array().unwrap().len(), 0);
    }
    assert_eq!(second.names(), ["data", "else", "some where"]);
    assert!(!second.path("data/store").exists(), "the user's store was touched");

    // With another umask, and a store that has all of it.
    let mut shell = Command::new("/bin/sh");
    let nimctl = first.command(&[]);
    shell.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(nimctl.get_program());
    shell.args(["reproduce", "release", "--recipe", "r.yaml", "--only", "fake-*", "--output", "json"]);
    shell.current_dir(first.folder()).env_clear();
    shell.envs(nimctl.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let result = first.output(&mut shell).exits(0).json();
    assert_eq!(verdicts(&result), ["identical"; 2]);
    insta::assert_snapshot!(second.transcript());
}

#[test]
fn what_a_recipe_says_otherwise_is_reproduced_and_named() {
    let home = released();
    let text = home.read("r.yaml");
    home.write("limited.yaml", text.replace("\"9.0\"] }", "\"9.0\"] }, workspace_mib: 512"));
    home.run(&["reproduce", "release", "--recipe", "limited.yaml"]).exits(3);
    home.write("wider.yaml", text.replace("max: [8, 4]", "max: [9, 4]"));
    home.run(&["reproduce", "release", "--recipe", "wider.yaml", "--only", "fake-sm89-*"]).exits(3);
    home.write(
        "kept.yaml",
        text.replace(
            "precisions: [fp16], targets: generic",
            "precisions: [fp16], targets: generic, lowering: { keep_ops: [Relu] }",
        ),
    );
    home.run(&["reproduce", "release", "--recipe", "kept.yaml", "--only", "onnx-fp16"]).exits(3);
    home.write("other.yaml", text.replace("\"8.9\", ", ""));
    home.run(&["reproduce", "release", "--recipe", "other.yaml", "--only", "fake-*"]).exits(3);
    // The files of a graph that is shipped as ONNX don't depend on them.
    let result = json(&home, &["release", "--recipe", "wider.yaml", "--only", "onnx-fp16"], 3);
    assert_eq!(result["profiles"][0]["files"][0]["verdict"], "identical");
    assert_eq!(result["profiles"][0]["findings"][0]["name"], "shape_ranges.main.x.max", "{result:#}");
    let result = json(&home, &["release", "--recipe", "limited.yaml", "--only", "fake-sm90-*"], 3);
    let profile = &result["profiles"][0];
    assert_eq!(
        (&profile["verdict"], &profile["files"][0]["verdict"]),
        (&"different".into(), &"identical".into())
    );
    let finding = &profile["findings"][0];
    assert_eq!(finding["name"], "main: workspace_mib");
    assert_eq!((&finding["recorded"], &finding["found"]), (&Value::Null, &"512".into()));
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_changed_weight_is_named_and_not_reproduced() {
    let home = released();
    // The last value of W.
    let mut weights = fs_err::read(home.path("models/w.bin")).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    home.write("changed/w.bin", weights);
    home.write("changed/graph.onnx", fs_err::read(home.path("models/graph.onnx")).unwrap());
    home.write("changed.yaml", home.read("r.yaml").replace("models/", "changed/"));
    home.run(&["reproduce", "release", "--recipe", "changed.yaml"]).exits(3);
    // The recorded graph is built all the same, if it is there.
    let both =
        ["reproduce", "release", "--recipe", "changed.yaml", "--graphs", "models", "--only", "fake-sm89-*"];
    home.run(&both).exits(3);
    // Without a recipe, there is no graph: that model has other external data.
    home.run(&["reproduce", "release", "--graphs", "changed", "--only", "fake-sm89-*"]).exits(5);
    insta::assert_snapshot!(home.transcript());
}

/// Puts a backend in the place of the scripted one that is other in a few bytes.
fn other_backend(home: &mut Home, from: &str, to: &str) {
    let text = fs_err::read_to_string(scripted_backends().join("nimctl-backend-fake")).unwrap();
    assert!(text.contains(from));
    home.write_executable("workers/nimctl-backend-fake", &text.replace(from, to));
    home.set("NIMCTL_BACKENDS", home.path("workers"));
}

#[test]
fn other_tools_are_named_and_nothing_is_reproduced_with_them() {
    let mut home = released();
    other_backend(&mut home, "\"worker_version\":\"1\"", "\"worker_version\":\"2\"");
    home.run(&["reproduce", "release", "--graphs", "models"]).exits(5);
    home.set("NIMCTL_BACKENDS", "/nonexistent");
    home.run(&["reproduce", "release", "--graphs", "models", "--only", "fake-*"]).exits(5);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_plan_that_comes_out_otherwise_is_not_reproduced() {
    let mut home = Home::new();
    other_backend(&mut home, "*) printf plan ", "*) printf ${FAKE_PLAN:-plan} ");
    graph::write(&home.path("graph.onnx"), Precision::Float32);
    home.write("r.yaml", recipe(X_RANGE, FAKE));
    home.set_up(&["build", "r.yaml", "--no-check"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:published"]).exits(0);
    home.set_up(&["reproduce", "oci:published", "--recipe", "r.yaml"])
        .exits(0)
        .has(&["2 profiles: 2 identical"]);
    let other = ["reproduce", "oci:published", "--recipe", "r.yaml"];
    home.run_with(&[("FAKE_PLAN", "plot")], &other).exits(3);
    // One job at a time: the messages of two have no order.
    let one = [&other[..], &["--only", "fake-sm89-*"]].concat();
    home.run_with(&[("FAKE_BEHAVIOUR", "exit")], &one).exits(5);
    insta::assert_snapshot!(home.transcript());
}

/// Changes the passport of a profile, and what lists its digest.
fn change_passport(home: &Home, profile: &str, change: impl Fn(&mut Value)) {
    let path = passport(home, profile);
    let mut value: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs_err::write(&path, serde_json::to_vec_pretty(&value).unwrap()).unwrap();
    let mut sums = Command::new("sh");
    sums.args([
        "-c",
        "find * -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs sha256sum > ../sums; mv ../sums SHA256SUMS",
    ]);
    assert!(sums.current_dir(home.path("release")).status().unwrap().success());
}

fn passport(home: &Home, profile: &str) -> PathBuf {
    let profiles = fs_err::read_dir(home.path("release/profiles")).unwrap();
    let mut passports = profiles.map(|folder| folder.unwrap().path().join("passport.json"));
    let name = format!("\"name\": \"{profile}\"");
    passports.find(|path| fs_err::read_to_string(path).unwrap().contains(&name)).unwrap()
}

/// Recomputes the key of a document, as whoever forges one would.
fn forge(record: &mut Value) {
    let document: nimctl::worklist::BuildKeyDocument =
        serde_json::from_value(record["document"].clone()).unwrap();
    record["key"] = document.key().unwrap().to_string().into();
}

#[test]
fn a_passport_that_contradicts_the_profile_is_not_reproduced() {
    for (change, field) in [
        (
            (|record: &mut Value| {
                record["document"]["shape_ranges"]["x"]["max"][0] = 7.into();
                forge(record);
            }) as fn(&mut Value),
            "main: shape_ranges.x.max",
        ),
        (
            |record| {
                record["document"]["action"] = serde_json::json!({ "compile": "other" });
                forge(record);
            },
            "main: action",
        ),
    ] {
        let home = released();
        change_passport(&home, "fake-sm89-fp16", |passport| {
            change(&mut passport["graphs"]["main"]["compilation"]);
        });
        let result = json(&home, &["release", "--graphs", "models"], 3);
        assert_eq!(verdicts(&result), ["different", "identical", "identical", "identical"], "{field}");
        assert_eq!(result["profiles"][0]["findings"][0]["name"], field, "{result:#}");
    }
}

/// What `verify` finds, too, is said before anything is built.
#[test]
fn a_passport_of_another_profile_is_not_reproduced() {
    for (change, why) in [
        (
            (|record: &mut Value| {
                record["document"]["toolchain"]["fake"]["libraries"]["nimctl-backend-fake"] =
                    format!("sha256:{}", "0".repeat(64)).into();
                forge(record);
            }) as fn(&mut Value),
            "was built with another fake",
        ),
        (|record| record["document"]["workspace_mib"] = 512.into(), "the build key of graph `main`"),
        (
            |record| record["outputs"][0]["sha256"] = format!("sha256:{}", "0".repeat(64)).into(),
            "another file `main/model.plan`",
        ),
    ] {
        let home = released();
        change_passport(&home, "fake-sm89-fp16", |passport| {
            change(&mut passport["graphs"]["main"]["compilation"]);
        });
        home.set_up(&["reproduce", "release", "--graphs", "models"]).exits(3).has(&[why]);
    }
}

/// Options that the files alone can't tell apart: the rebuild shows what they come to.
#[test]
fn a_passport_with_other_lowering_options_is_reproduced_otherwise() {
    let home = released();
    change_passport(&home, "onnx-fp16", |passport| {
        let record = &mut passport["graphs"]["main"]["lowering"];
        record["document"]["lowering"]["keep_ops"] = serde_json::json!(["MatMul"]);
        forge(record);
    });
    let result = json(&home, &["release", "--graphs", "models", "--only", "onnx-fp16"], 3);
    assert_eq!(result["profiles"][0]["findings"][0]["subject"], "weight", "{result:#}");
    home.run(&["reproduce", "release", "--graphs", "models", "--only", "onnx-fp16"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_is_no_release_is_not_reproduced() {
    let home = released();
    home.run(&["reproduce", "nowhere", "--graphs", "models"]).exits(1);
    home.run(&["reproduce", "models", "--graphs", "models"]).exits(1);
    home.run(&["reproduce", "oci:nowhere", "--graphs", "models"]).exits(1);
    home.run(&["reproduce", "release", "--graphs", "nowhere"]).exits(1);
    home.run(&["reproduce", "release", "--recipe", "nowhere.yaml"]).exits(1);
    home.run(&["reproduce", "release", "--graphs", "models", "--only", "x-*"]).exits(1);
    home.run(&["reproduce", "release", "--graphs", "models", "--work-dir", "nowhere"]).exits(1);
    home.run(&["reproduce", "release", "--only", "onnx-fp32"]).exits(5);
    let path = passport(&home, "fake-sm89-fp16");
    fs_err::write(path, "{").unwrap();
    home.run(&["reproduce", "release", "--graphs", "models"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn nothing_is_left_of_what_was_to_be_reproduced() {
    let home = released();
    fs_err::create_dir(home.path("work")).unwrap();
    let file = home.path("grandchild");
    let start = || {
        let _ = fs_err::remove_file(&file);
        let mut command = home.command(&["reproduce", "release", "--graphs", "models", "--work-dir", "work"]);
        command.env("FAKE_BEHAVIOUR", "grandchild").env("FAKE_FILE", &file);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let id: u32 = wait_for(|| fs_err::read_to_string(&file).ok()?.trim().parse().ok());
        (child, id)
    };
    let left = || fs_err::read_dir(home.path("work")).unwrap().count();

    let (child, grandchild) = start();
    assert_eq!(left(), 2, "a folder and its lock");
    signal(&child, rustix::process::Signal::INT);
    home.printed(&child.wait_with_output().unwrap())
        .exits(130)
        .has(&["error: interrupted; nothing of the rebuild was kept"]);
    wait_for(|| (!is_alive(grandchild)).then_some(()));
    assert_eq!(left(), 0, "something of an interrupted reproduction was left");

    // Nothing can be removed by whom was killed; the next one does it.
    let (mut child, grandchild) = start();
    signal(&child, rustix::process::Signal::KILL);
    child.wait().unwrap();
    let grandchild = rustix::process::Pid::from_raw(i32::try_from(grandchild).unwrap());
    let group = rustix::process::getpgid(grandchild).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    assert_eq!(left(), 2);
    let again = ["reproduce", "release", "--graphs", "models", "--work-dir", "work"];
    home.set_up(&again).exits(0);
    assert_eq!(left(), 0, "something of a killed reproduction was left");
}

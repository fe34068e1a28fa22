//! `nimctl validate` with the real `onnxruntime` worker: what passes, and faults that are put in on purpose, each caught
//! by the gate that is for it.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use nimctl::digest::{Blake3, Sha256};
use nimctl::onnx::proto::ModelProto;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{check, real};

/// A home with a built profile: both towers of the demo's model, in FP16, for ONNX Runtime.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// Builds the profile; nothing if the user has no workers to test.
    fn new() -> Option<Self> {
        real("onnxruntime")?;
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.write_recipe(20);
        home.run(&["build", "r.yaml"], 0, &[]);
        Some(home)
    }

    fn write_recipe(&self, text_seed: u32) {
        let text = format!(
            "schema: nimctl.recipe/1\nmodel: {{ name: m, release: 1.0.0 }}\ngraphs:\n  vision:\n    source: {{ synth: \
             {{ model: nvclip, size: tiny, tower: vision, seed: 20 }} }}\n    shapes:\n      IMAGE: {{ min: [1, 3, 224, \
             224], opt: [4, 3, 224, 224], max: [8, 3, 224, 224] }}\n    samples: {{ IMAGE: {{ normal: {{}} }} }}\n  \
             text:\n    source: {{ synth: {{ model: nvclip, size: tiny, tower: text, seed: {text_seed} }} }}\n    \
             shapes:\n      TEXT: {{ min: [1, 77], opt: [4, 77], max: [8, 77] }}\n    samples: {{ TEXT: {{ integers: {{ \
             low: 0, high: 1024 }} }} }}\nprofiles:\n  - {{ backend: onnxruntime, precisions: [fp16], targets: \
             generic }}\n"
        );
        fs_err::write(self.path("r.yaml"), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs nimctl; fails unless the exit code is this one and the output has these pieces.
    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32, pieces: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NIMCTL_DATA_DIR", self.path("data"))
            .env("NIMCTL_BACKENDS", std::env::var_os("NIMCTL_TEST_BACKENDS").unwrap());
        check(&mut command, code, pieces)
    }

    /// Returns the names of the gates that don't hold.
    fn failed_gates(&self) -> Vec<String> {
        let text = self.run(&["validate", "r.yaml", "--output", "json", "--quiet"], 3, &[]);
        let view: Value = serde_json::from_str(&text).unwrap();
        let gates = view["profiles"][0]["status"]["executed"]["gates"].as_array().unwrap().clone();
        let failed = gates.iter().filter(|gate| gate["passed"] == json!(false));
        let mut names: Vec<String> = failed
            .map(|gate| format!("{} {}", gate["subject"].as_str().unwrap(), gate["gate"].as_str().unwrap()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn blob(&self, sha256: &str) -> PathBuf {
        self.path("data/store/blobs/sha256").join(sha256.trim_start_matches("sha256:"))
    }

    /// Returns the build record of a graph's lowering: its file, and what is in it.
    fn lowering(&self, graph: &str) -> (PathBuf, Value) {
        let last = self.path("data/store/nimctl/last/m").join(graph);
        let builds = self.path("data/store/nimctl/builds");
        let document: Value = serde_json::from_slice(&fs_err::read(only_file(&last)).unwrap()).unwrap();
        fs_err::read_dir(builds)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (path.clone(), serde_json::from_slice::<Value>(&fs_err::read(path).unwrap()).unwrap())
            })
            .find(|(_, record)| record["document"] == document)
            .unwrap()
    }

    /// Changes what a graph's lowering gave, as if it had been built so: the store, its record, the id and the passport
    /// agree with each other.
    fn replace_model(&self, graph: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        self.replace_output(self.lowering(graph), change);
    }

    fn replace_output(&self, (path, mut record): (PathBuf, Value), change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let output = &mut record["outputs"][0];
        let bytes = change(fs_err::read(self.blob(output["sha256"].as_str().unwrap())).unwrap());
        let sha256 = Sha256::of(&bytes).to_string();
        fs_err::write(self.blob(&sha256), &bytes).unwrap();
        output["sha256"] = json!(sha256);
        output["blake3"] = json!(Blake3::of(&bytes).to_string());
        output["size_bytes"] = json!(bytes.len());
        fs_err::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
        self.run(&["build", "r.yaml"], 0, &[]);
    }
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.next().unwrap()
}

#[test]
fn a_sound_profile_passes_and_selection_knows() {
    let Some(home) = Home::new() else { return };
    home.run(
        &["validate", "r.yaml", "--gates"],
        0,
        &["executed  passed", "cross_modal", "26 of 26", "onnx-fp16: passed"],
    );
    let passport = only_file(&home.path("data/store/nimctl/passports"));
    let passed = |path: &Path| -> Value {
        let passport: Value = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
        passport["validation"]["executed"]["passed"].clone()
    };
    assert_eq!(passed(&passport), json!(true));
    // Built again it is the same profile: what was found of it stays.
    home.run(&["build", "r.yaml"], 0, &[]);
    assert_eq!(passed(&passport), json!(true));
}

#[test]
fn a_flipped_byte_is_found_before_anything_is_loaded() {
    let Some(home) = Home::new() else { return };
    let (_, record) = home.lowering("text");
    let path = home.blob(record["outputs"][0]["sha256"].as_str().unwrap());
    let mut bytes = fs_err::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs_err::metadata(&path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of the test's own")]
    permissions.set_readonly(false);
    fs_err::set_permissions(&path, permissions).unwrap();
    fs_err::write(&path, bytes).unwrap();
    home.run(
        &["validate", "r.yaml"],
        3,
        &["text/model.onnx is not what the profile's id names", "it was not loaded"],
    );
    let manifest = "manifests/r/model_manifest.yaml";
    home.run(&["select", "-m", manifest, "--device", "none"], 4, &["it didn't pass its validation"]);
}

#[test]
fn a_weight_of_zeros() {
    let Some(home) = Home::new() else { return };
    home.replace_model("vision", |bytes| {
        let mut model = ModelProto::decode(Bytes::from(bytes)).unwrap();
        let weights = &mut model.graph.as_mut().unwrap().initializer;
        let size = |data: &Option<Bytes>| data.as_ref().map_or(0, Bytes::len);
        let largest = weights.iter_mut().max_by_key(|weight| size(&weight.raw_data)).unwrap();
        largest.raw_data = Some(Bytes::from(vec![0; size(&largest.raw_data)]));
        model.encode_to_vec()
    });
    let failed = home.failed_gates();
    assert!(failed.contains(&"vision/LOGITS_PER_IMAGE row_cosine".to_owned()), "{failed:?}");
    assert!(!failed.iter().any(|gate| gate.starts_with("text/")), "{failed:?}");
}

#[test]
fn one_value_that_is_no_number() {
    let Some(home) = Home::new() else { return };
    home.replace_model("vision", |bytes| {
        let mut model = ModelProto::decode(Bytes::from(bytes)).unwrap();
        let weights = &mut model.graph.as_mut().unwrap().initializer;
        let half =
            weights.iter_mut().find(|weight| weight.data_type == Some(10) && weight.dims.len() == 2).unwrap();
        let mut data = half.raw_data.as_ref().unwrap().to_vec();
        data[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
        half.raw_data = Some(Bytes::from(data));
        model.encode_to_vec()
    });
    let failed = home.failed_gates();
    assert!(failed.contains(&"vision/LOGITS_PER_IMAGE finite".to_owned()), "{failed:?}");
    home.run(&["validate", "r.yaml"], 3, &["not a number", "FAILED"]);
}

/// The model of another seed under this one's name.
#[test]
fn another_model_under_this_name() {
    let Some(home) = Home::new() else { return };
    let right = home.lowering("text");
    home.write_recipe(21);
    home.run(&["build", "r.yaml"], 0, &[]);
    let (_, other) = home.lowering("text");
    assert_ne!(right.1["outputs"][0]["sha256"], other["outputs"][0]["sha256"]);
    let other = fs_err::read(home.blob(other["outputs"][0]["sha256"].as_str().unwrap())).unwrap();
    home.write_recipe(20);
    home.replace_output(right, |_| other);
    let failed = home.failed_gates();
    assert!(failed.contains(&"text/LOGITS_PER_TEXT row_cosine".to_owned()), "{failed:?}");
    assert!(failed.iter().any(|gate| gate.ends_with("cross_modal")), "{failed:?}");
}

#[test]
fn a_model_that_cannot_be_loaded_fails_alone() {
    let Some(home) = Home::new() else { return };
    home.replace_model("vision", |_| b"not a model".to_vec());
    home.run(&["validate", "r.yaml"], 3, &["onnx-fp16: failed", "graph `vision`:", "could not load"]);
}

#[test]
fn inputs_without_samples_are_seeded() {
    let Some(home) = Home::new() else { return };
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    let without = recipe.replace("    samples: { IMAGE: { normal: {} } }\n", "");
    assert_ne!(recipe, without);
    fs_err::write(home.path("r.yaml"), without).unwrap();
    home.run(
        &["validate", "r.yaml"],
        0,
        &["because the recipe has no `samples` for them:", "vision/IMAGE: { normal: {} }"],
    );
}

//! `nimctl validate` with the real `onnxruntime` worker: what passes, and faults that are put in on purpose, each caught
//! by the gate that is for it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use nimctl::digest::{Blake3, Sha256};
use nimctl::onnx::proto::ModelProto;
use prost::Message as _;
use serde_json::{Value, json};

use super::towers::{FP16, TEXT, Tower, VISION, recipe};
use crate::home::Home;

/// A built profile: both towers of the demo's model, in FP16, for ONNX Runtime.
struct Built {
    home: Home,
}

impl Built {
    fn new() -> Self {
        let built = Self { home: super::home() };
        built.write_recipe(20);
        built.home.set_up(&["build", "r.yaml"]).exits(0);
        built
    }

    fn write_recipe(&self, text_seed: u32) {
        self.home.write("r.yaml", recipe(&[VISION, Tower { seed: text_seed, ..TEXT }], FP16));
    }

    /// Returns the names of the gates that don't hold.
    fn failed_gates(&self) -> Vec<String> {
        let view = self.home.set_up(&["validate", "r.yaml", "--output", "json", "--quiet"]).exits(3).json();
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
        self.home.path("data/store/blobs/sha256").join(sha256.trim_start_matches("sha256:"))
    }

    /// Returns the build record of a graph's lowering: its file, and what is in it.
    fn lowering(&self, graph: &str) -> (PathBuf, Value) {
        let last = self.home.path("data/store/nimctl/last/m").join(graph);
        let builds = self.home.path("data/store/nimctl/builds");
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
        self.home.set_up(&["build", "r.yaml"]).exits(0);
    }
}

fn only_file(folder: &Path) -> PathBuf {
    let mut files = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.next().unwrap()
}

#[test]
fn a_sound_profile_passes_and_selection_knows() {
    let built = Built::new();
    let home = &built.home;
    home.set_up(&["validate", "r.yaml", "--gates"]).exits(0).has(&[
        "executed  passed",
        "cross_modal",
        "26 of 26",
        "onnx-fp16: passed",
    ]);
    let passport = only_file(&home.path("data/store/nimctl/passports"));
    let passed = |path: &Path| -> Value {
        let passport: Value = serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap();
        passport["validation"]["executed"]["passed"].clone()
    };
    assert_eq!(passed(&passport), json!(true));
    // Built again it is the same profile: what was found of it stays.
    home.set_up(&["build", "r.yaml"]).exits(0);
    assert_eq!(passed(&passport), json!(true));
}

#[test]
fn a_flipped_byte_is_found_before_anything_is_loaded() {
    let built = Built::new();
    let home = &built.home;
    let (_, record) = built.lowering("text");
    let path = built.blob(record["outputs"][0]["sha256"].as_str().unwrap());
    let mut bytes = fs_err::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mut permissions = fs_err::metadata(&path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of the test's own")]
    permissions.set_readonly(false);
    fs_err::set_permissions(&path, permissions).unwrap();
    fs_err::write(&path, bytes).unwrap();
    home.set_up(&["validate", "r.yaml"])
        .exits(3)
        .has(&["is damaged: its digest should be", "run `nimctl build` again"]);
    let manifest = "manifests/r/model_manifest.yaml";
    // The disk is to blame, and not the profile.
    home.run(&["select", "-m", manifest, "--device", "none"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_weight_of_zeros() {
    let built = Built::new();
    built.replace_model("vision", |bytes| {
        let mut model = ModelProto::decode(Bytes::from(bytes)).unwrap();
        let weights = &mut model.graph.as_mut().unwrap().initializer;
        let size = |data: &Option<Bytes>| data.as_ref().map_or(0, Bytes::len);
        let largest = weights.iter_mut().max_by_key(|weight| size(&weight.raw_data)).unwrap();
        largest.raw_data = Some(Bytes::from(vec![0; size(&largest.raw_data)]));
        model.encode_to_vec()
    });
    let failed = built.failed_gates();
    assert!(failed.contains(&"vision/LOGITS_PER_IMAGE row_cosine".to_owned()), "{failed:?}");
    assert!(!failed.iter().any(|gate| gate.starts_with("text/")), "{failed:?}");
}

#[test]
fn one_value_that_is_no_number() {
    let built = Built::new();
    let home = &built.home;
    built.replace_model("vision", |bytes| {
        let mut model = ModelProto::decode(Bytes::from(bytes)).unwrap();
        let weights = &mut model.graph.as_mut().unwrap().initializer;
        let half =
            weights.iter_mut().find(|weight| weight.data_type == Some(10) && weight.dims.len() == 2).unwrap();
        let mut data = half.raw_data.as_ref().unwrap().to_vec();
        data[..2].copy_from_slice(&half::f16::NAN.to_le_bytes());
        half.raw_data = Some(Bytes::from(data));
        model.encode_to_vec()
    });
    let failed = built.failed_gates();
    assert!(failed.contains(&"vision/LOGITS_PER_IMAGE finite".to_owned()), "{failed:?}");
    home.set_up(&["validate", "r.yaml"]).exits(3).has(&["not a number", "FAILED"]);
}

/// The model of another seed under this one's name.
#[test]
fn another_model_under_this_name() {
    let built = Built::new();
    let home = &built.home;
    let right = built.lowering("text");
    built.write_recipe(21);
    home.set_up(&["build", "r.yaml"]).exits(0);
    let (_, other) = built.lowering("text");
    assert_ne!(right.1["outputs"][0]["sha256"], other["outputs"][0]["sha256"]);
    let other = fs_err::read(built.blob(other["outputs"][0]["sha256"].as_str().unwrap())).unwrap();
    built.write_recipe(20);
    built.replace_output(right, |_| other);
    let failed = built.failed_gates();
    assert!(failed.contains(&"text/LOGITS_PER_TEXT row_cosine".to_owned()), "{failed:?}");
    assert!(failed.iter().any(|gate| gate.ends_with("cross_modal")), "{failed:?}");
}

#[test]
fn a_model_that_cannot_be_loaded_fails_alone() {
    let built = Built::new();
    let home = &built.home;
    built.replace_model("vision", |_| b"not a model".to_vec());
    home.set_up(&["validate", "r.yaml"]).exits(3).has(&[
        "onnx-fp16: failed",
        "graph `vision`:",
        "could not load",
    ]);
}

#[test]
fn inputs_without_samples_are_seeded() {
    let built = Built::new();
    let home = &built.home;
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    let without = recipe.replace("    samples: { IMAGE: { normal: {} } }\n", "");
    assert_ne!(recipe, without);
    fs_err::write(home.path("r.yaml"), without).unwrap();
    home.set_up(&["validate", "r.yaml"])
        .exits(0)
        .has(&["because the recipe has no `samples` for them:", "vision/IMAGE: { normal: {} }"]);
}

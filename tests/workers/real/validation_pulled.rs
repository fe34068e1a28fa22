//! `nimctl validate` of profiles that were pulled, in a data folder that has no recipe.

use serde_json::{Value, json};

use super::towers::{FP32_AND_FP16, TEXT, recipe};
use crate::home::Home;

/// A home with a published release, whose own store and recipe are gone.
fn published() -> Home {
    let home = super::home();
    home.write("r.yaml", recipe(&[TEXT], FP32_AND_FP16));
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["validate", "r.yaml"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:layout"]).exits(0);
    fs_err::remove_file(home.path("r.yaml")).unwrap();
    fs_err::remove_dir_all(home.path("data/store")).unwrap();
    home
}

fn passports(home: &Home) -> Vec<String> {
    let folder = fs_err::read_dir(home.path("data/store/nimctl/passports")).unwrap();
    let mut texts: Vec<String> =
        folder.map(|entry| fs_err::read_to_string(entry.unwrap().path()).unwrap()).collect();
    texts.sort();
    texts
}

fn validated(home: &Home, arguments: &[&str]) -> Value {
    home.set_up(&[&["validate", "--quiet", "--output", "json"], arguments].concat()).exits(0).json()
}

#[test]
fn a_profile_alone_is_run_and_compared_with_nothing() {
    let home = published();
    home.set_up(&["pull", "oci:layout", "--profile", "onnx-fp16", "-o", "release"]).exits(0);
    let before = passports(&home);
    let view = validated(&home, &["release"]);
    let profile = &view["profiles"][0];
    assert_eq!(profile["verdict"], "not compared");
    assert_eq!(profile["compared_with"], "nothing");
    let validation = &profile["status"]["executed"];
    assert_eq!(validation["passed"], true);
    let gates: Vec<&str> =
        validation["gates"].as_array().unwrap().iter().map(|gate| gate["gate"].as_str().unwrap()).collect();
    assert_eq!(gates, ["finite", "finite", "finite", "batch_invariance"]);
    assert_eq!(
        validation["not_compared"],
        json!(["what fp16 loses: ONNX Runtime computes it in fp32 on the CPU"])
    );
    assert_eq!(profile["of_release"]["executed"]["passed"], true);
    assert_eq!(passports(&home), before, "the release's own result stays");

    // By its id too, without the folder; what only a recipe has is refused.
    let id = profile["profile_id"].as_str().unwrap();
    assert_eq!(validated(&home, &[id])["profiles"][0]["verdict"], "not compared");
    home.set_up(&["validate", id, "--replay", "text/opt/0"]).exits(1).has(&["--replay needs the recipe"]);
}

#[test]
fn the_fp32_profile_of_the_release_is_what_others_are_compared_with() {
    let home = published();
    for name in ["onnx-fp16", "onnx-fp32"] {
        home.set_up(&["pull", "oci:layout", "--profile", name, "-o", "release"]).exits(0);
    }
    let before = passports(&home);
    let view = validated(&home, &["release", "--only", "onnx-fp16"]);
    let profile = &view["profiles"][0];
    assert_eq!(profile["verdict"], "passed");
    assert_eq!(profile["compared_with"]["profile"]["name"], "onnx-fp32");
    // The same numbers as with the recipe: the same graph, the same seeded inputs, the same runs.
    assert_eq!(profile["status"], profile["of_release"]);
    assert_eq!(view["profiles"].as_array().unwrap().len(), 1);
    assert_eq!(passports(&home), before);

    // Named twice is validated once.
    let view = validated(&home, &["release", "release", "--only", "onnx-fp16"]);
    assert_eq!(view["profiles"].as_array().unwrap().len(), 1);

    // Where a file of it is damaged, that is said: nothing is validated against less than the release has.
    let blob = home.path("data/store/blobs/sha256");
    let fp32 = validated(&home, &["release", "--only", "onnx-fp32"]);
    let id = fp32["profiles"][0]["profile_id"].as_str().unwrap();
    let passport: Value =
        serde_json::from_str(&home.read(&format!("data/store/nimctl/passports/{id}.json"))).unwrap();
    let sha256 = passport["contents"]["files"][0]["sha256"].as_str().unwrap().trim_start_matches("sha256:");
    let mut bytes = fs_err::read(blob.join(sha256)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(blob.join(sha256), bytes).unwrap();
    for name in ["onnx-fp16", "onnx-fp32"] {
        home.set_up(&["validate", "release", "--only", name]).exits(3);
    }
}

#[test]
fn what_was_not_pulled_is_named() {
    let home = published();
    home.set_up(&["pull", "oci:layout", "--profile", "onnx-fp16", "-o", "release"]).exits(0);
    fs_err::remove_dir_all(home.path("data/store")).unwrap();
    let refused = home.set_up(&["validate", "release"]);
    refused
        .exits(1)
        .has(&["release: the store has no such profile", "run `nimctl pull` or `nimctl build` first"]);
}

#[test]
fn a_trust_policy_decides_what_is_run_and_what_it_is_compared_with() {
    let home = published();
    for name in ["p256.key", "p256.pub"] {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/signing");
        home.write(name, fs_err::read(format!("{fixtures}/{name}")).unwrap());
    }
    let rule = "- models: ['*']\n  keys: [p256.pub]\n  require: { executed_on: any, min_cosine: 0.9 }\n";
    home.write("trust.yaml", format!("schema: nimctl.trust/1\nrules:\n{rule}"));
    home.set_up(&["pull", "oci:layout", "--all", "--store", "other", "-o", "signed"]).exits(0);
    home.set_up(&["sign", "signed", "--key", "p256.key"]).exits(0);
    let pull = |name: &str, under: &[&str]| {
        let pull = ["pull", "oci:layout", "--profile", name, "-o", "release"];
        home.set_up(&[&pull[..], under].concat()).exits(0);
    };
    let under = ["--trust", "trust.yaml", "--signature", "signed.sig"];
    let said =
        |more: &[&str]| home.set_up(&[&["validate", "release", "--trust", "trust.yaml"], more].concat());
    pull("onnx-fp16", &under);
    pull("onnx-fp32", &[]);
    said(&[]).exits(3).has(&["refuses onnx-fp32 ", "it was pulled without a signature"]);
    // What nobody signed is not loaded to compare with, either.
    let alone = said(&["--only", "onnx-fp16", "--output", "json"]);
    alone.exits(0).has(&["nothing is compared with onnx-fp32: trust.yaml refuses onnx-fp32"]);
    assert_eq!(alone.json()["profiles"][0]["compared_with"], "nothing");
    pull("onnx-fp32", &under);
    let compared = said(&["--only", "onnx-fp16", "--output", "json"]);
    assert_eq!(compared.exits(0).json()["profiles"][0]["compared_with"]["profile"]["name"], "onnx-fp32");
    said(&[]).exits(0);
}

//! A trust policy asks for attestations: of a folder, of what is pulled, and of what was pulled.

use serde_json::Value;

use crate::home::{Home, Printed};
use crate::trust::{policy, release_home, validated};
use crate::trust_gate::{all_accepted, all_refused};

const MISSING: &str = "has no attestation of its ";

/// A home with a signed release whose profiles were executed, with a file of attestations for each key.
fn home() -> Home {
    let home = release_home();
    validated(&home, "executed", 0.9994);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    for (key, file) in [("keys/other.key", "other.jsonl"), ("keys/p256.key", "own.jsonl")] {
        home.set_up(&["attest", "release", "--key", key, "--attestations", file]).exits(0);
    }
    home
}

fn require(home: &Home, kinds: &str) {
    policy(home, &format!("- models: [m]\n  keys: [p256.pub]\n  require: {{ attestations: [{kinds}] }}\n"));
}

#[test]
fn a_folder_needs_what_a_rule_requires() {
    let home = home();
    let verify =
        |more: &[&str]| home.set_up(&[&["verify", "release", "--trust", "keys/trust.yaml"], more].concat());
    require(&home, "provenance, validation");
    verify(&[]).exits(3).has(&["rule in line 3: ", MISSING, "provenance"]);
    verify(&["--attestations", "other.jsonl"]).exits(3).has(&[MISSING]);
    verify(&["--attestations", "own.jsonl"]).exits(0).has(&["accepted by the rule in line 3"]);
    // Beside the folder they are found.
    fs_err::copy(home.path("own.jsonl"), home.path("release.attestations.jsonl")).unwrap();
    verify(&[]).exits(0);
    let select = ["select", "-m", "release/model_manifest.yaml", "--device", "none", "--store", "s"];
    let select = || home.set_up(&[&select[..], &["--trust", "keys/trust.yaml"]].concat());
    select().exits(0);
    require(&home, "benchmark");
    verify(&[]).exits(3).has(&[MISSING, "benchmark"]);
    select().exits(3).has(&[MISSING, "benchmark"]);
    // Of another release: the same profile, and other numbers.
    validated(&home, "executed", 0.9999);
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    require(&home, "validation");
    verify(&[]).exits(3).has(&[MISSING, "validation"]);
}

#[test]
fn what_was_pulled_with_attestations_keeps_them() {
    let home = home();
    fs_err::rename(home.path("release.sig"), home.path("signed")).unwrap();
    home.set_up(&["publish", "release", "--to", "oci:layout-attested"]).exits(0);
    let pull = |more: &[&str]| -> Printed {
        let pull =
            ["pull", "oci:layout-attested", "--all", "--store", "t", "-o", "out", "--signature", "signed"];
        home.set_up(&[&pull[..], &["--trust", "keys/trust.yaml"], more].concat())
    };
    require(&home, "provenance, validation");
    pull(&[]).exits(3).has(&["rule in line 3: ", MISSING]);
    pull(&["--attestations", "other.jsonl"]).exits(3).has(&[MISSING]);
    assert!(!home.path("out").exists() && !home.path("t").exists());
    pull(&["--attestations", "own.jsonl"]).exits(0);
    all_accepted(&home, "line 3");
    require(&home, "benchmark");
    all_refused(&home, &["rule in line 3: ", MISSING, "benchmark"]);
    // They are kept with the signature, and nothing stands in for them.
    require(&home, "validation");
    for entry in fs_err::read_dir(home.path("t/nimctl/signed")).unwrap() {
        let path = entry.unwrap().path();
        let mut kept: Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        assert_eq!(kept["attestations"].as_array().unwrap().len(), 2);
        kept.as_object_mut().unwrap().remove("attestations");
        fs_err::write(path, kept.to_string()).unwrap();
    }
    all_refused(&home, &[MISSING, "validation"]);
}

/// Also where a key on the command line is what accepts them; and the last pull with a key counts.
#[test]
fn what_was_pulled_with_a_key_keeps_the_attestations_that_were_named() {
    let home = home();
    fs_err::rename(home.path("release.sig"), home.path("signed")).unwrap();
    home.set_up(&["publish", "release", "--to", "oci:attested"]).exits(0);
    home.set_up(&["sign", "release", "--key", "keys/other.key", "--signature", "other"]).exits(0);
    let pull = |key: &str, signature: &str, attestations: &str| {
        let pull = ["pull", "oci:attested", "--all", "--store", "t", "-o", "out", "--key", key];
        let named = ["--signature", signature, "--attestations", attestations];
        let _ = fs_err::remove_dir_all(home.path("out"));
        home.set_up(&[&pull[..], &named].concat()).exits(0);
    };
    // Of somebody else.
    let mixed = ["--key", "keys/other.pub", "--signature", "other", "--attestations", "own.jsonl"];
    home.set_up(&[&["pull", "oci:attested", "--all", "--store", "t"], &mixed[..]].concat())
        .exits(3)
        .has(&["the attestation is not accepted: it was made with another key"]);
    assert!(!home.path("t").exists());
    pull("keys/other.pub", "other", "other.jsonl");
    require(&home, "provenance, validation");
    all_refused(&home, &["keys/trust.yaml refuses "]);
    pull("keys/p256.pub", "signed", "own.jsonl");
    all_accepted(&home, "line 3");
}

#[test]
fn an_attestation_beside_a_folder_that_is_not_accepted_is_not_passed_over() {
    let home = home();
    policy(&home, "- models: [m]\n  keys: [p256.pub]\n");
    fs_err::copy(home.path("other.jsonl"), home.path("release.attestations.jsonl")).unwrap();
    let trust = ["--trust", "keys/trust.yaml"];
    let select = ["select", "-m", "release/model_manifest.yaml", "--device", "none", "--store", "s"];
    for command in [&["verify", "release"][..], &select] {
        home.set_up(&[command, &trust].concat()).exits(3).has(&["the attestation is not accepted"]);
    }
    // A file that was signed and belongs to no release.
    fs_err::remove_file(home.path("release.attestations.jsonl")).unwrap();
    home.write("release/stray", "x");
    home.set_up(&["sign", "release", "--key", "keys/p256.key"]).exits(0);
    let printed =
        home.set_up(&["verify", "release", "--trust", "keys/trust.yaml", "--output", "json"]).exits(3).json();
    assert_eq!((&printed["rule_line"], &printed["model"]), (&Value::Null, &Value::Null));
}

//! What the store says of a profile beside its signature does not count: a passport that came without one, or that somebody changed.

use std::path::PathBuf;

use serde_json::Value;

use crate::home::Home;
use crate::trust::{release_home, validated};
use crate::trust_gate::{all_accepted, home, pull};

/// The passports of a store.
fn passports(home: &Home, store: &str) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(home.path(store).join("nimctl/passports")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 2);
    files
}

/// Changes every passport of a store.
fn forge(home: &Home, store: &str, change: impl Fn(&mut Value)) {
    for file in passports(home, store) {
        let mut passport: Value = serde_json::from_slice(&fs_err::read(&file).unwrap()).unwrap();
        change(&mut passport);
        fs_err::write(file, passport.to_string()).unwrap();
    }
}

/// Makes every graph of a passport one of other bytes.
fn of_other_bytes(passport: &mut Value) {
    for graph in passport["graphs"].as_object_mut().unwrap().values_mut() {
        graph["lowering"]["outputs"][0]["sha256"] = format!("sha256:{}", "0".repeat(64)).into();
    }
}

#[test]
fn a_signed_passport_takes_the_place_of_one_that_came_without_a_signature() {
    let home = home(&["1.0.0"]);
    home.set_up(&["pull", "oci:layout-1.0.0", "--all", "--store", "t"]).exits(0);
    forge(&home, "t", |passport| passport["name"] = "forged".into());
    pull(&home, "1.0.0", &["-o", "out"]).exits(0).has(&["accepted by the rule in line 3"]);
    all_accepted(&home, "line 3");
    let kept: Vec<String> =
        passports(&home, "t").iter().map(|file| fs_err::read_to_string(file).unwrap()).collect();
    assert!(kept.iter().all(|passport| !passport.contains("forged")), "{kept:?}");
    for entry in walkdir::WalkDir::new(home.path("out")).into_iter().map(Result::unwrap) {
        if entry.file_name() == "passport.json" {
            assert!(!fs_err::read_to_string(entry.path()).unwrap().contains("forged"));
        }
    }
    // One that names other files is replaced by the next pull.
    forge(&home, "t", of_other_bytes);
    home.set_up(&["validate", "out", "--store", "t", "--trust", "keys/trust.yaml"])
        .exits(3)
        .has(&["its passport here names other files than the signed one"]);
    fs_err::remove_dir_all(home.path("out")).unwrap();
    pull(&home, "1.0.0", &["-o", "out"]).exits(0);
    all_accepted(&home, "line 3");
}

/// What a recipe's profile loads is what its passport names, and not what the records of its builds do.
#[test]
fn a_changed_passport_of_a_recipes_profile_is_refused() {
    let home = home(&["1.0.0"]);
    let pull =
        ["pull", "oci:layout-1.0.0", "--all", "--signature", "1.0.0.sig", "--trust", "keys/trust.yaml"];
    home.set_up(&pull).exits(0);
    let recipe: [&[&str]; 3] = [
        &["validate", "r.yaml"],
        &["bench", "r.yaml"],
        &["validate", "r.yaml", "--replay", "vision/opt/0", "--only", "onnx-fp16"],
    ];
    let said = |command: &[&str]| home.set_up(&[command, &["--trust", "keys/trust.yaml"]].concat());
    for command in recipe {
        assert_ne!(said(command).code, Some(3), "{command:?}");
    }
    forge(&home, "data/store", of_other_bytes);
    for command in recipe {
        said(command).exits(3).has(&["keys/trust.yaml refuses "]);
    }
}

/// `reproduce --run` runs plans of the release.
#[test]
fn a_release_that_nobody_signed_is_not_run_to_be_reproduced() {
    let home = home(&["1.0.0"]);
    let reproduce = ["reproduce", "1.0.0", "--recipe", "r.yaml"];
    fs_err::remove_file(home.path("1.0.0.sig")).unwrap();
    let trust = ["--trust", "keys/trust.yaml"];
    home.set_up(&[&reproduce[..], &trust, &["--run"]].concat()).exits(3).has(&["keys/trust.yaml refuses "]);
    home.set_up(&[
        "reproduce",
        "oci:layout-1.0.0",
        "--recipe",
        "r.yaml",
        "--run",
        "--trust",
        "keys/trust.yaml",
    ])
    .exits(3)
    .has(&["keeps no signatures"]);
    // Nothing of the release is run without it.
    assert_ne!(home.set_up(&[&reproduce[..], &trust].concat()).code, Some(3));
}

/// Anyone may have written the results in a passport that was pulled: what is built here starts without any.
#[test]
fn a_build_takes_no_results_of_a_pulled_passport() {
    let home = release_home();
    validated(&home, "executed", 0.9999);
    home.set_up(&["publish", "release", "--to", "oci:forged"]).exits(0);
    let pull = || {
        home.set_up(&["pull", "oci:forged", "--all", "--store", "t"]).exits(0);
    };
    let words = || -> Vec<String> {
        let read = |file: &PathBuf| serde_json::from_slice::<Value>(&fs_err::read(file).unwrap()).unwrap();
        let word = |file| read(file)["validation"].as_object().unwrap().keys().next().unwrap().clone();
        passports(&home, "t").iter().map(word).collect()
    };
    pull();
    assert_eq!(words(), ["executed", "executed"]);
    home.set_up(&["build", "r.yaml", "--store", "t"]).exits(0);
    assert_eq!(words(), ["skipped", "skipped"]);
    pull();
    home.set_up(&["build", "r.yaml", "--store", "t"]).exits(0);
    assert_eq!(words(), ["skipped", "skipped"]);
}

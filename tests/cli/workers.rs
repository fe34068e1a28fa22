//! Workers that misbehave during a build: the message says how, the other jobs go on, and the manifest has what was
//! built.

use nimctl::manifest::{Manifest, ManifestProfile};

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, home_with_graph};

/// Returns the readable names of the profiles in the manifest of `r.yaml`.
fn profiles_of_the_manifest(home: &Home) -> Vec<String> {
    let text = fs_err::read_to_string(home.path("manifests/r/model_manifest.yaml")).unwrap();
    let manifest = Manifest::parse(&text, "m").unwrap();
    manifest.profiles.iter().map(ManifestProfile::readable_name).collect()
}

/// A manifest loses no profile to a failure: what it has is there, and may be all that a user has published.
#[test]
fn a_failure_takes_nothing_out_of_the_manifest() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    home.run(&["build", "r.yaml"]).exits(0);
    let before = profiles_of_the_manifest(&home);
    assert_eq!(before.len(), 3);
    let recipe = fs_err::read_to_string(home.path("r.yaml")).unwrap();
    let changed = recipe.replacen("release: ", "release: 9.", 1).replace("opt: [2", "opt: [3");
    assert_ne!(changed, recipe);
    home.write("r.yaml", changed);
    let failed = home.run_with(&[("FAKE_BEHAVIOUR", "signal")], &["build", "r.yaml", "--job-timeout", "1"]);
    failed.exits(5).has(&["2 profiles failed: manifests/r/model_manifest.yaml was not changed"]);
    assert_eq!(profiles_of_the_manifest(&home), before);
}

/// Builds with a worker that misbehaves in this way, then with one that is well. Returns what was printed.
#[track_caller]
fn builds(behaviour: &str) -> String {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    let build = ["build", "r.yaml", "--job-timeout", "1", "--jobs", "1"];
    home.run_with(&[("FAKE_BEHAVIOUR", behaviour)], &build).exits(5);
    assert_eq!(profiles_of_the_manifest(&home), ["onnx-fp32"]);
    // Nothing is lost: the next build goes on from what was finished.
    home.run(&["build", "r.yaml"]).exits(0);
    home.transcript()
}

#[test]
fn one_that_crashes() {
    insta::assert_snapshot!(builds("signal"));
}

#[test]
fn one_that_exits() {
    insta::assert_snapshot!(builds("exit"));
}

#[test]
fn one_that_hangs() {
    insta::assert_snapshot!(builds("hang"));
}

#[test]
fn one_that_talks_nonsense() {
    insta::assert_snapshot!(builds("nonsense"));
}

#[test]
fn one_that_dies_in_the_middle_of_a_line() {
    insta::assert_snapshot!(builds("mid-line"));
}

#[test]
fn one_that_does_not_start() {
    let home = home_with_graph(FAKE);
    home.run_with(&[("FAKE_BEHAVIOUR", "exit-at-start")], &["build", "r.yaml"]).exits(5);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn one_that_is_not_there() {
    let home = home_with_graph(&FAKE.replace("fake", "absent"));
    home.run(&["build", "r.yaml"]).exits(5);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn third_party_workers_are_listed() {
    let home = home_with_graph(FAKE);
    home.run(&["backend", "list"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn plans_that_are_not_what_was_said() {
    let home = home_with_graph(FAKE);
    for behaviour in ["no-plan", "empty-plan", "long-plan", "plan-folder", "plan-link"] {
        home.run_with(&[("FAKE_BEHAVIOUR", behaviour)], &["build", "r.yaml", "--jobs", "1", "-q"]).exits(5);
        let blobs = fs_err::read_dir(home.path("data/store/blobs/sha256")).unwrap();
        let mut blobs = blobs.map(|blob| blob.unwrap().file_type().unwrap());
        assert!(blobs.all(|kind| kind.is_file()), "{behaviour}");
    }
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn its_warnings_are_shown_and_kept() {
    let home = home_with_graph(FAKE);
    let printed = home.run_with(&[("FAKE_BEHAVIOUR", "warning")], &["build", "r.yaml"]);
    printed.exits(0).has(&["warning: main: fake for 8.9, fp16: odd\n"]);
    let passport =
        fs_err::read_dir(home.path("data/store/nimctl/passports")).unwrap().next().unwrap().unwrap();
    let passport: serde_json::Value =
        serde_json::from_slice(&fs_err::read(passport.path()).unwrap()).unwrap();
    assert_eq!(passport["graphs"]["main"]["compilation"]["warnings"], serde_json::json!(["odd"]));
}

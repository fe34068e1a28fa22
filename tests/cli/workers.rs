//! Workers that misbehave during a build: the message says how, the other jobs go on, no manifest is written.

use crate::recipes::{FAKE, GENERIC, home_with_graph};

/// Builds with a worker that misbehaves in this way, then with one that is well. Returns what was printed.
#[track_caller]
fn builds(behaviour: &str) -> String {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    let build = ["build", "r.yaml", "--job-timeout", "1", "--jobs", "1"];
    home.run_with(&[("FAKE_BEHAVIOUR", behaviour)], &build).exits(5);
    assert!(!home.path("manifests").exists());
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

//! Workers that misbehave during a build: the message says how, the other jobs go on, no manifest is written.

use crate::support::{FAKE, GENERIC, user_with_graph};

#[track_caller]
fn check(behaviour: &str, code: i32, pieces: &[&str]) {
    let user = user_with_graph(&format!("{FAKE}{GENERIC}"));
    let mut command = user.command(&["build", "r.yaml", "--job-timeout", "1", "--jobs", "1"]);
    let said = user.said(&command.env("FAKE_BEHAVIOUR", behaviour).output().unwrap());
    said.expect(code, pieces);
    said.expect(
        code,
        &["onnx-fp32", "failed:", "fake-sm89-fp16: ", "fake-sm90-fp16: ", "no manifest was written"],
    );
    assert!(!user.path("manifests").exists());
    // Nothing is lost: the next build, with a worker that is well, goes on from what was finished.
    let said = user.run(&["build", "r.yaml"]);
    said.expect(0, &["fake-sm89-fp16  ", "2 of 4 jobs ran"]);
}

#[test]
fn one_that_crashes() {
    check("signal", 5, &["the fake worker ended during `build` with signal 11", "about to crash"]);
}

#[test]
fn one_that_exits() {
    check("exit", 5, &["exit status 3", "giving up"]);
}

#[test]
fn one_that_hangs() {
    check("hang", 5, &["did not finish `build` within 1 s", "thinking"]);
}

#[test]
fn one_that_talks_nonsense() {
    check("nonsense", 5, &["broke the protocol during `build`", "Loading model, please wait"]);
}

#[test]
fn one_that_dies_in_the_middle_of_a_line() {
    check("mid-line", 5, &["in the middle of a line"]);
}

#[test]
fn one_that_does_not_start() {
    let user = user_with_graph(FAKE);
    let said = user
        .said(&user.command(&["build", "r.yaml"]).env("FAKE_BEHAVIOUR", "exit-at-start").output().unwrap());
    said.expect(5, &["backend fake cannot be used", "cannot open shared object"]);
}

#[test]
fn one_that_is_not_there() {
    let user = user_with_graph(&FAKE.replace("fake", "absent"));
    user.run(&["build", "r.yaml"]).expect(5, &["no worker for backend `absent`", "NIMCTL_BACKENDS"]);
}

#[test]
fn third_party_workers_are_listed() {
    let user = user_with_graph(FAKE);
    user.run(&["backend", "list"]).expect(0, &["fake", "BUILDS"]);
}

//! `nimctl check`: what stands in the way of a plan, with the scripted worker in the compiler's place. What TensorRT for RTX
//! refuses of real graphs is tested in `tests/workers`.

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, home_with_graph};

#[test]
fn a_worker_that_does_not_know_the_request_is_asked_to_build() {
    let home = home_with_graph(FAKE);
    home.run(&["check", "r.yaml"]).exits(0);
    home.run(&["check", "r.yaml", "--for", "8.9", "--precision", "fp16"]).exits(0);
    assert!(!home.path("data/store").exists() && !home.path("manifests").exists(), "something was kept");
    // What the store has need not be tried again.
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.run_with(&[("FAKE_BEHAVIOUR", "exit")], &["check", "r.yaml"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_is_refused_is_named_with_what_to_do() {
    let home = home_with_graph(FAKE);
    home.run_with(&[("FAKE_BEHAVIOUR", "refuse")], &["check", "r.yaml"]).exits(3);
    home.run_with(&[("FAKE_BEHAVIOUR", "refuse")], &["check", "r.yaml", "--for", "8.9", "--output", "json"])
        .exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_compiler_that_crashes_says_no() {
    let home = home_with_graph(FAKE);
    home.run_with(&[("FAKE_BEHAVIOUR", "crash-at-check")], &["check", "r.yaml"]).exits(3);
    home.run_with(&[("FAKE_BEHAVIOUR", "signal")], &["check", "r.yaml", "--for", "8.9"]).exits(3);
    home.run_with(&[("FAKE_BEHAVIOUR", "hang")], &["check", "r.yaml", "--job-timeout", "1"]).exits(3);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_cannot_be_checked() {
    let hopper = "  - { backend: tensorrt, precisions: [fp16], targets: { gpus: [h100-sxm] } }\n";
    let home = home_with_graph(&format!("{GENERIC}{hopper}"));
    home.run(&["check", "r.yaml"]).exits(0);
    home.run(&["check", "r.yaml", "--for", "8.9"]).exits(1);
    home.write("generic.yaml", home.read("r.yaml").replace(hopper, ""));
    home.run(&["check", "generic.yaml"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_is_wrong_with_the_command() {
    let home = home_with_graph(FAKE);
    home.run(&["check", "r.yaml", "--for", "12.0"]).exits(1);
    home.run(&["check", "r.yaml", "--for", "8"]).exits(2);
    home.run(&["check", "r.yaml", "--for", "l5"]).exits(2);
    home.run(&["check", "r.yaml", "--precision", "int9"]).exits(2);
    home.run(&["check", "absent.onnx"]).exits(1);
    home.write("no.onnx", "not a model");
    home.run(&["check", "no.onnx"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn without_the_compiler_nothing_is_said() {
    let home: Home = home_with_graph(FAKE);
    home.run(&["check", "graph.onnx"]).exits(5);
    insta::assert_snapshot!(home.transcript());
}

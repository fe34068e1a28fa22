//! Graphs that can't be used: the message names recipe, line and file, and nothing is written.

use crate::graph::{Precision, write_external};
use crate::home::Home;
use crate::recipes::{GENERIC, X_RANGE, home_with_graph, recipe};

#[track_caller]
fn refuses(home: &Home) {
    home.run(&["build", "r.yaml"]).exits(1);
    assert!(!home.path("manifests").exists(), "a manifest was written");
}

#[test]
fn an_input_that_the_graph_does_not_have() {
    let home = home_with_graph(GENERIC);
    home.write("r.yaml", recipe("X: { min: [1, 4], opt: [2, 4], max: [8, 4] }", GENERIC));
    refuses(&home);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_range_that_does_not_fit_the_shape() {
    let home = home_with_graph(GENERIC);
    home.write("r.yaml", recipe("x: { min: [1, 5], opt: [2, 5], max: [8, 5] }", GENERIC));
    refuses(&home);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_file_that_is_not_onnx() {
    let home = home_with_graph(GENERIC);
    home.write("graph.onnx", "<!DOCTYPE html>\n");
    refuses(&home);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_file_that_is_not_there() {
    let home = home_with_graph(GENERIC);
    fs_err::remove_file(home.path("graph.onnx")).unwrap();
    refuses(&home);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn external_data_that_is_missing_short_or_elsewhere() {
    let home = home_with_graph(GENERIC);
    let (graph, data) = (home.path("graph.onnx"), home.path("w.bin"));
    write_external(&graph, Precision::Float32);
    home.set_up(&["build", "r.yaml"]).exits(0);
    fs_err::remove_dir_all(home.path("manifests")).unwrap();

    let whole = fs_err::read(&data).unwrap();
    fs_err::write(&data, &whole[..whole.len() - 1]).unwrap();
    refuses(&home);
    fs_err::remove_file(&data).unwrap();
    refuses(&home);

    let model = fs_err::read(&graph).unwrap();
    let at = model.windows(5).position(|bytes| bytes == b"w.bin").unwrap();
    let mut outside = model;
    outside[at..at + 5].copy_from_slice(b"../ww");
    fs_err::write(&graph, &outside).unwrap();
    refuses(&home);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_dynamic_input_needs_a_range() {
    let home = home_with_graph(GENERIC);
    let plan = "  - { backend: fake, precisions: [fp16], targets: { compute_capabilities: [\"8.9\"] } }\n";
    home.write("r.yaml", recipe("", plan).replace("    shapes:\n", ""));
    refuses(&home);
    home.write("r.yaml", recipe(X_RANGE, plan));
    home.run(&["build", "r.yaml"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_check_looks_at_graphs_that_are_there() {
    let home = home_with_graph(GENERIC);
    home.run(&["recipe", "check", "r.yaml"]).exits(0);
    home.write("r.yaml", recipe("X: { min: [1, 4], opt: [2, 4], max: [8, 4] }", GENERIC));
    home.run(&["recipe", "check", "r.yaml"]).exits(1);
    fs_err::remove_file(home.path("graph.onnx")).unwrap();
    home.run(&["recipe", "check", "r.yaml"]).exits(0);
    let said = home.transcript();
    assert!(said.contains("r.yaml:7:7: graph `main` has no input `X`"), "{said}");
}

//! Graphs that can't be used: the message names recipe, line and file, and nothing is written.

use crate::graph::{Precision, write_external};
use crate::support::{GENERIC, User, X_RANGE, recipe, user_with_graph};

#[track_caller]
fn check(user: &User, pieces: &[&str]) {
    user.run(&["build", "r.yaml"]).expect(1, pieces);
    assert!(!user.path("manifests").exists(), "a manifest was written");
}

#[test]
fn an_input_that_the_graph_does_not_have() {
    let user = user_with_graph(GENERIC);
    user.write("r.yaml", &recipe("X: { min: [1, 4], opt: [2, 4], max: [8, 4] }", GENERIC));
    check(&user, &["r.yaml:7: graph `main` has no input `X`; its inputs are `x`"]);
}

#[test]
fn a_range_that_does_not_fit_the_shape() {
    let user = user_with_graph(GENERIC);
    user.write("r.yaml", &recipe("x: { min: [1, 5], opt: [2, 5], max: [8, 5] }", GENERIC));
    check(&user, &["r.yaml:7", "input `x`: the shape range [1, 5] to [8, 5] does not fit the graph's shape"]);
}

#[test]
fn a_file_that_is_not_onnx() {
    let user = user_with_graph(GENERIC);
    user.write("graph.onnx", "<!DOCTYPE html>\n");
    check(&user, &["r.yaml:5", "graph.onnx is not an ONNX model: it is an HTML page"]);
}

#[test]
fn a_file_that_is_not_there() {
    let user = user_with_graph(GENERIC);
    fs_err::remove_file(user.path("graph.onnx")).unwrap();
    check(&user, &["r.yaml:5", "graph.onnx", "No such file"]);
}

#[test]
fn external_data_that_is_missing_short_or_elsewhere() {
    let user = user_with_graph(GENERIC);
    let (graph, data) = (user.path("graph.onnx"), user.path("w.bin"));
    write_external(&graph, Precision::Float32);
    user.run(&["build", "r.yaml"]).expect(0, &["onnx-fp32"]);
    fs_err::remove_dir_all(user.path("manifests")).unwrap();

    let whole = fs_err::read(&data).unwrap();
    fs_err::write(&data, &whole[..whole.len() - 1]).unwrap();
    check(&user, &["tensor `W`", "w.bin", "48 bytes", "47"]);
    fs_err::remove_file(&data).unwrap();
    check(&user, &["tensor `W`", "w.bin"]);

    let model = fs_err::read(&graph).unwrap();
    let at = model.windows(5).position(|bytes| bytes == b"w.bin").unwrap();
    let mut outside = model;
    outside[at..at + 5].copy_from_slice(b"../ww");
    fs_err::write(&graph, &outside).unwrap();
    check(&user, &["tensor `W`", "`../ww`: expected a relative path without `..`"]);
}

#[test]
fn a_dynamic_input_needs_a_range() {
    let user = user_with_graph(GENERIC);
    let plan = "  - { backend: fake, precisions: [fp16], targets: { compute_capabilities: [\"8.9\"] } }\n";
    user.write("r.yaml", &recipe("", plan).replace("    shapes:\n", ""));
    check(
        &user,
        &["r.yaml:5", "input `x` has the dynamic shape", "add `x: { min: […], opt: […], max: […] }`"],
    );
    user.write("r.yaml", &recipe(X_RANGE, plan));
    user.run(&["build", "r.yaml"]).expect(0, &["fake-sm89-fp16"]);
}

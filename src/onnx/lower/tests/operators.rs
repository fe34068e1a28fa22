//! Which operators are lowered.

use super::*;

#[test]
fn arithmetic_that_ends_in_a_shape_stays_exact() {
    let nodes = vec![
        node("Shape", &["x"], "s"),
        cast("s", "f", FLOAT),
        node("Mul", &["f", "w"], "g"),
        cast("g", "i", INT64),
        node("Reshape", &["x", "i"], "y"),
    ];
    let expected = [
        "Cast10(x) -> x_fp16",
        "Shape(x_fp16) -> s",
        "Cast1(s) -> f",
        "Mul(f, w) -> g",
        "Cast7(g) -> i",
        "Reshape(x_fp16, i) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (_, report) = check(graph(nodes, vec![weight("w", &[2.0])]), &options(), &expected);
    assert!(report.nodes_kept.iter().all(|kept| kept.reason == KeepReason::ShapeArithmetic));
}

#[test]
fn sums_stay_in_fp32_with_what_squares_and_divides() {
    let nodes = vec![
        node("ReduceMean", &["x"], "mean"),
        node("Sub", &["x", "mean"], "centred"),
        node("Mul", &["centred", "centred"], "square"),
        node("ReduceMean", &["square"], "variance"),
        node("Add", &["variance", "epsilon"], "safe"),
        node("Sqrt", &["safe"], "deviation"),
        node("Div", &["centred", "deviation"], "normal"),
        node("Mul", &["normal", "scale"], "y"),
    ];
    let graph = graph(nodes, vec![weight("epsilon", &[1e-12]), weight("scale", &[1.0])]);
    let expected = [
        "ReduceMean(x) -> mean",
        "Sub(x, mean) -> centred",
        "Mul(centred, centred) -> square",
        "ReduceMean(square) -> variance",
        "Add(variance, epsilon) -> safe",
        "Sqrt(safe) -> deviation",
        "Div(centred, deviation) -> normal",
        "Cast10(normal) -> normal_fp16",
        "Mul(normal_fp16, scale) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(graph, &options(), &expected);
    assert_eq!(weight_types(&graph), BTreeMap::from([("epsilon", FLOAT), ("scale", FLOAT16)]));
    assert_eq!(report.nodes_kept.len(), 7);
}

#[test]
fn softmax_is_lowered_where_the_target_sums_in_fp32() {
    let lowers = |backend: &str, lower_ops: &[&str]| {
        let options = LoweringOptions {
            lower_ops: lower_ops.iter().map(|&op| op.into()).collect(),
            ..LoweringOptions::new(Precision::Fp16, facts_of(backend).fp32_inside)
        };
        let (_, report) = lowered(graph(vec![node("Softmax", &["x"], "y")], vec![]), &options);
        report.nodes_lowered == 1
    };
    assert!(lowers("onnxruntime", &[]));
    assert!(!lowers("tensorrt-rtx", &[]));
    assert!(lowers("tensorrt-rtx", &["Softmax"]));
}

#[test]
fn operators_are_lowered_only_where_their_definition_allows_it() {
    let nodes = vec![node("TopK", &["x", "k"], "t"), node("Relu", &["t"], "y")];
    let options = LoweringOptions::new(Precision::Bf16, facts_of("onnxruntime").fp32_inside);
    let expected = ["TopK(x, k) -> t", "Cast16(t) -> t_bf16", "Relu(t_bf16) -> y_bf16", "Cast1(y_bf16) -> y"];
    let mut graph = graph(nodes, vec![]);
    graph.input.push(value("k", INT64));
    let (_, report) = check(graph, &options, &expected);
    assert_eq!(report.nodes_kept[0].reason, KeepReason::NewerOperatorSet { opset: 24 });
}

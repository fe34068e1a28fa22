//! Element types in attributes.

use super::*;
use crate::onnx::new_nodes::type_attribute;

fn with_type(node: NodeProto, attribute: &str, code: i32) -> NodeProto {
    let element_type = ElementType::from_onnx(code).unwrap();
    NodeProto { attribute: vec![type_attribute(attribute, element_type)], ..node }
}

/// Lowers `y = f(x, made)`, where a node of integers makes a value of FP32, and returns the type in that node's attribute.
#[track_caller]
fn made_type(maker: NodeProto, attribute_name: &str) -> (Option<i64>, Vec<String>) {
    let mut graph = graph(vec![maker, node("Mul", &["x", "made"], "y")], vec![]);
    graph.input.push(value("n", INT64));
    let (graph, _) = lowered(graph, &options());
    let maker = graph.node.iter().find(|node| attribute(node, attribute_name).is_some());
    (maker.and_then(|node| attribute(node, attribute_name)).map(|attribute| attribute.i()), lines(&graph))
}

#[test]
fn what_is_made_of_nothing_stays_as_it_is() {
    for (op, name, inputs) in [
        ("RandomNormal", "dtype", &[][..]),
        ("RandomUniform", "dtype", &[]),
        ("RandomNormalLike", "dtype", &["n"]),
        ("RandomUniformLike", "dtype", &["n"]),
        ("Bernoulli", "dtype", &["x"]),
        ("EyeLike", "dtype", &["n"]),
        ("EyeLike", "dtype", &["x"]),
        ("HannWindow", "output_datatype", &["n"]),
        ("HammingWindow", "output_datatype", &["n"]),
        ("BlackmanWindow", "output_datatype", &["n"]),
    ] {
        let (code, lines) = made_type(with_type(node(op, inputs, "made"), name, FLOAT), name);
        assert_eq!(code, Some(i64::from(FLOAT)), "{op}");
        assert!(lines.contains(&"Cast10(made) -> made_fp16".into()), "{op}: {lines:?}");
    }
}

#[test]
fn statistics_of_a_normalization_have_the_type_that_it_computes_in() {
    let mut layer = with_type(node("LayerNormalization", &["x", "w"], "n"), "stash_type", FLOAT);
    layer.output.push("mean".into());
    let nodes = vec![layer, node("Add", &["n", "mean"], "y")];
    let expected = [
        "Cast10(x) -> x_fp16",
        "LayerNormalization(x_fp16, w) -> n, mean",
        "Cast10(mean) -> mean_fp16",
        "Add(n, mean_fp16) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, _) = check(graph(nodes, vec![weight("w", &[1.0])]), &options(), &expected);
    assert_eq!(attribute(&graph.node[1], "stash_type").map(|code| code.i()), Some(i64::from(FLOAT)));
}

#[test]
fn a_cast_like_another_value_follows_it() {
    let nodes = vec![node("CastLike", &["n", "x"], "f"), node("Mul", &["x", "f"], "y")];
    let mut graph = graph(nodes, vec![]);
    graph.input.push(value("n", UINT8));
    let expected =
        ["Cast10(x) -> x_fp16", "CastLike(n, x_fp16) -> f", "Mul(x_fp16, f) -> y_fp16", "Cast1(y_fp16) -> y"];
    check(graph, &options(), &expected);
}

#[test]
fn an_identity_matrix_without_a_type_has_that_of_its_input() {
    let nodes = vec![node("EyeLike", &["x"], "made"), node("Mul", &["x", "made"], "y")];
    let expected = [
        "Cast10(x) -> x_fp16",
        "EyeLike(x) -> made",
        "Cast10(made) -> made_fp16",
        "Mul(x_fp16, made_fp16) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    check(graph(nodes, vec![]), &options(), &expected);
}

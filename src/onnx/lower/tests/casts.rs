//! Where the precisions meet.

use super::*;

#[test]
fn casts_stand_at_the_border() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Relu", &["m"], "y")];
    let expected = ["Cast10(x) -> x_fp16", "Mul(x_fp16, w) -> m", "Relu(m) -> y_fp16", "Cast1(y_fp16) -> y"];
    let (graph, report) = {
        let mut values = vec![1.0 + 1.0 / 4096.0; 200];
        values[7] = 1e-9;
        check(graph(nodes, vec![weight("w", &values)]), &options(), &expected)
    };
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT16)]));
    assert_eq!((report.values_vanished, report.tensors_lowered, report.casts_inserted), (1, 1, 2));
    assert_eq!((report.weights_before_bytes, report.weights_after_bytes), (800, 400));
    let error = RoundingError { tensor: "w".into(), largest_error: 1.0 / 4096.0 };
    assert_eq!(report.largest_errors, [error]);
}

#[test]
fn inputs_and_outputs_are_lowered_on_request() {
    let options = LoweringOptions { io: Io::Lower, ..options() };
    let (graph, _) = check(graph(vec![node("Relu", &["x"], "y")], vec![]), &options, &["Relu(x) -> y"]);
    assert_eq!(graph.input[0], value("x", FLOAT16));
    assert_eq!(graph.output[0], value("y", FLOAT16));
}

#[test]
fn a_cast_from_integers_is_made_once_for_each_precision() {
    let nodes = vec![cast("n", "f", FLOAT), node("Add", &["x", "f"], "a"), node("Custom", &["f", "a"], "y")];
    let mut graph = graph(nodes, vec![]);
    graph.input.push(value("n", UINT8));
    let expected = [
        "Cast10(x) -> x_fp16",
        "Cast1(n) -> f_fp32",
        "Cast10(n) -> f",
        "Add(x_fp16, f) -> a",
        "Cast1(a) -> a_fp32",
        "Custom(f_fp32, a_fp32) -> y",
    ];
    let (_, report) = check(graph, &options(), &expected);
    assert_eq!(report.nodes_kept[0].reason, KeepReason::UnknownOperator);
}

#[test]
fn a_cast_to_another_type_stays_one() {
    let nodes = vec![node("Abs", &["x"], "a"), cast("a", "d", 11), cast("d", "y", FLOAT)];
    let expected = ["Cast10(x) -> x_fp16", "Abs(x_fp16) -> a", "Cast11(a) -> d", "Cast1(d) -> y"];
    check(graph(nodes, vec![]), &options(), &expected);
}

#[test]
fn casts_that_have_nothing_left_to_do_are_none() {
    let nodes = vec![
        node("Abs", &["x"], "a"),
        cast("a", "same", FLOAT),
        cast("same", "half", FLOAT16),
        cast("half", "back", FLOAT),
        node("Neg", &["back"], "y"),
    ];
    let expected = [
        "Cast10(x) -> x_fp16",
        "Abs(x_fp16) -> a",
        "Identity(a) -> same",
        "Identity(same) -> half",
        "Identity(half) -> back",
        "Neg(back) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    check(graph(nodes, vec![]), &options(), &expected);
}

#[test]
fn emulation_keeps_fp32_and_rounds_after_each_node() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Custom", &["m"], "y")];
    let (original, _folder) = opened(&model(graph(nodes, vec![weight("w", &[1.0 + 1.0 / 4096.0])])));
    let (file, _) = written(|to| emulate(&original, &options(), to).unwrap());
    let expected = [
        "Cast10(x) -> x_fp16_fp16",
        "Cast1(x_fp16_fp16) -> x_fp16",
        "Mul(x_fp16, w) -> m_unrounded",
        "Cast10(m_unrounded) -> m_fp16",
        "Cast1(m_fp16) -> m",
        "Identity(m) -> m_fp32",
        "Custom(m_fp32) -> y",
    ];
    assert_eq!(lines(file.graph()), expected);
    assert_eq!(file.graph().initializer[0].raw_data.as_deref(), Some(&1f32.to_le_bytes()[..]));
}

#[test]
fn fp32_changes_nothing() {
    let nodes = vec![node("Mul", &["x", "w"], "y")];
    let options = LoweringOptions { precision: Precision::Fp32, io: Io::Lower, ..options() };
    let (graph, report) = check(graph(nodes, vec![weight("w", &[9e9])]), &options, &["Mul(x, w) -> y"]);
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT)]));
    assert_eq!((report.nodes_lowered, report.casts_inserted, report.values_clipped), (0, 0, 0));
}

//! Tests of lowering: hand-made graphs in, types and casts out.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::backend::facts_of;
use crate::onnx::analysis::attribute;
use crate::onnx::proto::{
    AttributeProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const FLOAT16: i32 = 10;

fn value(name: &str, code: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(code), shape: None };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("{output}_node")),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn cast(input: &str, output: &str, to: i32) -> NodeProto {
    let to = AttributeProto {
        name: Some("to".into()),
        r#type: Some(2),
        i: Some(i64::from(to)),
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![to], ..node("Cast", &[input], output) }
}

fn weight(name: &str, values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        data_type: Some(FLOAT),
        dims: vec![values.len() as i64],
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn graph(nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        node: nodes,
        initializer: weights,
        input: vec![value("x", FLOAT)],
        output: vec![value("y", FLOAT)],
        ..GraphProto::default()
    }
}

fn options() -> LoweringOptions {
    LoweringOptions::new(Precision::Fp16, facts_of("onnxruntime").fp32_inside)
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(19) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// Lowers a graph and returns the result and the report.
#[track_caller]
fn lowered(graph: GraphProto, options: &LoweringOptions) -> (GraphProto, LoweringReport) {
    let model = model(graph);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    crate::files::atomic_file::write(&from, &model.encode_to_vec()).unwrap();
    let lowered = lower(&OnnxFile::open(&from).unwrap(), options, &to).unwrap();
    let file = OnnxFile::open(&to).unwrap();
    assert_eq!(lowered.report, report(&OnnxFile::open(&from).unwrap(), options).unwrap());
    (file.model().graph.clone().unwrap(), lowered.report)
}

/// Checks the nodes, written `Op(inputs) -> output`, with a cast's type behind its name.
#[track_caller]
fn check(graph: GraphProto, options: &LoweringOptions, expected: &[&str]) -> (GraphProto, LoweringReport) {
    let (graph, report) = lowered(graph, options);
    assert_eq!(lines(&graph), expected);
    (graph, report)
}

fn lines(graph: &GraphProto) -> Vec<String> {
    let line = |node: &NodeProto| {
        let to = attribute(node, "to").map(|to| to.i().to_string()).unwrap_or_default();
        format!("{}{to}({}) -> {}", node.op_type(), node.input.join(", "), node.output.join(", "))
    };
    graph.node.iter().map(line).collect()
}

fn weight_types(graph: &GraphProto) -> BTreeMap<&str, i32> {
    graph.initializer.iter().map(|tensor| (tensor.name(), tensor.data_type())).collect()
}

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
fn a_kept_node_has_its_own_form_of_a_shared_weight() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Add", &["m", "w"], "y")];
    let options = LoweringOptions { keep_nodes: vec!["y_node".into(), "absent".into()], ..options() };
    let mut graph = graph(nodes, vec![weight("w", &[1.0])]);
    graph.value_info = vec![value("m", FLOAT)];
    let expected =
        ["Cast10(x) -> x_fp16", "Mul(x_fp16, w) -> m", "Cast1(m) -> m_fp32", "Add(m_fp32, w_fp32) -> y"];
    let (graph, report) = check(graph, &options, &expected);
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT16), ("w_fp32", FLOAT)]));
    assert_eq!(graph.value_info[0], value("m", FLOAT16));
    assert_eq!(report.nodes_kept[0].reason, KeepReason::KeptNode);
    assert_eq!(report.unmatched_keeps, ["absent"]);
}

#[test]
fn what_overflows_keeps_its_consumer() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Relu", &["m"], "y")];
    let expected = [
        "Mul(x, w) -> m",
        "Clip(m, fp16_lowest, fp16_highest) -> m_fp16_clipped",
        "Cast10(m_fp16_clipped) -> m_fp16",
        "Relu(m_fp16) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(graph(nodes, vec![weight("w", &[-3.4e38])]), &options(), &expected);
    assert_eq!(
        weight_types(&graph),
        BTreeMap::from([("fp16_highest", FLOAT), ("fp16_lowest", FLOAT), ("w", FLOAT)])
    );
    assert_eq!(report.values_clipped, 1);
    assert_eq!(report.nodes_kept[0].reason, KeepReason::Overflow { tensor: "w".into(), values: 1 });
}

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
fn a_cast_from_integers_is_made_once_for_each_precision() {
    let nodes = vec![cast("n", "f", FLOAT), node("Add", &["x", "f"], "a"), node("Custom", &["f", "a"], "y")];
    let mut graph = graph(nodes, vec![]);
    graph.input.push(value("n", INT64));
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
fn constants_become_weights_and_sizes_of_resize_stay() {
    let floats = AttributeProto {
        name: Some("value_floats".into()),
        r#type: Some(6),
        floats: vec![1.0, 2.0],
        ..AttributeProto::default()
    };
    let constant = NodeProto { attribute: vec![floats], ..node("Constant", &[], "scales") };
    let nodes = vec![constant, node("Resize", &["x", "", "scales"], "r"), node("Mul", &["r", "scales"], "y")];
    let expected = [
        "Cast10(x) -> x_fp16",
        "Resize(x_fp16, , scales_fp32) -> r",
        "Mul(r, scales) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, _) = check(graph(nodes, vec![]), &options(), &expected);
    assert_eq!(weight_types(&graph), BTreeMap::from([("scales", FLOAT16), ("scales_fp32", FLOAT)]));
}

fn subgraph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(5),
        g: Some(Box::new(graph)),
        ..AttributeProto::default()
    }
}

/// `If(c)` with the same branch twice, between a product and a Relu.
fn branching(branch: &GraphProto, op: &str) -> GraphProto {
    let choose = NodeProto {
        attribute: ["then_branch", "else_branch"].map(|name| subgraph_attribute(name, branch.clone())).into(),
        ..node(op, &["c"], "i")
    };
    let nodes = vec![node("Mul", &["x", "w"], "m"), choose, node("Relu", &["i"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0])]);
    graph.input.push(value("c", 9));
    graph
}

fn inside(graph: &GraphProto, index: usize) -> &GraphProto {
    graph.node[index].attribute[0].g.as_ref().unwrap()
}

#[test]
fn subgraphs_are_lowered_with_what_they_take_from_outside() {
    let branch = GraphProto {
        node: vec![node("Add", &["m", "w"], "inner_sum"), node("Mul", &["inner_sum", "v"], "inner")],
        initializer: vec![weight("v", &[2.0])],
        output: vec![value("inner", FLOAT)],
        value_info: vec![value("inner_sum", FLOAT)],
        ..GraphProto::default()
    };
    let expected = [
        "Cast10(x) -> x_fp16",
        "Mul(x_fp16, w) -> m",
        "If(c) -> i",
        "Relu(i) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(branching(&branch, "If"), &options(), &expected);
    let inner = inside(&graph, 2);
    assert_eq!(inner.node[0].input, ["m", "w"]);
    assert_eq!(weight_types(inner), BTreeMap::from([("v", FLOAT16)]));
    assert_eq!(inner.output[0], value("inner", FLOAT16));
    assert_eq!(inner.value_info[0], value("inner_sum", FLOAT16));
    assert_eq!(inner.initializer[0].raw_data.as_deref(), Some(&[0, 0x40][..]));
    assert_eq!((report.nodes_lowered, report.nodes_kept.len()), (7, 0));
}

#[test]
fn a_kept_subgraph_reads_fp32_and_keeps_all_that_is_in_it() {
    let branch = GraphProto {
        node: vec![node("Add", &["m", "w"], "inner")],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let options = LoweringOptions { keep_nodes: vec!["i_node".into()], ..options() };
    let expected = [
        "Cast10(x) -> x_fp16",
        "Mul(x_fp16, w) -> m",
        "Cast1(m) -> m_fp32",
        "If(c) -> i",
        "Cast10(i) -> i_fp16",
        "Relu(i_fp16) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(branching(&branch, "If"), &options, &expected);
    assert_eq!(inside(&graph, 3).node[0].input, ["m_fp32", "w_fp32"]);
    assert_eq!(inside(&graph, 3).output[0], value("inner", FLOAT));
    assert!(report.nodes_kept.iter().all(|kept| kept.reason == KeepReason::KeptNode));
}

#[test]
fn a_loop_carries_what_it_computes_in_the_lower_precision() {
    let body = GraphProto {
        node: vec![node("Mul", &["state", "w"], "next"), node("Identity", &["go"], "go_on")],
        input: vec![value("step", INT64), value("go", 9), value("state", FLOAT)],
        output: vec![value("go_on", 9), value("next", FLOAT), value("x", FLOAT)],
        ..GraphProto::default()
    };
    let repeat = NodeProto {
        attribute: vec![subgraph_attribute("body", body)],
        output: vec!["last".into(), "all".into()],
        ..node("Loop", &["n", "c", "x"], "last")
    };
    let nodes = vec![repeat, node("Add", &["last", "all"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0])]);
    graph.input.extend([value("n", INT64), value("c", 9)]);
    let expected = [
        "Cast10(x) -> x_fp16",
        "Loop(n, c, x_fp16) -> last, all",
        "Add(last, all) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, _) = check(graph, &options(), &expected);
    let body = inside(&graph, 1);
    assert_eq!(body.input[2], value("state", FLOAT16));
    assert_eq!(body.output[1..], [value("next", FLOAT16), value("x_fp16", FLOAT16)]);
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
    assert_eq!(report.nodes_kept[0].reason, KeepReason::NeedsFp32);
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
fn a_weight_that_vanishes_keeps_its_node() {
    let nodes = vec![node("Add", &["x", "w"], "y")];
    let (graph, report) = lowered(graph(nodes, vec![weight("w", &[-1e-12])]), &options());
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT)]));
    assert_eq!(report.nodes_kept[0].reason, KeepReason::Vanishing { tensor: "w".into(), values: 1 });
}

#[test]
fn emulation_keeps_fp32_and_rounds_after_each_node() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Custom", &["m"], "y")];
    let model = model(graph(nodes, vec![weight("w", &[1.0 + 1.0 / 4096.0])]));
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    crate::files::atomic_file::write(&from, &model.encode_to_vec()).unwrap();
    emulate(&OnnxFile::open(&from).unwrap(), &options(), &to).unwrap();
    let file = OnnxFile::open(&to).unwrap();
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
fn of_two_weights_of_one_name_only_the_one_of_fp32_is_lowered() {
    let bytes = TensorProto {
        data_type: Some(2),
        dims: vec![3],
        float_data: vec![],
        raw_data: Some(bytes::Bytes::from_static(&[1, 2, 3])),
        ..weight("w", &[])
    };
    for weights in [vec![weight("w", &[1.0]), bytes.clone()], vec![bytes, weight("w", &[1.0])]] {
        let (graph, _) = lowered(graph(vec![node("Mul", &["x", "w"], "y")], weights), &options());
        let three = graph.initializer.iter().find(|tensor| tensor.data_type() == 2).unwrap();
        assert_eq!(three.raw_data.as_deref(), Some(&[1, 2, 3][..]));
    }
}

#[test]
fn fp32_changes_nothing() {
    let nodes = vec![node("Mul", &["x", "w"], "y")];
    let options = LoweringOptions { precision: Precision::Fp32, io: Io::Lower, ..options() };
    let (graph, report) = check(graph(nodes, vec![weight("w", &[9e9])]), &options, &["Mul(x, w) -> y"]);
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT)]));
    assert_eq!((report.nodes_lowered, report.casts_inserted, report.values_clipped), (0, 0, 0));
}

#[test]
fn damaged_models_are_refused_or_lowered_but_never_a_panic() {
    let nodes = vec![cast("n", "f", FLOAT), node("Mul", &["x", "w"], "m"), node("Add", &["m", "f"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0, 1e9])]);
    graph.input.push(value("n", INT64));
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(19) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    let whole = model.encode_to_vec();
    for index in 0..whole.len() {
        for damage in [0x01, 0xff] {
            let mut bytes = whole.clone();
            bytes[index] ^= damage;
            fs_err::File::create(&from).and_then(|mut file| io::Write::write_all(&mut file, &bytes)).unwrap();
            // Either is right; what counts is that both answer.
            let _ = OnnxFile::open(&from).and_then(|file| lower(&file, &options(), &to));
        }
    }
}

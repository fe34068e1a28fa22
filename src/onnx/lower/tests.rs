//! Tests of lowering: hand-made graphs in, types and casts out.

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::onnx::proto::{AttributeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto};

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
    LoweringOptions { precision: Precision::Fp16, keep_ops: vec![], keep_nodes: vec![], io: Io::Keep }
}

/// Lowers a graph and returns the result and the report.
#[track_caller]
fn lowered(graph: GraphProto, options: &LoweringOptions) -> (GraphProto, LoweringReport) {
    let model = ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(19) }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    crate::atomic_file::write(&from, &model.encode_to_vec()).unwrap();
    let lowered = lower(&OnnxFile::open(&from).unwrap(), options, &to).unwrap();
    let file = OnnxFile::open(&to).unwrap();
    assert_eq!(lowered.files.graph_digest(), crate::onnx::graph_digest(&file).unwrap());
    (file.model().graph.clone().unwrap(), lowered.report)
}

/// Checks the nodes, written `Op(inputs) -> output`, with a cast's type behind its name.
#[track_caller]
fn check(graph: GraphProto, options: &LoweringOptions, expected: &[&str]) -> (GraphProto, LoweringReport) {
    let (graph, report) = lowered(graph, options);
    let line = |node: &NodeProto| {
        let to = infer::attribute(node, "to").map(|to| to.i().to_string()).unwrap_or_default();
        format!("{}{to}({}) -> {}", node.op_type(), node.input.join(", "), node.output.join(", "))
    };
    let lines: Vec<String> = graph.node.iter().map(line).collect();
    assert_eq!(lines, expected);
    (graph, report)
}

fn weight_types(graph: &GraphProto) -> BTreeMap<&str, i32> {
    graph.initializer.iter().map(|tensor| (tensor.name(), tensor.data_type())).collect()
}

#[test]
fn casts_stand_at_the_border() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Relu", &["m"], "y")];
    let expected = ["Cast10(x) -> x_fp16", "Mul(x_fp16, w) -> m", "Relu(m) -> y_fp16", "Cast1(y_fp16) -> y"];
    let (graph, report) = check(graph(nodes, vec![weight("w", &[1.0, 1e-9])]), &options(), &expected);
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT16)]));
    assert_eq!((report.values_vanished, report.tensors_lowered, report.casts_inserted), (1, 1, 2));
    assert_eq!((report.weights_before_bytes, report.weights_after_bytes), (8, 4));
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

#[test]
fn a_subgraph_reads_what_it_takes_from_outside_in_fp32() {
    let branch = GraphProto {
        node: vec![node("Add", &["m", "w"], "inner")],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let attribute = |name: &str| AttributeProto {
        name: Some(name.into()),
        r#type: Some(5),
        g: Some(Box::new(branch.clone())),
        ..AttributeProto::default()
    };
    let choose = NodeProto {
        attribute: vec![attribute("then_branch"), attribute("else_branch")],
        ..node("If", &["c"], "i")
    };
    let nodes = vec![node("Mul", &["x", "w"], "m"), choose, node("Relu", &["i"], "y")];
    let mut graph = graph(nodes, vec![weight("w", &[1.0])]);
    graph.input.push(value("c", 9));
    let expected = [
        "Cast10(x) -> x_fp16",
        "Mul(x_fp16, w) -> m",
        "Cast1(m) -> m_fp32",
        "If(c) -> i",
        "Cast10(i) -> i_fp16",
        "Relu(i_fp16) -> y_fp16",
        "Cast1(y_fp16) -> y",
    ];
    let (graph, report) = check(graph, &options(), &expected);
    let inner = &graph.node[3].attribute[0].g.as_ref().unwrap().node[0];
    assert_eq!(inner.input, ["m_fp32", "w_fp32"]);
    assert_eq!(report.nodes_kept[0].reason, KeepReason::Subgraph);
}

#[test]
fn an_epsilon_does_not_vanish() {
    let nodes = vec![node("Add", &["x", "w"], "y")];
    let (graph, report) = lowered(graph(nodes, vec![weight("w", &[-1e-12])]), &options());
    assert_eq!(graph.initializer[0].raw_data.as_deref(), Some(&[1, 0x80][..]));
    assert_eq!((report.epsilons_raised, report.values_vanished), (1, 0));
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

//! What becomes of weights and constants.

use super::*;
use crate::onnx::proto::{ValueInfoProto, type_proto};

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
fn a_weight_that_vanishes_keeps_its_node() {
    let nodes = vec![node("Add", &["x", "w"], "y")];
    let (graph, report) = lowered(graph(nodes, vec![weight("w", &[-1e-12])]), &options());
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT)]));
    assert_eq!(report.nodes_kept[0].reason, KeepReason::Vanishing { tensor: "w".into(), values: 1 });
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

/// A graph whose weights have an entry among its inputs, as a model of this version of the format.
fn with_weights_among_inputs(
    ir_version: i64,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
) -> ModelProto {
    let mut graph = graph(nodes, weights);
    let listed = graph.initializer.iter().map(|tensor| value(tensor.name(), tensor.data_type()));
    graph.input.extend(listed.collect::<Vec<_>>());
    ModelProto { ir_version: Some(ir_version), ..model(graph) }
}

fn input_types(graph: &GraphProto) -> Vec<(&str, i32)> {
    let code = |value: &ValueInfoProto| match value.r#type.as_ref().unwrap().value.as_ref().unwrap() {
        type_proto::Value::TensorType(tensor) => tensor.elem_type(),
        _ => 0,
    };
    graph.input.iter().map(|value| (value.name(), code(value))).collect()
}

#[test]
fn weights_that_an_old_format_lists_among_the_inputs_are_lowered() {
    let floats = AttributeProto {
        name: Some("value_float".into()),
        r#type: Some(1),
        f: Some(0.5),
        ..AttributeProto::default()
    };
    let half = NodeProto { attribute: vec![floats], ..node("Constant", &[], "half") };
    let nodes = vec![
        half,
        node("Mul", &["x", "w"], "m"),
        node("Add", &["m", "half"], "a"),
        node("Custom", &["a", "w"], "c"),
        node("Mul", &["c", "big"], "y"),
    ];
    let weights = vec![weight("w", &[1.0]), weight("big", &[1e9])];
    let (graph, report) = lowered_model(with_weights_among_inputs(3, nodes, weights), &options());
    let types = [("x", FLOAT), ("w", FLOAT16), ("big", FLOAT), ("w_fp32", FLOAT), ("half", FLOAT16)];
    let found = input_types(&graph);
    assert!(types.iter().all(|one| found.contains(one)), "{found:?}");
    let listed: BTreeSet<&str> = found.iter().map(|(name, _)| *name).collect();
    assert!(graph.initializer.iter().all(|tensor| listed.contains(tensor.name())), "{found:?}");
    assert_eq!(report.replaceable_weights, Vec::<String>::new());
    assert!(lines(&graph).contains(&"Mul(x_fp16, w) -> m".into()));
}

#[test]
fn weights_that_a_caller_may_replace_stay_and_are_named() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Add", &["m", "v"], "y")];
    let mut model = with_weights_among_inputs(4, nodes, vec![weight("w", &[1.0]), weight("v", &[1.0])]);
    let graph = model.graph.as_mut().unwrap();
    graph.input.retain(|input| input.name() != "v");
    let (graph, report) = lowered_model(model, &options());
    assert_eq!(input_types(&graph), [("x", FLOAT), ("w", FLOAT)]);
    assert_eq!(weight_types(&graph), BTreeMap::from([("w", FLOAT), ("v", FLOAT16)]));
    assert_eq!(report.replaceable_weights, ["w"]);
}

#[test]
fn constants_in_branches_stay_nodes_where_weights_must_be_inputs() {
    let two = AttributeProto {
        name: Some("value_float".into()),
        r#type: Some(1),
        f: Some(2.0),
        ..AttributeProto::default()
    };
    let branch = GraphProto {
        node: vec![
            NodeProto { attribute: vec![two], ..node("Constant", &[], "two") },
            node("Mul", &["x", "two"], "inner"),
        ],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let choose = NodeProto {
        attribute: ["then_branch", "else_branch"].map(|name| subgraph(name, branch.clone())).into(),
        ..node("If", &["c"], "y")
    };
    let mut model = with_weights_among_inputs(3, vec![choose], vec![]);
    model.graph.as_mut().unwrap().input.push(value("c", 9));
    let (graph, _) = lowered_model(model, &options());
    let choose = graph.node.iter().find(|node| node.op_type() == "If").unwrap();
    let inner = choose.attribute[0].g.as_ref().unwrap();
    assert_eq!((inner.initializer.len(), inner.input.len()), (0, 0));
    assert_eq!(lines(inner)[..2], ["Constant() -> two", "Cast10(two) -> two_fp16"]);
}

/// Lowers a graph with its inputs and outputs, and returns the values of the tensor that has this name.
#[track_caller]
fn stored_halves(graph: &GraphProto, name: &str) -> Vec<f32> {
    let tensor = graph.initializer.iter().find(|tensor| tensor.name() == name).unwrap();
    let halves = tensor.raw_data.as_deref().unwrap().as_chunks::<2>().0;
    halves.iter().map(|two| half::f16::from_le_bytes(*two).to_f32()).collect()
}

#[test]
fn a_weight_that_is_an_output_is_clipped_and_counted() {
    let options = LoweringOptions { io: Io::Lower, ..options() };
    let mut graph =
        graph(vec![node("Relu", &["x"], "y")], vec![weight("w", &[1e6, -1e6, 1.0, f32::INFINITY])]);
    graph.output.push(value("w", FLOAT));
    let (graph, report) = check(graph, &options, &["Relu(x) -> y"]);
    assert_eq!(stored_halves(&graph, "w"), [65504.0, -65504.0, 1.0, f32::INFINITY]);
    assert_eq!(report.values_clipped, 2);
}

#[test]
fn a_constant_that_is_an_output_is_clipped_and_counted() {
    let floats = AttributeProto {
        name: Some("value_floats".into()),
        r#type: Some(6),
        floats: vec![1e6, 1.0],
        ..AttributeProto::default()
    };
    let constant = NodeProto { attribute: vec![floats], ..node("Constant", &[], "k") };
    let options = LoweringOptions { io: Io::Lower, ..options() };
    let mut graph = graph(vec![constant, node("Relu", &["x"], "y")], vec![]);
    graph.output.push(value("k", FLOAT));
    let expected = [
        "Constant() -> k_fp32",
        "Clip(k_fp32, fp16_lowest, fp16_highest) -> k_clipped",
        "Cast10(k_clipped) -> k",
        "Relu(x) -> y",
    ];
    let (_, report) = check(graph, &options, &expected);
    assert_eq!(report.values_clipped, 1);
}

#[test]
fn a_weight_that_a_branch_gives_is_clipped_and_counted() {
    let branch = |value_of_it: f32| GraphProto {
        initializer: vec![weight("centres", &[value_of_it, 0.5])],
        output: vec![value("centres", FLOAT)],
        ..GraphProto::default()
    };
    let branches = [("then_branch", branch(1e6)), ("else_branch", branch(2.0))];
    let choose = NodeProto {
        attribute: branches.map(|(name, branch)| subgraph(name, branch)).into(),
        ..node("If", &["c"], "i")
    };
    let mut graph = graph(vec![choose, node("Mul", &["i", "x"], "y")], vec![]);
    graph.input.push(value("c", 9));
    let expected = ["Cast10(x) -> x_fp16", "If(c) -> i", "Mul(i, x_fp16) -> y_fp16", "Cast1(y_fp16) -> y"];
    let (graph, report) = check(graph, &options(), &expected);
    let inner = graph.node[1].attribute[0].g.as_ref().unwrap();
    assert_eq!(stored_halves(inner, "centres"), [65504.0, 0.5]);
    assert_eq!(report.values_clipped, 1);
}

#[test]
fn limits_are_attributes_before_operator_set_11() {
    let nodes = vec![node("Mul", &["x", "w"], "m"), node("Relu", &["m"], "y")];
    let opset = OperatorSetIdProto { domain: None, version: Some(10) };
    let model = ModelProto { opset_import: vec![opset], ..model(graph(nodes, vec![weight("w", &[1e9])])) };
    let (graph, _) = lowered_model(model, &options());
    let clip = graph.node.iter().find(|node| node.op_type() == "Clip").unwrap();
    let limit = |name| attribute(clip, name).map(|limit| limit.f());
    assert_eq!((clip.input.len(), limit("min"), limit("max")), (1, Some(-32752.0), Some(32752.0)));
}

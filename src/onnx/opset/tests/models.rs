//! What happens to a model around its nodes: versions, subgraphs, functions, names, and what is refused as a whole.

use super::*;
use prost::Message as _;

use crate::onnx::OnnxFile;
use crate::onnx::opset::{Raised, ir_version};
use crate::onnx::proto::{FunctionProto, TrainingInfoProto};
use crate::onnx::test_graphs::subgraph;

fn squeeze(input: &str, output: &str) -> NodeProto {
    with(vec![integers("axes", &[0])], node("Squeeze", &[input], output))
}

#[test]
fn versions_go_together() {
    for (opset, ir) in [(8, 3), (9, 4), (13, 7), (18, 8), (19, 9), (21, 10), (22, 10), (23, 11)] {
        assert_eq!(ir_version(opset), ir, "opset {opset}");
        let mut model = ModelProto { ir_version: Some(3), ..model_of(7, vec![node("Relu", &["x"], "y")]) };
        let raised = raise(&mut model, opset).unwrap();
        assert_eq!(raised, Raised { from: Some(7), to: opset, nodes_rewritten: 0 });
        assert_eq!((model.ir_version, model.opset_import[0].version), (Some(ir), Some(opset)));
    }
    let mut model = ModelProto { ir_version: Some(12), ..model_of(17, vec![node("Relu", &["x"], "y")]) };
    raise(&mut model, 19).unwrap();
    assert_eq!(model.ir_version, Some(12), "a later version stays");
}

#[test]
fn a_model_that_is_there_already_stays() {
    let mut model = ModelProto { ir_version: Some(12), ..model_of(24, vec![squeeze("x", "y")]) };
    let before = model.clone();
    assert_eq!(raise(&mut model, 23).unwrap(), Raised { from: Some(24), to: 24, nodes_rewritten: 0 });
    assert_eq!(model, before);
}

#[test]
fn other_domains_are_left_alone() {
    let custom = NodeProto { domain: Some("com.example".into()), ..squeeze("x", "y") };
    let mut model = model_of(11, vec![custom.clone()]);
    let theirs = OperatorSetIdProto { domain: Some("com.example".into()), version: Some(1) };
    model.opset_import.insert(0, theirs.clone());
    raise(&mut model, 21).unwrap();
    assert_eq!(model.graph.as_ref().unwrap().node, [custom]);
    assert_eq!(model.opset_import[0], theirs);
    assert_eq!(model.opset_import[1].version, Some(21));
    model.opset_import.truncate(1);
    assert_eq!(raise(&mut model, 21).unwrap().from, None);
    assert_eq!(model.opset_import[1].version, Some(21), "the operator set is there for what will be added");
}

#[test]
fn the_own_domain_has_two_names() {
    let named = NodeProto { domain: Some("ai.onnx".into()), ..squeeze("x", "y") };
    let mut model = model_of(11, vec![named]);
    model.opset_import[0].domain = Some("ai.onnx".into());
    assert_eq!(raise(&mut model, 13).unwrap().nodes_rewritten, 1);
    assert_eq!(model.opset_import[0].version, Some(13));
}

#[test]
fn subgraphs_are_raised_where_they_are() {
    let body = GraphProto {
        node: vec![squeeze("x", "inner")],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let nested = GraphProto {
        node: vec![with(vec![subgraph("then_branch", body)], node("If", &["c"], "outer"))],
        output: vec![value("outer", FLOAT)],
        ..GraphProto::default()
    };
    let choose = with(vec![subgraph("then_branch", nested)], node("If", &["c"], "i"));
    let soft = with(vec![integer("axis", 0)], node("Softmax", &["i"], "y"));
    assert_eq!(
        raised(model_of(11, vec![squeeze("x", "z"), choose, soft]), 13),
        [
            "z_node_axes = [0]",
            "Squeeze(x, z_node_axes) -> z",
            "If{then_branch=If{then_branch=inner_node_axes = [0]; Squeeze(x, inner_node_axes) -> inner}(c) -> outer}(c) -> i",
            "Shape(i) -> y_node_shape",
            "Flatten{axis=0}(i) -> y_node_flat",
            "Softmax{axis=-1}(y_node_flat) -> y_node_of_flat",
            "Reshape(y_node_of_flat, y_node_shape) -> y",
        ]
    );
}

#[test]
fn subgraphs_know_the_types_outside() {
    let body = GraphProto {
        node: vec![with(vec![number("min", 1.0)], node("Clip", &["x"], "inner"))],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let choose = with(vec![subgraph("then_branch", body)], node("If", &["c"], "y"));
    assert_eq!(
        raised(model_of(10, vec![choose]), 13),
        ["If{then_branch=inner_node_min = 1.0; Clip(x, inner_node_min) -> inner}(c) -> y"]
    );
}

fn function(opset: i64, nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: Some("Thin".into()),
        domain: Some("com.example".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["places".into()],
        node: nodes,
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(opset) }],
        ..FunctionProto::default()
    }
}

#[test]
fn functions_have_an_operator_set_of_their_own() {
    let clip = with(vec![number("min", 1.0)], node("Clip", &["a"], "c"));
    let mut model = model_of(18, vec![node("Relu", &["x"], "y")]);
    model.functions =
        vec![function(10, vec![clip, squeeze("c", "b")]), function(22, vec![squeeze("a", "b")])];
    assert_eq!(raise(&mut model, 21).unwrap().nodes_rewritten, 2);
    let found: Vec<String> = model.functions[0].node.iter().map(line).collect();
    assert_eq!(
        found,
        [
            "c_node_min = 1.0",
            "CastLike(c_node_min, a) -> c_node_min_2",
            "Clip(a, c_node_min_2) -> c",
            "b_node_axes = [0]",
            "Squeeze(c, b_node_axes) -> b",
        ]
    );
    assert_eq!(model.functions[0].opset_import[0].version, Some(21));
    assert_eq!(model.functions[1], function(22, vec![squeeze("a", "b")]));
}

#[test]
fn an_attribute_that_a_caller_of_a_function_sets_stays_an_attribute() {
    let referring = AttributeProto { ref_attr_name: Some("places".into()), ..integers("axes", &[]) };
    let mut model = model_of(18, vec![]);
    model.functions = vec![function(12, vec![with(vec![referring], node("Squeeze", &["a"], "b"))])];
    assert_eq!(
        refused(model, 21),
        "can't be raised from opset 12 to 21: node `b_node` (Squeeze) of function `Thin` takes its axes from the attribute \
         `places` of the function; export the model again with opset 21 or later"
    );
}

#[test]
fn a_mode_that_a_caller_of_a_function_sets_is_not_guessed() {
    let referring = AttributeProto { ref_attr_name: Some("places".into()), ..text("mode", "") };
    let mut model = model_of(18, vec![]);
    model.functions = vec![function(18, vec![with(vec![referring], node("GridSample", &["a", "g"], "b"))])];
    assert!(refused(model, 21).contains("takes its mode from the attribute `places` of the function"));
}

#[test]
fn names_of_what_is_added_are_new() {
    let nodes = vec![node("Relu", &["x"], "z_node_axes"), squeeze("z_node_axes", "z"), squeeze("z", "y")];
    let mut model = model_of(11, nodes);
    raise(&mut model, 13).unwrap();
    let graph = model.graph.unwrap();
    assert_eq!(lines(&graph)[1], "z_node_axes_2 = [0]");
    let mut names: Vec<&str> = graph.node.iter().map(|node| node.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[test]
fn weights_of_an_old_model_can_still_not_be_replaced() {
    let mut model = ModelProto { ir_version: Some(3), ..model_of(8, vec![node("Add", &["x", "w"], "y")]) };
    let graph = model.graph.as_mut().unwrap();
    graph.initializer = vec![TensorProto { name: Some("w".into()), ..TensorProto::default() }];
    graph.input.push(value("w", FLOAT));
    let listed = model.clone();
    raise(&mut model, 8).unwrap();
    assert_eq!(model, listed, "IR version 3 lists them");
    raise(&mut model, 19).unwrap();
    assert_eq!(model.graph.as_ref().unwrap().input, [value("x", FLOAT)]);
    let mut replaceable = ModelProto { ir_version: Some(4), ..listed };
    raise(&mut replaceable, 19).unwrap();
    assert_eq!(replaceable.graph.unwrap().input.len(), 2, "a caller may replace this one");
}

#[test]
fn training_graphs_are_raised_too() {
    let graph = GraphProto { node: vec![squeeze("a", "b")], ..GraphProto::default() };
    let mut model = model_of(11, vec![node("Relu", &["x"], "y")]);
    model.training_info = vec![TrainingInfoProto { algorithm: Some(graph), ..TrainingInfoProto::default() }];
    raise(&mut model, 13).unwrap();
    let graph = model.training_info[0].algorithm.as_ref().unwrap();
    assert_eq!(lines(graph)[1], "Squeeze(a, b_node_axes) -> b");
}

#[test]
fn what_cannot_be_raised_is_refused() {
    let model = |opset| model_of(opset, vec![node("Relu", &["x"], "y")]);
    assert_eq!(refused(model(11), 24), "can't be raised to opset 24: expected an opset from 7 to 23");
    assert_eq!(refused(model(11), 6), "can't be raised to opset 6: expected an opset from 7 to 23");
    assert_eq!(
        refused(model(6), 19),
        "uses opset 6, which can't be raised to 19 because only models of opset 7 and later can: export the model again \
         with opset 19 or later"
    );
    assert_eq!(
        refused(model_of(8, vec![node("Scan", &["", "x"], "y")]), 19),
        "can't be raised from opset 8 to 19: node `y_node` (Scan) is defined over a batch until opset 8, with the lengths of \
         its sequences; export the model again with opset 19 or later"
    );
    assert_eq!(
        refused(model_of(9, vec![node("ImageScaler", &["x"], "y")]), 19),
        "can't be raised from opset 9 to 19: node `y_node` (ImageScaler) is of an operator that ONNX does not have, or had \
         as an experiment; export the model again with opset 19 or later"
    );
}

#[test]
fn damaged_models_are_refused_or_raised_but_never_a_panic() {
    let body = GraphProto {
        node: vec![with(vec![number("min", 1.0)], node("Clip", &["s"], "inner"))],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let nodes = vec![
        with(vec![integers("perm", &[1, 0])], node("Transpose", &["x"], "t")),
        with(vec![integers("axes", &[0])], node("Unsqueeze", &["t"], "u")),
        with(vec![integer("axis", 2)], node("Softmax", &["u"], "s")),
        with(vec![subgraph("then_branch", body)], node("If", &["c"], "i")),
        with(vec![text("mode", "nearest")], node("Resize", &["i", "w"], "y")),
    ];
    let mut model = model_of(10, nodes);
    let graph = model.graph.as_mut().unwrap();
    graph.input = vec![shaped("x", FLOAT, &[2, 3]), value("c", 9)];
    graph.initializer = vec![TensorProto {
        name: Some("w".into()),
        data_type: Some(FLOAT),
        dims: vec![3],
        raw_data: Some([1f32, 2.0, 2.0].iter().flat_map(|one| one.to_le_bytes()).collect()),
        ..TensorProto::default()
    }];
    let whole = model.encode_to_vec();
    let open = |bytes: Vec<u8>| OnnxFile::from_bytes("m.onnx".as_ref(), bytes.into());
    let mut raised = 0;
    for index in 0..whole.len() {
        for damage in [0x01, 0x10, 0xff] {
            let mut bytes = whole.clone();
            bytes[index] ^= damage;
            let Ok(file) = open(bytes) else { continue };
            let Ok((file, _)) = file.raised(23) else { continue };
            open(file.model().encode_to_vec()).expect("what was raised opens");
            raised += 1;
        }
    }
    assert!(raised > whole.len() / 4, "{raised} of {} were raised", whole.len());
}

#[test]
fn sizes_that_nothing_can_have_do_no_harm() {
    let huge = |name: &str, dims: &[i64]| TensorProto {
        name: Some(name.into()),
        data_type: Some(FLOAT),
        dims: dims.to_vec(),
        ..TensorProto::default()
    };
    let concat = with(vec![integer("axis", 0)], node("Concat", &["a", "a", "a"], "sizes"));
    let nodes = vec![
        concat,
        node("Reshape", &["x", "sizes"], "r"),
        with(vec![text("mode", "linear")], node("Resize", &["r", "b"], "z")),
        node("Softmax", &["z"], "y"),
    ];
    let mut model = model_of(10, nodes);
    model.graph.as_mut().unwrap().initializer =
        vec![huge("a", &[i64::MAX]), huge("b", &[i64::MAX, i64::MAX, -1])];
    assert_eq!(raised(model, 19).last().unwrap(), "Reshape(y_node_of_flat, y_node_shape) -> y");
}

#[test]
fn a_function_may_stand_in_for_an_operator() {
    let mut model = model_of(11, vec![node("ImageScaler", &["x"], "y")]);
    model.functions = vec![FunctionProto {
        name: Some("ImageScaler".into()),
        domain: Some(String::new()),
        ..function(11, vec![])
    }];
    assert_eq!(raised(model, 19), ["ImageScaler(x) -> y"]);
}

#[test]
fn a_problem_names_the_file() {
    let problem = OpsetProblem::Target { to: 24 };
    let error = crate::onnx::OnnxError::Opset { path: "m.onnx".into(), problem };
    assert_eq!(error.to_string(), "m.onnx can't be raised to opset 24: expected an opset from 7 to 23");
}

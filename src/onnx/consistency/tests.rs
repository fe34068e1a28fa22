//! Broken by hand, as lowering could: each is found, and named.

use prost::Message as _;

use super::*;
use crate::error_kind::ErrorKind;
use crate::onnx::ElementType;
use crate::onnx::proto::{AttributeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto};

const FLOAT: i32 = 1;
const BOOL: i32 = 9;
const FLOAT16: i32 = 10;

fn value(name: &str, code: i32) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(code), shape: None };
    let kind = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(kind), ..ValueInfoProto::default() }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        name: Some(format!("make {output}")),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn integer(name: &str, number: i32) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(2),
        i: Some(number.into()),
        ..AttributeProto::default()
    }
}

fn subgraph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(5),
        g: Some(Box::new(graph)),
        ..AttributeProto::default()
    }
}

fn weight(name: &str, code: i32) -> TensorProto {
    TensorProto { name: Some(name.into()), data_type: Some(code), ..TensorProto::default() }
}

fn model(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(9),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(19) }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// `y = (x · w) + x`, with a branch.
fn sound() -> GraphProto {
    let branch = || GraphProto {
        node: vec![node("Relu", &["m"], "inner")],
        output: vec![value("inner", FLOAT)],
        ..GraphProto::default()
    };
    let attributes = ["then_branch", "else_branch"].map(|name| subgraph(name, branch())).into();
    GraphProto {
        node: vec![
            node("Mul", &["x", "w"], "m"),
            NodeProto { attribute: attributes, ..node("If", &["c"], "i") },
            node("Add", &["i", "x"], "y"),
        ],
        initializer: vec![weight("w", FLOAT)],
        input: vec![value("x", FLOAT), value("c", BOOL)],
        output: vec![value("y", FLOAT)],
        value_info: vec![value("m", FLOAT)],
        ..GraphProto::default()
    }
}

/// Checks what is said of a graph that was made of a sound one, and nothing if the original is the same.
#[track_caller]
fn check_change(change: impl FnOnce(&mut ModelProto), expected: Option<&str>) {
    let mut changed = model(sound());
    change(&mut changed);
    let said = |original: &ModelProto| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("original.onnx");
        crate::files::atomic_file::write(&path, &original.encode_to_vec()).unwrap();
        // What can't even be opened is nobody's original.
        let file = OnnxFile::open(&path).ok()?;
        check(&file, &changed, &[]).err()
    };
    let error = said(&model(sound()));
    assert!(error.as_ref().is_none_or(|error| error.kind() == ErrorKind::Bug));
    let problem = error.map(|error| match error {
        OnnxError::Inconsistent { path: _, problem } => problem,
        other => panic!("{other}"),
    });
    assert_eq!(problem.as_deref(), expected);
    assert!(said(&changed).is_none());
}

fn graph_of(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

#[test]
fn nothing_is_said_of_what_is_sound() {
    check_change(|_| {}, None);
}

#[test]
fn names() {
    check_change(
        |model| graph_of(model).node[2].name = Some("make m".into()),
        Some("two nodes are named `make m`"),
    );
    check_change(
        |model| graph_of(model).node[2].output[0] = "m".into(),
        Some("node `make y` (Add) makes `m`, which is made before"),
    );
    check_change(
        |model| graph_of(model).node[2].input[1] = "x_fp16".into(),
        Some("node `make y` (Add) reads `x_fp16`, which nothing makes"),
    );
    check_change(
        |model| graph_of(model).node.swap(0, 2),
        Some("node `make y` (Add) reads `i`, which is made later"),
    );
    check_change(
        |model| graph_of(model).output[0].name = Some("z".into()),
        Some("an output is `z`, which nothing makes"),
    );
    check_change(|model| model.ir_version = Some(3), Some("weight `w` is not among the inputs"));
}

#[test]
fn types_of_nodes() {
    check_change(
        |model| graph_of(model).initializer[0].data_type = Some(FLOAT16),
        Some("node `make m` (Mul) has `w` as float16, but `x` as float"),
    );
    check_change(
        |model| {
            let eye = node("EyeLike", &["x"], "e");
            let attribute = vec![integer("dtype", FLOAT16)];
            let graph = graph_of(model);
            graph.node.insert(0, NodeProto { attribute, ..eye });
            graph.node[1].input[1] = "e".into();
        },
        Some("node `make m` (Mul) has `e` as float16, but `x` as float"),
    );
    check_change(
        |model| graph_of(model).node[1].input[0] = "x".into(),
        Some("node `make i` (If) has `x` as float, not bool"),
    );
    check_change(
        |model| {
            graph_of(model).input[0] = value("x", ElementType::Bfloat16.to_onnx());
            graph_of(model).initializer[0] = weight("w", ElementType::Bfloat16.to_onnx());
            graph_of(model).node[0].op_type = Some("TopK".into());
        },
        Some("node `make m` (TopK) has `x` as bfloat16, which it does not take"),
    );
}

#[test]
fn declared_types() {
    check_change(
        |model| graph_of(model).output[0] = value("y", FLOAT16),
        Some("`y` is declared as float16, but it is float"),
    );
    check_change(
        |model| graph_of(model).value_info[0] = value("m", FLOAT16),
        Some("`m` is declared as float16, but it is float"),
    );
}

#[test]
fn branches_and_loops() {
    check_change(
        |model| {
            let branch = graph_of(model).node[1].attribute[0].g.as_mut().unwrap();
            branch.node[0] =
                NodeProto { attribute: vec![integer("to", FLOAT16)], ..node("Cast", &["m"], "inner") };
            branch.output[0] = value("inner", FLOAT16);
            graph_of(model).node[2] =
                NodeProto { attribute: vec![integer("to", FLOAT)], ..node("Cast", &["i"], "y") };
        },
        Some("node `make i` (If) has `inner` as float, but `inner` as float16"),
    );
    let repeat = |state: i32, to: i32| {
        let body = GraphProto {
            node: vec![
                NodeProto { attribute: vec![integer("to", to)], ..node("Cast", &["state"], "next") },
                node("Identity", &["go"], "go_on"),
            ],
            input: vec![value("step", 7), value("go", BOOL), value("state", state)],
            output: vec![value("go_on", BOOL), value("next", to)],
            ..GraphProto::default()
        };
        let attribute = vec![subgraph("body", body)];
        let repeat = NodeProto { attribute, ..node("Loop", &["", "c", "m"], "last") };
        move |model: &mut ModelProto| graph_of(model).node.insert(1, repeat)
    };
    check_change(repeat(FLOAT, FLOAT), None);
    check_change(
        repeat(FLOAT, FLOAT16),
        Some("node `make last` (Loop) has `next` as float16, but `state` as float"),
    );
    check_change(
        repeat(FLOAT16, FLOAT16),
        Some("node `make last` (Loop) has `m` as float, but `state` as float16"),
    );
}

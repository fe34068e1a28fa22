//! Broken by hand, as lowering could: each is found, and named.

use prost::Message as _;

use super::*;
use crate::error_kind::ErrorKind;
use crate::onnx::ElementType;
use crate::onnx::test_graphs::{BOOL, FLOAT, FLOAT16, integer, model, node, subgraph, value};

fn weight(name: &str, code: i32) -> TensorProto {
    TensorProto { name: Some(name.into()), data_type: Some(code), ..TensorProto::default() }
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
        |model| graph_of(model).node[2].name = Some("m_node".into()),
        Some("two nodes are named `m_node`"),
    );
    check_change(
        |model| graph_of(model).node[2].output[0] = "m".into(),
        Some("node `y_node` (Add) makes `m`, which is made before"),
    );
    check_change(
        |model| graph_of(model).node[2].input[1] = "x_fp16".into(),
        Some("node `y_node` (Add) reads `x_fp16`, which nothing makes"),
    );
    check_change(
        |model| graph_of(model).node.swap(0, 2),
        Some("node `y_node` (Add) reads `i`, which is made later"),
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
        Some("node `m_node` (Mul) has `w` as float16, but `x` as float"),
    );
    check_change(
        |model| {
            let eye = node("EyeLike", &["x"], "e");
            let attribute = vec![integer("dtype", FLOAT16.into())];
            let graph = graph_of(model);
            graph.node.insert(0, NodeProto { attribute, ..eye });
            graph.node[1].input[1] = "e".into();
        },
        Some("node `m_node` (Mul) has `e` as float16, but `x` as float"),
    );
    check_change(
        |model| graph_of(model).node[1].input[0] = "x".into(),
        Some("node `i_node` (If) has `x` as float, not bool"),
    );
    check_change(
        |model| {
            graph_of(model).input[0] = value("x", ElementType::Bfloat16.to_onnx());
            graph_of(model).initializer[0] = weight("w", ElementType::Bfloat16.to_onnx());
            graph_of(model).node[0].op_type = Some("TopK".into());
        },
        Some("node `m_node` (TopK) has `x` as bfloat16, which it does not take"),
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
                NodeProto { attribute: vec![integer("to", FLOAT16.into())], ..node("Cast", &["m"], "inner") };
            branch.output[0] = value("inner", FLOAT16);
            graph_of(model).node[2] =
                NodeProto { attribute: vec![integer("to", FLOAT.into())], ..node("Cast", &["i"], "y") };
        },
        Some("node `i_node` (If) has `inner` as float, but `inner` as float16"),
    );
    let repeat = |state: i32, to: i32| {
        let body = GraphProto {
            node: vec![
                NodeProto { attribute: vec![integer("to", to.into())], ..node("Cast", &["state"], "next") },
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
        Some("node `last_node` (Loop) has `next` as float16, but `state` as float"),
    );
    check_change(
        repeat(FLOAT16, FLOAT16),
        Some("node `last_node` (Loop) has `m` as float, but `state` as float16"),
    );
}

//! Tests of lowering: hand-made graphs in, types and casts out.

mod casts;
mod damaged;
mod exactness;
mod operators;
mod subgraphs;
mod sums;
mod type_attributes;
mod weights;

use std::collections::BTreeMap;

use prost::Message as _;

use super::*;
use crate::backend::facts_of;
use crate::onnx::analysis::attribute;
use crate::onnx::proto::{AttributeProto, NodeProto, OperatorSetIdProto};
use crate::onnx::test_graphs::{BOOL, FLOAT, FLOAT16, INT64, UINT8, integer, model, node, subgraph, value};

fn cast(input: &str, output: &str, to: i32) -> NodeProto {
    NodeProto { attribute: vec![integer("to", to.into())], ..node("Cast", &[input], output) }
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

/// Lowers a graph and returns the result and the report.
#[track_caller]
fn lowered(graph: GraphProto, options: &LoweringOptions) -> (GraphProto, LoweringReport) {
    lowered_model(model(graph), options)
}

#[track_caller]
fn lowered_model(model: ModelProto, options: &LoweringOptions) -> (GraphProto, LoweringReport) {
    let (file, _folder) = opened(&model);
    let (written, lowered) = written(|to| lower(&file, options, to).unwrap());
    assert_eq!(lowered.report, report(&file, options).unwrap());
    (written.model().graph.clone().unwrap(), lowered.report)
}

/// Returns a model as a file, which is gone with its folder.
#[track_caller]
fn opened(model: &ModelProto) -> (OnnxFile, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.onnx");
    crate::files::atomic_file::write(&path, &model.encode_to_vec()).unwrap();
    (OnnxFile::open(&path).unwrap(), folder)
}

/// Returns what is written, and what writing it returns.
#[track_caller]
fn written<T>(write: impl FnOnce(&Path) -> T) -> (OnnxFile, T) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.onnx");
    let returned = write(&path);
    (OnnxFile::open(&path).unwrap(), returned)
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

/// Returns the kept nodes of a graph whose inputs are `x` (FP32) and these, each as its name, an operator and a reason.
fn kept(nodes: Vec<NodeProto>, weights: Vec<TensorProto>, inputs: &[(&str, i32)]) -> Vec<String> {
    let mut graph = graph(nodes, weights);
    graph.input.extend(inputs.iter().map(|(name, code)| value(name, *code)));
    kept_in(graph)
}

fn kept_in(graph: GraphProto) -> Vec<String> {
    let (_, report) = lowered(graph, &options());
    let line = |kept: &KeptNode| {
        let reason = serde_json::to_value(&kept.reason).unwrap();
        let reason = reason.as_str().map_or_else(|| reason.to_string(), String::from);
        format!("{} {}: {reason}", kept.op_type, kept.node.trim_end_matches("_node"))
    };
    report.nodes_kept.iter().map(line).collect()
}

//! Tests of lowering: hand-made graphs in, types and casts out.

mod casts;
mod damaged;
mod exactness;
mod names;
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
use crate::onnx::proto::{
    AttributeProto, NodeProto, OperatorSetIdProto, TypeProto, ValueInfoProto, type_proto,
};

const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT64: i32 = 7;
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

fn subgraph_attribute(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(5),
        g: Some(Box::new(graph)),
        ..AttributeProto::default()
    }
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

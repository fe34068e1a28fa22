//! `nimctl inspect`: of a model; of a plan, `inspect_plan`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::onnx::summary::{NodeCount, OperatorCount, Summary};
use nimctl::onnx::{Dimension, ElementType, TensorInfo};
use nimctl::ops::inspect::{Inspected, inspect};
use serde::Serialize;

use super::inspect_plan;
use crate::exit::{Failure, done};
use crate::output::{Output, harmless};
use crate::table::{size, table};

/// `nimctl.inspect/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    path: String,
    size_bytes: u64,
    ir_version: i64,
    producer: Producer<'a>,
    opsets: Vec<OpsetView<'a>>,
    inputs: Vec<ValueView<'a>>,
    outputs: Vec<ValueView<'a>>,
    nodes: NodesView,
    operators: Vec<OperatorView<'a>>,
    parameters: Vec<ParameterView>,
    functions: Vec<FunctionView<'a>>,
    external_files: Vec<FileView>,
}

#[derive(Serialize)]
struct Producer<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct OpsetView<'a> {
    domain: &'a str,
    version: i64,
}

#[derive(Serialize)]
struct ValueView<'a> {
    name: &'a str,
    /// Null for a value that is not a tensor.
    element_type: Option<&'static str>,
    /// Null where the rank is unknown.
    shape: Option<Vec<DimensionView<'a>>>,
}

/// A number, a symbol, or null.
#[derive(Serialize)]
#[serde(untagged)]
enum DimensionView<'a> {
    Fixed(i64),
    Symbolic(&'a str),
    Unknown(()),
}

#[derive(Serialize)]
struct NodesView {
    total: u64,
    graph: u64,
    subgraphs: u64,
    functions: u64,
}

#[derive(Serialize)]
struct OperatorView<'a> {
    domain: &'a str,
    name: &'a str,
    nodes: NodesView,
}

#[derive(Serialize)]
struct ParameterView {
    element_type: &'static str,
    tensors: u64,
    values: u64,
    size_bytes: u64,
}

#[derive(Serialize)]
struct FunctionView<'a> {
    domain: &'a str,
    name: &'a str,
    nodes: u64,
}

#[derive(Serialize)]
struct FileView {
    path: String,
    size_bytes: u64,
}

pub(crate) fn run(model: &Path, output: &Output) -> Result<ExitCode, Failure> {
    match inspect(model)? {
        Inspected::Model(summary) => output.result(&text(model, &summary), &view(model, &summary)),
        Inspected::Plan(plan) => {
            output.result(&inspect_plan::text(model, &plan), &inspect_plan::view(model, &plan));
        }
    }
    Ok(done())
}

fn view<'a>(model: &Path, summary: &'a Summary) -> View<'a> {
    let Summary {
        size_bytes,
        ir_version,
        producer_name,
        producer_version,
        opsets,
        inputs,
        outputs,
        nodes,
        operators,
        parameters,
        functions,
        external_files,
    } = summary;
    View {
        schema: "nimctl.inspect/1",
        path: model.display().to_string(),
        size_bytes: *size_bytes,
        ir_version: *ir_version,
        producer: Producer { name: producer_name, version: producer_version },
        opsets: opsets
            .iter()
            .map(|opset| OpsetView { domain: &opset.domain, version: opset.version })
            .collect(),
        inputs: inputs.iter().map(value_view).collect(),
        outputs: outputs.iter().map(value_view).collect(),
        nodes: nodes_view(nodes),
        operators: operators
            .iter()
            .map(|operator| OperatorView {
                domain: &operator.domain,
                name: &operator.op_type,
                nodes: nodes_view(&operator.nodes),
            })
            .collect(),
        parameters: parameters
            .iter()
            .map(|count| ParameterView {
                element_type: count.element_type.as_str(),
                tensors: count.tensors,
                values: count.values,
                size_bytes: count.size_bytes,
            })
            .collect(),
        functions: functions
            .iter()
            .map(|function| FunctionView {
                domain: &function.domain,
                name: &function.name,
                nodes: function.nodes,
            })
            .collect(),
        external_files: external_files
            .iter()
            .map(|file| FileView { path: file.path.display().to_string(), size_bytes: file.size_bytes })
            .collect(),
    }
}

fn value_view(value: &TensorInfo) -> ValueView<'_> {
    let dimension = |dimension| match dimension {
        &Dimension::Fixed(count) => DimensionView::Fixed(count),
        Dimension::Symbolic(symbol) => DimensionView::Symbolic(symbol),
        Dimension::Unknown => DimensionView::Unknown(()),
    };
    ValueView {
        name: &value.name,
        element_type: (value.element_type != ElementType::Undefined).then(|| value.element_type.as_str()),
        shape: value.rank_known.then(|| value.shape.iter().map(dimension).collect()),
    }
}

fn nodes_view(nodes: &NodeCount) -> NodesView {
    let NodeCount { graph, subgraphs, functions } = *nodes;
    NodesView { total: nodes.total(), graph, subgraphs, functions }
}

fn text(model: &Path, summary: &Summary) -> String {
    let mut text =
        format!("{}: {}, IR version {}", model.display(), size(summary.size_bytes), summary.ir_version);
    if !summary.producer_name.is_empty() {
        let producer = format!("{} {}", summary.producer_name, summary.producer_version);
        let _ = write!(text, ", produced by {}", plain(producer.trim_end()));
    }
    let opsets = summary.opsets.iter().map(|opset| format!("{} {}", plain(&opset.domain), opset.version));
    let _ = writeln!(text, "\nopsets: {}", opsets.collect::<Vec<_>>().join(", "));
    let _ = writeln!(text, "nodes: {}", summary.nodes.total());
    let mut section = |heading: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(heading, &rows));
        }
    };
    section(&["INPUT", "TYPE", "SHAPE"], summary.inputs.iter().map(value_row).collect());
    section(&["OUTPUT", "TYPE", "SHAPE"], summary.outputs.iter().map(value_row).collect());
    section(
        &["PARAMETERS", "TENSORS", "VALUES", "SIZE"],
        summary
            .parameters
            .iter()
            .map(|count| {
                let (tensors, values) = (count.tensors.to_string(), count.values.to_string());
                vec![count.element_type.to_string(), tensors, values, size(count.size_bytes)]
            })
            .collect(),
    );
    let nested = summary.nodes.total() > summary.nodes.graph;
    let heading = ["OPERATOR", "NODES", "IN SUBGRAPHS", "IN FUNCTIONS"];
    section(
        if nested { &heading } else { &heading[..2] },
        summary.operators.iter().map(|operator| operator_row(operator, nested)).collect(),
    );
    section(
        &["FUNCTION", "NODES"],
        summary
            .functions
            .iter()
            .map(|function| vec![qualified(&function.domain, &function.name), function.nodes.to_string()])
            .collect(),
    );
    section(
        &["EXTERNAL FILE", "SIZE"],
        summary
            .external_files
            .iter()
            .map(|file| vec![plain(&file.path.display().to_string()), size(file.size_bytes)])
            .collect(),
    );
    text
}

fn value_row(value: &TensorInfo) -> Vec<String> {
    let element_type = match value.element_type {
        ElementType::Undefined => "not a tensor".into(),
        element_type => element_type.to_string(),
    };
    let dimensions: Vec<String> = value.shape.iter().map(|dimension| plain(&dimension.to_string())).collect();
    let shape = if value.rank_known { format!("[{}]", dimensions.join(", ")) } else { "?".into() };
    vec![plain(&value.name), element_type, shape]
}

fn operator_row(operator: &OperatorCount, nested: bool) -> Vec<String> {
    let NodeCount { graph: _, subgraphs, functions } = operator.nodes;
    let mut row = vec![qualified(&operator.domain, &operator.op_type), operator.nodes.total().to_string()];
    if nested {
        row.extend([subgraphs.to_string(), functions.to_string()]);
    }
    row
}

/// Returns a name with its domain, unless the domain is ONNX's own.
fn qualified(domain: &str, name: &str) -> String {
    if domain == "ai.onnx" { plain(name) } else { plain(&format!("{domain}.{name}")) }
}

/// Returns a name from the file on one line, with control characters escaped.
pub(super) fn plain(name: &str) -> String {
    harmless(name).replace('\n', "\\n").replace('\t', "\\t")
}

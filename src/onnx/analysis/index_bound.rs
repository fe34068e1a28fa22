//! How many rows the tables have that a graph's inputs index: the size of a vocabulary, read from the graph.
//!
//! A value that is looked up in a table must be less than the table's length, or the graph fails. So an input is followed
//! from node to node as long as its values stay what they are, and every Gather from a constant table on the way is a bound.

use std::collections::BTreeMap;

use super::node::nodes;
use crate::onnx::file::OnnxFile;
use crate::onnx::proto::{NodeProto, TensorProto};

/// Operators that give the values of their first input, cast, moved, repeated or in part, and no others.
const SAME_VALUES: &[&str] = &[
    "Cast",
    "Expand",
    "Flatten",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Lookups: the operator, the place of the table, and the place of its indices among the node's inputs.
const LOOKUPS: &[(&str, usize, usize)] = &[
    ("Gather", 0, 1),
    ("GatherBlockQuantized", 0, 1),
    // Of ONNX Runtime: words, then segments.
    ("EmbedLayerNormalization", 2, 0),
    ("EmbedLayerNormalization", 4, 1),
];

/// Returns, by input, the number that all of its values must be less than; inputs that index no constant table are left
/// out.
pub fn index_bounds(file: &OnnxFile) -> BTreeMap<String, i64> {
    let nodes = nodes(file.graph());
    let lengths = table_lengths(file, &nodes);
    let mut readers: BTreeMap<&str, Vec<&NodeProto>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| SAME_VALUES.contains(&node.op_type())) {
        readers.entry(node.input.first().map_or("", String::as_str)).or_default().push(node);
    }
    let inputs = file.inputs();
    let mut origin: BTreeMap<&str, &str> = BTreeMap::new();
    let mut to_follow: Vec<(&str, &str)> =
        inputs.iter().map(|info| (info.name.as_str(), info.name.as_str())).collect();
    while let Some((value, input)) = to_follow.pop() {
        if origin.insert(value, input).is_some() {
            continue;
        }
        for node in readers.get(value).into_iter().flatten() {
            to_follow.extend(
                node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), input)),
            );
        }
    }
    let mut bounds: BTreeMap<String, i64> = BTreeMap::new();
    for node in &nodes {
        for (_, table, indices) in LOOKUPS.iter().filter(|lookup| lookup.0 == node.op_type()) {
            let length = node.input.get(*table).and_then(|name| lengths.get(name.as_str()));
            let length = length.and_then(|dims| dims.get(axis(node, dims.len())?)).copied();
            let input = node.input.get(*indices).and_then(|name| origin.get(name.as_str()));
            if let (Some(length @ 1..), Some(input)) = (length, input) {
                let bound = bounds.entry((*input).to_owned()).or_insert(length);
                *bound = length.min(*bound);
            }
        }
    }
    bounds
}

/// Returns the dimensions of every constant, by name; those of a constant that is cast or dequantized too.
fn table_lengths<'a>(file: &'a OnnxFile, nodes: &[&'a NodeProto]) -> BTreeMap<&'a str, &'a [i64]> {
    let mut tables: BTreeMap<&str, &[i64]> = BTreeMap::new();
    let mut add = |tensor: &'a TensorProto| {
        tables.insert(tensor.name(), &tensor.dims);
    };
    file.graph().initializer.iter().for_each(&mut add);
    for node in nodes {
        let from = node.input.first().and_then(|name| tables.get(name.as_str())).copied();
        let value = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        let dims = match node.op_type() {
            "Constant" => value.map(|tensor| tensor.dims.as_slice()),
            "Cast" | "DequantizeLinear" | "Identity" => from,
            _ => None,
        };
        if let (Some(dims), Some(output)) = (dims, node.output.first()) {
            tables.insert(output, dims);
        }
    }
    tables
}

/// Returns the dimension that a lookup indexes; `None` if the graph is malformed.
fn axis(node: &NodeProto, rank: usize) -> Option<usize> {
    let axis = node.attribute.iter().find(|attribute| attribute.name() == "axis").map_or(0, |axis| axis.i());
    let rank = i64::try_from(rank).ok()?;
    usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()
}

//! Which symbols of dimensions are names.
//!
//! Dimensions of one name have the same size; compilers insist on it. Some exporters write the same symbol for every
//! dimension that they don't know, PaddlePaddle `?`: those are as many dimensions, without a name.

use super::analysis::subgraphs_mut;
use super::proto::{GraphProto, ValueInfoProto, dimension, type_proto};

/// Words that stand for "not known".
const PLACEHOLDERS: &[&str] = &["dynamic", "nan", "none", "null", "unk", "unknown"];

/// Returns whether a symbol names a dimension: it has a letter, and is no word for a dimension that is not known.
pub(super) fn is_name(symbol: &str) -> bool {
    let is_placeholder = PLACEHOLDERS.iter().any(|word| symbol.eq_ignore_ascii_case(word));
    symbol.contains(char::is_alphabetic) && !is_placeholder
}

/// Returns whether an input or output of a graph has a dimension with a symbol that is no name.
pub(super) fn has_placeholders(graph: &GraphProto) -> bool {
    graph.input.iter().chain(&graph.output).any(|value| {
        let shape = match value.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
            Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
            _ => None,
        };
        let dimensions = shape.map(|shape| shape.dim.as_slice()).unwrap_or_default();
        dimensions.iter().any(|dimension| is_placeholder(dimension.value.as_ref()))
    })
}

/// Removes the symbols that are no names from all declarations of a graph and its subgraphs.
pub(super) fn remove_placeholders(graph: &mut GraphProto) {
    let GraphProto { input, output, value_info, node, .. } = graph;
    input.iter_mut().chain(output).chain(value_info).for_each(remove_from);
    node.iter_mut().flat_map(subgraphs_mut).for_each(remove_placeholders);
}

fn remove_from(value: &mut ValueInfoProto) {
    let kind = value.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(type_proto::Value::TensorType(tensor)) = kind {
        for dimension in tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim) {
            if is_placeholder(dimension.value.as_ref()) {
                dimension.value = None;
            }
        }
    }
}

fn is_placeholder(value: Option<&dimension::Value>) -> bool {
    matches!(value, Some(dimension::Value::DimParam(symbol)) if !is_name(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_and_say_something() {
        for name in ["N", "batch_size", "unk__214", "p2o.DynamicDimension.0", "past + 1", "ширина"] {
            assert!(is_name(name), "{name}");
        }
        for symbol in ["", "?", "-1", "*", "None", "unk", "  "] {
            assert!(!is_name(symbol), "{symbol}");
        }
    }
}

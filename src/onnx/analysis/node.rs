//! What a node says by itself, without the graph around it.

use crate::onnx::proto::{AttributeProto, GraphProto, NodeProto};

/// Returns whether a node is of ONNX's own operator set.
pub(in crate::onnx) fn is_own_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// Returns the attribute of this name.
pub(in crate::onnx) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

/// Returns a node's name; the name of its first output where it has none.
pub fn label(node: &NodeProto) -> &str {
    let unnamed = node.output.first().map(String::as_str).unwrap_or_default();
    if node.name().is_empty() { unnamed } else { node.name() }
}

/// Returns the subgraphs of a node.
pub(in crate::onnx) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

/// Returns the subgraphs of a node, to be changed, in the same order.
pub(in crate::onnx) fn subgraphs_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute
        .iter_mut()
        .flat_map(|attribute| attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs))
}

/// Returns all nodes of a graph, those of its subgraphs behind their own.
pub fn nodes(graph: &GraphProto) -> Vec<&NodeProto> {
    fn add<'a>(graph: &'a GraphProto, nodes: &mut Vec<&'a NodeProto>) {
        for node in &graph.node {
            nodes.push(node);
            subgraphs(node).for_each(|body| add(body, nodes));
        }
    }
    let mut nodes = Vec::new();
    add(graph, &mut nodes);
    nodes
}

//! Names inside the subgraphs of a node: which come from outside, and how they are renamed.

use std::collections::BTreeSet;

use crate::onnx::proto::{GraphProto, NodeProto};

/// Returns the names that the subgraphs of a node take from outside.
pub(super) fn free_names(node: &NodeProto) -> BTreeSet<String> {
    let mut free = BTreeSet::new();
    for graph in subgraphs(node) {
        let defined = defined_names(graph);
        let used = graph.node.iter().flat_map(|node| &node.input);
        let outputs = graph.output.iter().map(|output| output.name());
        let nested = graph.node.iter().flat_map(free_names);
        let names = used.map(String::as_str).chain(outputs).map(String::from).chain(nested);
        free.extend(names.filter(|name| !name.is_empty() && !defined.contains(name.as_str())));
    }
    free
}

/// Adds all names that the subgraphs of a node have for values.
pub(super) fn collect_names(node: &NodeProto, names: &mut BTreeSet<String>) {
    for graph in subgraphs(node) {
        names.extend(defined_names(graph).into_iter().map(String::from));
        for inner in &graph.node {
            names.extend(inner.input.iter().cloned());
            collect_names(inner, names);
        }
    }
}

/// Renames what the subgraphs of a node take from outside.
pub(super) fn rename_free(node: &mut NodeProto, rename: &dyn Fn(&str) -> Option<String>) {
    let graphs = node.attribute.iter_mut();
    for graph in
        graphs.flat_map(|attribute| attribute.g.as_deref_mut().into_iter().chain(&mut attribute.graphs))
    {
        let defined: BTreeSet<String> = defined_names(graph).into_iter().map(String::from).collect();
        let outside = |name: &str| if defined.contains(name) { None } else { rename(name) };
        for inner in &mut graph.node {
            for input in &mut inner.input {
                if let Some(name) = outside(input) {
                    *input = name;
                }
            }
            rename_free(inner, &outside);
        }
        for output in &mut graph.output {
            if let Some(name) = outside(output.name()) {
                output.name = Some(name);
            }
        }
    }
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

fn defined_names(graph: &GraphProto) -> BTreeSet<&str> {
    let inputs = graph.input.iter().map(|input| input.name());
    let tensors = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    let outputs = graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str));
    inputs.chain(tensors).chain(sparse.map(|tensor| tensor.name())).chain(outputs).collect()
}

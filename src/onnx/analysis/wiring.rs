//! How nodes are wired: refuses what could run nowhere, and what a graph's names leave open.
//!
//! * A value that is made twice in one graph: two nodes or two inputs of one name, or a node and an input or weight. (An
//!   input and a weight of one name are a default value; two weights of one name are let through.)
//! * Cycles of nodes, and recursive functions.
//!
//! Nodes that are merely out of order, and values that no node produces, are for the compilers to judge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::node::subgraphs;
use crate::onnx::OnnxError;
use crate::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto};

/// Most names in a message.
const MAX_NAMES: usize = 5;

/// Refuses a model whose names are ambiguous or that refers to itself.
///
/// # Errors
/// A value made twice or a cycle of nodes in any graph, subgraph or function; a cycle of calls among functions. The error
/// names it.
pub(in crate::onnx) fn check(path: &Path, model: &ModelProto) -> Result<(), OnnxError> {
    let named = |problem: Problem| match problem {
        Problem::DefinedTwice(value) => OnnxError::DefinedTwice { path: path.into(), value },
        Problem::Cycle(cycle) => OnnxError::NodeCycle { path: path.into(), cycle: in_a_row(&cycle) },
    };
    let training =
        model.training_info.iter().flat_map(|training| [&training.initialization, &training.algorithm]);
    for graph in model.graph.iter().chain(training.flatten()) {
        check_graph(graph).map_err(named)?;
    }
    for function in &model.functions {
        let inputs = || function.input.iter().map(String::as_str);
        no_name_twice(inputs()).and_then(|()| check_nodes(&function.node, inputs())).map_err(named)?;
    }
    match cycle_of_calls(&model.functions) {
        Some(cycle) => Err(OnnxError::FunctionCycle { path: path.into(), cycle: in_a_row(&cycle) }),
        None => Ok(()),
    }
}

fn in_a_row(cycle: &[String]) -> String {
    let mut names: Vec<&str> = cycle.iter().take(MAX_NAMES).map(String::as_str).collect();
    if cycle.len() > MAX_NAMES {
        names.push("…");
    }
    names.extend(cycle.first().map(String::as_str));
    names.join(" → ")
}

/// What is wrong with the nodes of one scope.
enum Problem {
    /// This value is defined more than once.
    DefinedTwice(String),
    /// The labels of the nodes of a cycle, in order.
    Cycle(Vec<String>),
}

fn check_graph(graph: &GraphProto) -> Result<(), Problem> {
    no_name_twice(graph.input.iter().map(|value| value.name()))?;
    check_nodes(&graph.node, given(graph))
}

fn no_name_twice<'g>(names: impl Iterator<Item = &'g str>) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !seen.insert(name) {
            return Err(Problem::DefinedTwice(name.into()));
        }
    }
    Ok(())
}

/// Checks the nodes of one scope, subgraphs within them first.
fn check_nodes<'g>(nodes: &'g [NodeProto], given: impl Iterator<Item = &'g str>) -> Result<(), Problem> {
    nodes.iter().flat_map(subgraphs).try_for_each(check_graph)?;
    let given: BTreeSet<&str> = given.collect();
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if makers.insert(output, index).is_some() || given.contains(output.as_str()) {
                return Err(Problem::DefinedTwice(output.clone()));
            }
        }
    }
    let waits_for: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| used(node).into_iter().filter_map(|name| makers.get(name).copied()).collect())
        .collect();
    match first_cycle(&waits_for) {
        Some(cycle) => Err(Problem::Cycle(cycle.into_iter().map(|index| label(&nodes[index])).collect())),
        None => Ok(()),
    }
}

/// Returns the values that exist before any node runs: inputs and weights.
fn given(graph: &GraphProto) -> impl Iterator<Item = &str> {
    let inputs = graph.input.iter().map(|value| value.name());
    let weights = graph.initializer.iter().map(|tensor| tensor.name());
    let sparse = graph.sparse_initializer.iter().flat_map(|sparse| &sparse.values);
    inputs.chain(weights).chain(sparse.map(|tensor| tensor.name()))
}

fn cycle_of_calls(functions: &[FunctionProto]) -> Option<Vec<String>> {
    type Key<'m> = (&'m str, &'m str, &'m str);
    let key = |function: &'_ FunctionProto| -> (String, String, String) {
        (function.domain().into(), function.name().into(), function.overload().into())
    };
    let keys: Vec<(String, String, String)> = functions.iter().map(key).collect();
    let index_of: BTreeMap<Key<'_>, usize> = keys
        .iter()
        .enumerate()
        .map(|(index, (domain, name, overload))| ((domain.as_str(), name.as_str(), overload.as_str()), index))
        .collect();
    let calls: Vec<Vec<usize>> = functions
        .iter()
        .map(|function| {
            let mut called = BTreeSet::new();
            calls_in(&function.node, &mut |node| {
                called.extend(index_of.get(&(node.domain(), node.op_type(), node.overload())));
            });
            called.into_iter().collect()
        })
        .collect();
    let cycle = first_cycle(&calls)?;
    Some(cycle.into_iter().map(|index| format!("{}.{}", keys[index].0, keys[index].1)).collect())
}

fn calls_in(nodes: &[NodeProto], visit: &mut dyn FnMut(&NodeProto)) {
    for node in nodes {
        visit(node);
        for graph in subgraphs(node) {
            calls_in(&graph.node, visit);
        }
    }
}

/// Returns the values that a node reads: its inputs, and what its subgraphs take from around them.
fn used(node: &NodeProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = node.input.iter().map(String::as_str).collect();
    subgraphs(node).for_each(|graph| names.extend(taken_from_around(graph)));
    names.remove("");
    names
}

fn taken_from_around(graph: &GraphProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = graph.output.iter().map(|value| value.name()).collect();
    graph.node.iter().for_each(|node| names.extend(used(node)));
    let made = graph.node.iter().flat_map(|node| &node.output).map(String::as_str);
    for name in made.chain(given(graph)) {
        names.remove(name);
    }
    names
}

fn label(node: &NodeProto) -> String {
    let name = if node.name().is_empty() {
        node.output.iter().find(|name| !name.is_empty()).map_or("", String::as_str)
    } else {
        node.name()
    };
    format!("`{name}` ({})", node.op_type())
}

/// Returns the first cycle of a graph given by successors, as indices in order; a node that follows itself is one too.
fn first_cycle(successors: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        Never,
        OnPath,
        Done,
    }
    let mut visits = vec![Visit::Never; successors.len()];
    for start in 0..successors.len() {
        if visits[start] != Visit::Never {
            continue;
        }
        visits[start] = Visit::OnPath;
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let Some(&successor) = successors[*at].get(*next) else {
                visits[*at] = Visit::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match visits[successor] {
                Visit::Done => {}
                Visit::OnPath => {
                    let from = path.iter().position(|(index, _)| *index == successor)?;
                    return Some(path[from..].iter().map(|(index, _)| *index).collect());
                }
                Visit::Never => {
                    visits[successor] = Visit::OnPath;
                    path.push((successor, 0));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_and_only_those() {
        for (successors, expected) in [
            (vec![], None),
            (vec![vec![1], vec![]], None),
            (vec![vec![1, 2], vec![2], vec![]], None),
            (vec![vec![0]], Some(vec![0])),
            (vec![vec![1], vec![2], vec![1]], Some(vec![1, 2])),
            (vec![vec![], vec![0], vec![3], vec![2, 0]], Some(vec![2, 3])),
        ] {
            assert_eq!(first_cycle(&successors), expected, "{successors:?}");
        }
        let long: Vec<Vec<usize>> = (1..=100_000).map(|next| vec![next % 100_000]).collect();
        assert_eq!(first_cycle(&long).map(|cycle| cycle.len()), Some(100_000));
    }
}

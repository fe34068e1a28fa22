//! Names for what is added to a graph.

use std::collections::BTreeSet;

use crate::onnx::analysis::subgraphs;
use crate::onnx::proto::{FunctionProto, GraphProto, ModelProto, NodeProto};

/// Names that no node and no value of a model has, in any graph, subgraph or function. Runtimes refuse two nodes of one
/// name, and exporters name nodes after values.
#[derive(Debug)]
pub(in crate::onnx) struct FreeNames {
    taken: BTreeSet<String>,
}

impl FreeNames {
    /// Returns what is free in a model.
    pub(in crate::onnx) fn of(model: &ModelProto) -> Self {
        let mut free = Self { taken: BTreeSet::new() };
        model.graph.iter().for_each(|graph| free.take_all_of(graph));
        for FunctionProto { input, output, node, .. } in &model.functions {
            free.add(input.iter().chain(output).map(String::as_str));
            free.take_all_in(node);
        }
        free
    }

    /// Returns a free name like the one wished for; it is taken then.
    pub(in crate::onnx) fn take(&mut self, wish: &str) -> String {
        let numbered = (2..).map(|number| format!("{wish}_{number}"));
        let mut wishes = std::iter::once(wish.to_string()).chain(numbered);
        let name = wishes.find(|name| !self.taken.contains(name)).expect("the numbers don't end");
        self.taken.insert(name.clone());
        name
    }

    fn take_all_of(&mut self, graph: &GraphProto) {
        for values in [&graph.input, &graph.output, &graph.value_info] {
            self.add(values.iter().map(|value| value.name()));
        }
        let sparse = graph.sparse_initializer.iter().flat_map(|sparse| &sparse.values);
        self.add(graph.initializer.iter().chain(sparse).map(|tensor| tensor.name()));
        self.take_all_in(&graph.node);
    }

    fn take_all_in(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            let values = node.input.iter().chain(&node.output).map(String::as_str);
            self.add(values.chain([node.name()]));
            subgraphs(node).for_each(|graph| self.take_all_of(graph));
        }
    }

    fn add<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        for name in names {
            if !self.taken.contains(name) {
                self.taken.insert(name.into());
            }
        }
    }
}

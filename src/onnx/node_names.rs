//! What the nodes of a model are called, wherever they are: in its graph, in branches and loops, in its functions.

use std::collections::BTreeSet;

use super::analysis::{label, subgraphs};
use super::file::OnnxFile;
use super::proto::NodeProto;

/// The names that options about nodes can refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNames {
    /// The operators.
    pub operators: BTreeSet<String>,
    /// The nodes; one without a name is called after its first output.
    pub nodes: BTreeSet<String>,
}

impl NodeNames {
    /// Returns the names in a model.
    pub fn of(file: &OnnxFile) -> Self {
        let mut names = Self::default();
        names.add(&file.graph().node);
        for function in &file.model().functions {
            names.add(&function.node);
        }
        names
    }

    fn add(&mut self, nodes: &[NodeProto]) {
        for node in nodes {
            self.operators.insert(node.op_type().into());
            self.nodes.insert(label(node).into());
            subgraphs(node).for_each(|graph| self.add(&graph.node));
        }
    }
}

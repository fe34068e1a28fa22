//! What is noted of a node: what becomes of it.

use super::report::KeepReason;
use crate::onnx::analysis;

/// A graph or subgraph.
pub(super) type Body<'g> = analysis::Body<'g, Choice>;
/// A node of the original graph.
pub(super) type Node<'g> = analysis::Node<'g, Choice>;

/// What is noted of a node.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) decision: Decision,
    /// Which inputs are read in the lower precision.
    pub(super) low_inputs: Vec<bool>,
    /// Which outputs are made in the lower precision.
    pub(super) low_outputs: Vec<bool>,
}

/// What becomes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Decision {
    /// It has no FP32 input or output.
    #[default]
    Untouched,
    /// It computes in the lower precision.
    Lower,
    /// It stays as it is.
    Keep(KeepReason),
}

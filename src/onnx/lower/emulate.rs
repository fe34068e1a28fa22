//! Whether the lowered graph is written, or an FP32 graph that computes what the lowered one would.
//!
//! Runtimes without half-precision arithmetic compute a lowered graph in FP32 and round only where casts stand, which
//! hides what half precision loses. The emulated graph keeps FP32 types, and rounds every weight, and every output of
//! every lowered node, to the lower precision and back. What a node does inside is in FP32, as the targets do it for
//! the operators that are lowered (see `policy`).

/// How the lower precision is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// In its own type.
    Real,
    /// In FP32, rounded after each node.
    Emulated,
}

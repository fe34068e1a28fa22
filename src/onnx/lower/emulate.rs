//! Whether the lowered graph is written, or an FP32 graph that computes what the lowered one would.
//!
//! Runtimes without half-precision arithmetic compute a lowered graph in FP32 and round only where casts stand, which
//! hides what half precision loses. The emulated graph keeps FP32 types, and rounds every weight, and every output of
//! every lowered node, to the lower precision and back. What a node does inside is in FP32, as the targets do it for
//! the operators that are lowered (see `policy`).

use std::path::Path;

use super::{Io, Lowered, LoweringOptions, Source, write_source};
use crate::onnx::proto::ValueInfoProto;
use crate::onnx::{OnnxError, OnnxFile};

/// Writes what [`emulate`](super::emulate) does, with more values of the graph as outputs, in FP32; those of `fp32` are the
/// graph's own. Values inside subgraphs can't be outputs.
///
/// # Errors
/// As [`lower`](super::lower).
pub fn emulate_with_outputs(
    file: &OnnxFile,
    options: &LoweringOptions,
    values: &[String],
    destination: &Path,
) -> Result<Lowered, OnnxError> {
    let options = LoweringOptions { io: Io::Keep, ..options.clone() };
    let mut source = Source::of(file, options.precision);
    for value in values {
        if source.graph.output.iter().all(|output| output.name() != value) {
            // Of whatever type it is: runtimes infer it.
            source
                .graph
                .output
                .push(ValueInfoProto { name: Some(value.clone()), ..ValueInfoProto::default() });
        }
    }
    write_source(file, &source, &options, Rounding::Emulated, destination)
}

/// How the lower precision is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// In its own type.
    Real,
    /// In FP32, rounded after each node.
    Emulated,
}

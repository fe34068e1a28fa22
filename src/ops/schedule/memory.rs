//! How many jobs fit into memory.

use super::Context;
use crate::machine::memory;
use crate::onnx::Precision;
use crate::worklist::{Action, Job};

/// Of the memory that is available now, the part that jobs may take together: 80 %.
const BUDGET_PERCENT: u64 = 80;
/// Assumed if the system doesn't report it: 4 GiB.
const UNKNOWN_AVAILABLE_BYTES: u64 = 4 << 30;

/// TensorRT-RTX took 2.3 GB for an ONNX of 608 MB and 4.1 GB for one of 1.26 GB: 3.3 times its size plus what its
/// libraries take.
const COMPILE_TIMES_GRAPH: u64 = 4;
const COMPILE_BASE_BYTES: u64 = 600 << 20;

/// Lowering gives the pages of the graph back as it goes: 41 MB was the maximum, for any size.
const LOWER_BYTES: u64 = 128 << 20;

/// Returns how much memory jobs may take together, in bytes.
pub(super) fn budget_bytes() -> u64 {
    memory::available_bytes().unwrap_or(UNKNOWN_AVAILABLE_BYTES) / 100 * BUDGET_PERCENT
}

/// Returns how much memory a job is likely to take, in bytes.
pub(super) fn estimate_bytes(job: &Job, context: &Context<'_>) -> u64 {
    let graph_bytes = context.resolved.graphs.get(&job.graph).map_or(0, |graph| graph.size_bytes());
    match job.document.action {
        Action::Lower => LOWER_BYTES,
        Action::Compile(_) => {
            let lowered_bytes = match job.document.lowering.precision {
                Precision::Fp32 => graph_bytes,
                Precision::Fp16 | Precision::Bf16 => graph_bytes / 2,
            };
            COMPILE_BASE_BYTES + COMPILE_TIMES_GRAPH * lowered_bytes
        }
    }
}

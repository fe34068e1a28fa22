//! `nimctl inspect` of a plan.

use std::fmt::Write as _;
use std::path::Path;

use nimctl::ops::inspect::InspectedPlan;
use nimctl::plan::{PlanHeader, PlanLayers};
use schemars::JsonSchema;
use serde::Serialize;

use super::inspect::plain;
use crate::table::{size, table};

/// What `nimctl inspect --output json` prints of a plan, `nimctl.plan/1`.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Plan")]
pub(crate) struct PlanView<'a> {
    /// `nimctl.plan/1`.
    schema: &'static str,
    /// The file.
    path: String,
    /// Its size in bytes.
    size_bytes: u64,
    /// What the plan's header says.
    header: &'a PlanHeader,
    /// What the compiler made of each layer; null if the plan has no text that can be read.
    layers: Option<&'a PlanLayers>,
}

pub(super) fn view<'a>(path: &Path, plan: &'a InspectedPlan) -> PlanView<'a> {
    let InspectedPlan { size_bytes, header, layers } = plan;
    PlanView {
        schema: "nimctl.plan/1",
        path: path.display().to_string(),
        size_bytes: *size_bytes,
        header,
        layers: layers.as_ref(),
    }
}

pub(super) fn text(path: &Path, plan: &InspectedPlan) -> String {
    let InspectedPlan { size_bytes, header, layers } = plan;
    let PlanHeader { builder_version, compute_capabilities, unknown_target_bits } = header;
    let mut text =
        format!("{}: {}, a plan of TensorRT for RTX {builder_version}\n", path.display(), size(*size_bytes));
    let capabilities: Vec<String> = compute_capabilities.iter().map(ToString::to_string).collect();
    let _ = write!(text, "compute capabilities: {}", capabilities.join(", "));
    if *unknown_target_bits != 0 {
        let _ = write!(text, ", and unknown ones (bits {unknown_target_bits:#x})");
    }
    text.push('\n');
    let Some(layers) = layers else {
        text.push_str("layers: unknown; the plan has no text that this version of nimctl can read\n");
        return text;
    };
    let _ = writeln!(text, "kernels: {}", layers.kernels);
    let _ = writeln!(text, "products: {}", layers.products_in_words());
    let _ = writeln!(text, "attention: {}", layers.attention_in_words());
    let _ = writeln!(text, "separate dequantize kernels: {}", layers.dequantize_kernels.len());
    if !layers.unknown_operations.is_empty() {
        let unknown =
            layers.unknown_operations.iter().map(|(kind, count)| format!("{count} {}", plain(kind)));
        let _ = writeln!(text, "not understood: {}", unknown.collect::<Vec<_>>().join(", "));
    }
    let mut section = |heading: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(heading, &rows));
        }
    };
    let nodes = |nodes: &[String]| match nodes {
        [] => "(not named)".to_owned(),
        nodes => plain(&nodes.join(", ")),
    };
    section(
        &["WEIGHTS", "SIZE"],
        layers
            .weight_bytes_by_type
            .iter()
            .map(|(element_type, bytes)| vec![element_type.to_string(), size(*bytes)])
            .collect(),
    );
    section(
        &["EXCEPTION", "COMPUTES IN", "WHY"],
        layers
            .exceptions(header)
            .into_iter()
            .map(|(gemm, why)| {
                let why = why.map_or_else(|| "-".to_owned(), |why| why.to_string());
                vec![nodes(&gemm.nodes), gemm.words(), why]
            })
            .collect(),
    );
    section(
        &["SEPARATE DEQUANTIZE KERNEL", "FROM", "TO", "SIZE"],
        layers
            .dequantize_kernels
            .iter()
            .map(|kernel| {
                let (from, to) = (kernel.stored.to_string(), kernel.output.to_string());
                vec![nodes(&kernel.nodes), from, to, size(kernel.size_bytes)]
            })
            .collect(),
    );
    section(
        &["TABLE OF 8 OR 4 BITS", "TYPE", "SIZE"],
        layers
            .low_bit_lookups
            .iter()
            .map(|kernel| vec![nodes(&kernel.nodes), kernel.stored.to_string(), size(kernel.size_bytes)])
            .collect(),
    );
    text
}

//! Scales of quantized numbers: some thousandths or less, where half precision has few digits left.

use std::collections::BTreeSet;

use crate::onnx::analysis::{Flow, Quantities, Rule, ValueId};

/// The operator whose outputs are quantized numbers, their scale, and their zero point.
const QUANTIZES: &str = "DynamicQuantizeLinear";
/// The place of the scale among its outputs.
const SCALE: usize = 1;

/// Returns the nodes that multiply or move scales that are computed, up to the product with what they scale.
pub(super) fn scales(flow: &Flow<'_>, quantities: &Quantities) -> BTreeSet<usize> {
    let quantizes = flow.nodes.iter().filter(|step| step.rule.is_some() && step.proto.op_type() == QUANTIZES);
    let mut pending: Vec<ValueId> =
        quantizes.filter_map(|step| step.outputs.get(SCALE).copied().flatten()).collect();
    let mut scales: BTreeSet<ValueId> = pending.iter().copied().collect();
    let mut found = BTreeSet::new();
    while let Some(value) = pending.pop() {
        for (index, _) in &flow.consumers[value] {
            let step = &flow.nodes[*index];
            let works = match step.rule {
                Some(Rule::Multiplies | Rule::Divides | Rule::Moves(_)) => found.insert(*index),
                _ => false,
            };
            let is_scale = |input: &ValueId| quantities.is_constant(*input) || scales.contains(input);
            if works && step.inputs.iter().flatten().all(is_scale) {
                let made = step.outputs.iter().copied().flatten();
                pending.extend(made.filter(|output| scales.insert(*output)));
            }
        }
    }
    found
}

//! What a loop adds to itself: states that are computed from their own earlier value by plain arithmetic.

use std::collections::BTreeSet;

use super::flow::{Flow, State, ValueId};
use super::operator_rules::Rule;

/// What must stay in FP32 because it is summed up over iterations.
#[derive(Debug, Default)]
pub(in crate::onnx) struct Carried {
    /// The nodes between a state and its next value.
    pub(in crate::onnx) nodes: BTreeSet<usize>,
    /// The states themselves.
    pub(in crate::onnx) states: Vec<State>,
}

/// Finds the states of Loop and Scan that iterations add to, or multiply. A path that leads through a product with
/// weights, a normalization, or a function with a bounded result doesn't count: rounding doesn't pile up there.
pub(in crate::onnx) fn carried(flow: &Flow<'_>) -> Carried {
    let handed_to = flow.handed_to();
    let mut carried = Carried::default();
    for state in &flow.states {
        let after = reached(state.before, |value| {
            let readers = flow.consumers[value].iter().filter(|(node, _)| piles_up(flow, *node));
            let made = readers.flat_map(|(node, _)| flow.nodes[*node].outputs.iter().flatten().copied());
            made.chain(handed_to.get(&value).into_iter().flatten().copied()).collect()
        });
        if !after.contains(&state.after) {
            continue;
        }
        let before = reached(state.after, |value| {
            let made_from = flow.producers[value].filter(|node| piles_up(flow, *node));
            let read =
                made_from.into_iter().flat_map(|node| flow.nodes[node].inputs.iter().flatten().copied());
            read.chain(flow.handed_from[value].iter().copied()).collect()
        });
        let between = |value: &Option<ValueId>| {
            value.is_some_and(|value| after.contains(&value) && before.contains(&value))
        };
        let nodes: Vec<usize> = (0..flow.nodes.len())
            .filter(|node| {
                let step = &flow.nodes[*node];
                piles_up(flow, *node) && step.inputs.iter().any(between) && step.outputs.iter().any(between)
            })
            .collect();
        if nodes.iter().any(|node| computes(flow, *node)) {
            carried.nodes.extend(nodes);
            carried.states.push(*state);
        }
    }
    carried
}

fn reached(start: ValueId, next: impl Fn(ValueId) -> Vec<ValueId>) -> BTreeSet<ValueId> {
    let mut reached = BTreeSet::from([start]);
    let mut pending = vec![start];
    while let Some(value) = pending.pop() {
        pending.extend(next(value).into_iter().filter(|value| reached.insert(*value)));
    }
    reached
}

/// Returns whether an error of a node's input is still there, at its size, in its output.
fn piles_up(flow: &Flow<'_>, node: usize) -> bool {
    !matches!(
        flow.nodes[node].rule,
        None | Some(
            Rule::Learned | Rule::Normalizes | Rule::Bounds | Rule::Counts | Rule::Units | Rule::ControlFlow
        )
    )
}

/// Returns whether a node makes new numbers, and doesn't only move or choose them.
fn computes(flow: &Flow<'_>, node: usize) -> bool {
    !matches!(
        flow.nodes[node].rule,
        Some(Rule::Moves(_) | Rule::MovesAll | Rule::Splits | Rule::Casts | Rule::Signs)
    )
}

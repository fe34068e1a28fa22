//! Sums under all their names, with what goes into them and what becomes of them.
//!
//! A sum is an operator that sums up ([`is_accumulation`]), a product with a constant that has no negative element (a mean
//! as a column of 1/n, a filter bank), squares that are added up, an exponential outside a softmax, or a constant that is too
//! small for the precision, such as an epsilon. Around each of them:
//!
//! * before: what squares, shifts and exponentiates values;
//! * after: what becomes of the sum, until values are divided or multiplied by it.

use std::collections::BTreeSet;

use super::policy::{MIN_SUMMED, is_accumulation};
use crate::onnx::analysis::{Flow, Quantities, Rule, Step, ValueId};

/// Returns the nodes of all sums and of what is around them. `vanishes` says whether the lower precision makes zeros of a
/// constant.
pub(super) fn sums(
    flow: &Flow<'_>,
    quantities: &Quantities,
    vanishes: &dyn Fn(ValueId) -> bool,
) -> BTreeSet<usize> {
    let holds_sum = holds_sum(flow, quantities, vanishes);
    let mut sums = Sums { flow, quantities, vanishes, holds_sum, found: BTreeSet::new() };
    for (index, step) in flow.nodes.iter().enumerate().filter(|(_, step)| step.rule.is_some()) {
        sums.node(index, step);
    }
    sums.found
}

struct Sums<'a, 'g> {
    flow: &'a Flow<'g>,
    quantities: &'a Quantities,
    vanishes: &'a dyn Fn(ValueId) -> bool,
    /// By value: whether it holds squares, exponentials or something very small, moved and added up at most.
    holds_sum: Vec<bool>,
    found: BTreeSet<usize>,
}

impl Sums<'_, '_> {
    fn node(&mut self, index: usize, step: &Step<'_>) {
        let op_type = step.proto.op_type();
        let input = |place: usize| step.inputs.get(place).copied().flatten();
        if self.is_sum(step) {
            self.found.insert(index);
            self.before(step);
            self.after(index);
            step.inputs.iter().flatten().for_each(|input| self.keep_sums_in(*input));
        }
        match op_type {
            "Exp" => {
                self.found.insert(index);
                self.after(index);
            }
            "Add" | "Sum" => {
                let squares = step.inputs.iter().flatten().filter(|input| self.is_square_of(**input)).count();
                if squares > 1 {
                    self.found.insert(index);
                    step.inputs.iter().flatten().for_each(|input| self.keep_sums_in(*input));
                    self.after(index);
                }
            }
            // What is close to zero decides about the result.
            "Log" | "Sqrt" | "Reciprocal" | "Pow" | "Div" => {
                let decisive = input(usize::from(op_type == "Div"));
                let is_decisive =
                    op_type != "Pow" || input(1).is_some_and(|power| !self.is_positive_whole(power));
                if let Some(decisive) = decisive.filter(|value| is_decisive && self.holds_sum[*value]) {
                    self.found.insert(index);
                    self.keep_sums_in(decisive);
                }
                if op_type == "Log" {
                    self.found.insert(index);
                    self.found.extend(input(0).and_then(|input| self.probability(input)));
                }
            }
            _ => {}
        }
        if step.inputs.iter().flatten().any(|input| (self.vanishes)(*input)) {
            self.after(index);
        }
    }

    fn is_sum(&self, step: &Step<'_>) -> bool {
        let is_weighted = matches!(step.proto.op_type(), "Conv" | "Einsum" | "Gemm" | "MatMul");
        let is_weight = |input: &ValueId| {
            let facts = self.quantities.facts(*input);
            facts.is_some_and(|facts| facts.is_non_negative && facts.elements as i64 >= MIN_SUMMED)
        };
        is_accumulation(step.proto) || is_weighted && step.inputs.iter().take(2).flatten().any(is_weight)
    }

    /// Keeps what squares and shifts values right before a sum.
    fn before(&mut self, step: &Step<'_>) {
        let mut pending: Vec<ValueId> = step.inputs.iter().take(1).copied().flatten().collect();
        while let Some(value) = pending.pop() {
            let Some(index) = self.flow.producers[value] else { continue };
            let step = &self.flow.nodes[index];
            let is_part = is_square(self.quantities, step)
                || matches!(step.proto.op_type(), "Pow" | "Abs" | "Exp" | "Sub");
            if is_part && self.found.insert(index) {
                pending.extend(step.inputs.iter().copied().flatten());
            }
        }
    }

    /// Keeps what becomes of a node's result until values are divided or multiplied by it.
    fn after(&mut self, index: usize) {
        let mut seen = BTreeSet::new();
        let mut pending: Vec<ValueId> =
            self.flow.nodes[index].outputs.iter().take(1).copied().flatten().collect();
        while let Some(value) = pending.pop() {
            for (reader, _) in &self.flow.consumers[value] {
                let step = &self.flow.nodes[*reader];
                let goes_on = matches!(
                    step.proto.op_type(),
                    "Add"
                        | "Clip"
                        | "Expand"
                        | "Log"
                        | "Max"
                        | "Pow"
                        | "Reciprocal"
                        | "Reshape"
                        | "Sqrt"
                        | "Squeeze"
                        | "Sum"
                        | "Transpose"
                        | "Unsqueeze"
                ) && !self.joins_large(step);
                if goes_on && seen.insert(*reader) {
                    self.found.insert(*reader);
                    pending.extend(step.outputs.iter().take(1).copied().flatten());
                } else if matches!(step.proto.op_type(), "Div" | "Mul" | "Sub") {
                    self.found.insert(*reader);
                }
            }
        }
    }

    /// Returns whether a node joins a sum with something else that nodes compute: a residual, not an epsilon.
    fn joins_large(&self, step: &Step<'_>) -> bool {
        matches!(step.proto.op_type(), "Add" | "Max" | "Sum") && {
            let varying: Vec<ValueId> = step
                .inputs
                .iter()
                .flatten()
                .copied()
                .filter(|input| !self.quantities.is_constant(*input))
                .collect();
            varying.len() > 1 && !varying.iter().all(|input| self.holds_sum[*input])
        }
    }

    fn is_positive_whole(&self, value: ValueId) -> bool {
        self.quantities.facts(value).is_none_or(|facts| {
            facts.is_non_negative && facts.whole.is_some_and(|whole| whole.magnitude().fract() == 0.0)
        })
    }

    /// Returns the node that makes a value, if it makes probabilities, which come close to zero.
    fn probability(&self, value: ValueId) -> Option<usize> {
        let is_probable = |op_type| matches!(op_type, "Softmax" | "Sigmoid");
        self.flow.producers[value].filter(|index| is_probable(self.flow.nodes[*index].proto.op_type()))
    }

    /// Returns whether a value is a square, moved at most.
    fn is_square_of(&self, value: ValueId) -> bool {
        let mut value = value;
        // A chain of moves is no longer than the graph.
        for _ in 0..=self.flow.nodes.len() {
            let Some(step) = self.flow.producer(value) else { return false };
            if is_square(self.quantities, step) {
                return true;
            }
            match (step.rule, step.inputs.first()) {
                (Some(Rule::Moves([0, ..]) | Rule::Splits), Some(Some(input))) => value = *input,
                _ => return false,
            }
        }
        false
    }

    /// Keeps the nodes that make such a value, from its squares and exponentials on.
    fn keep_sums_in(&mut self, value: ValueId) {
        let mut pending = vec![value];
        let mut seen = BTreeSet::new();
        while let Some(value) = pending.pop() {
            let Some(index) = self.flow.producers[value].filter(|_| seen.insert(value)) else { continue };
            if self.holds_sum[value] {
                self.found.insert(index);
                let step = &self.flow.nodes[index];
                if hands_on(self.quantities, step) {
                    pending.extend(step.inputs.iter().copied().flatten());
                }
            }
        }
    }
}

/// Returns, by value, whether it holds squares, exponentials or something very small, moved and added up at most.
fn holds_sum(flow: &Flow<'_>, quantities: &Quantities, vanishes: &dyn Fn(ValueId) -> bool) -> Vec<bool> {
    /// Nodes in order need one pass, and another to see that it was enough.
    const MAX_PASSES: usize = 8;
    let mut holds = vec![false; flow.producers.len()];
    for _ in 0..MAX_PASSES {
        let mut changed = false;
        for step in &flow.nodes {
            let mut varying =
                step.inputs.iter().flatten().filter(|input| !quantities.is_constant(**input)).peekable();
            let is_held = is_square(quantities, step)
                || step.proto.op_type() == "Exp"
                || hands_on(quantities, step)
                    && (step.inputs.iter().flatten().any(|input| vanishes(*input))
                        || varying.peek().is_some() && varying.all(|input| holds[*input]));
            for output in step.outputs.iter().flatten().filter(|_| is_held) {
                changed |= !std::mem::replace(&mut holds[*output], true);
            }
        }
        if !changed {
            break;
        }
    }
    holds
}

/// Returns whether a node squares its input.
fn is_square(quantities: &Quantities, step: &Step<'_>) -> bool {
    match step.proto.op_type() {
        "Mul" => {
            step.inputs.first().is_some_and(|first| first.is_some() && step.inputs.get(1) == Some(first))
        }
        "Pow" => step.inputs.get(1).copied().flatten().is_some_and(|power| {
            quantities
                .facts(power)
                .and_then(|facts| facts.whole)
                .is_some_and(|whole| whole.magnitude() == 2.0)
        }),
        _ => false,
    }
}

/// Returns whether a node moves, limits, scales or adds up what its inputs hold.
fn hands_on(quantities: &Quantities, step: &Step<'_>) -> bool {
    let has_constant = || step.inputs.iter().flatten().any(|input| quantities.is_constant(*input));
    match step.rule {
        Some(Rule::Moves(_) | Rule::MovesAll | Rule::Splits | Rule::Clips | Rule::Signs) => true,
        Some(Rule::Adds) => true,
        Some(Rule::Multiplies) => !is_square(quantities, step) && has_constant(),
        _ => false,
    }
}

//! Which nodes must compute in FP32 because of what their numbers mean. Both directions count:
//!
//! * Forwards ([`Quantities`]): a node that makes or reads whole numbers too large for the precision, or that works on
//!   nothing but such numbers and constants.
//! * Backwards: what ends as a shape, an index, a count, a position, in a comparison for equality, as an integer or as the
//!   condition of a loop; and what ends as an angle. The walk goes as far as products with weights, whose results are
//!   rounded whatever they are computed in.

use std::collections::BTreeMap;

use super::flow::{Flow, Step, ValueId};
use super::operator_rules::{Rule, exact_inputs, is_periodic};
use super::quantities::Quantities;
use super::quantity::Quantity;
use super::scope::Values;
use crate::onnx::ElementType;

/// Why a node's numbers must be exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::onnx) enum Exactness {
    /// Its result ends as an angle.
    Angle,
    /// It makes or reads whole numbers that may be too large.
    Whole,
    /// Its result ends as a shape, an index, a position or another whole number.
    Position,
}

/// What must be exact in a graph and its subgraphs.
#[derive(Debug)]
pub(in crate::onnx) struct Exact {
    /// By node: why its numbers must be.
    pub(in crate::onnx) nodes: Vec<Option<Exactness>>,
    /// The values that something exact is made of.
    pub(in crate::onnx) values: BTreeMap<ValueId, Exactness>,
}

/// Finds what must be exact.
pub(in crate::onnx) fn exact<V: Default>(
    values: &Values<V>,
    flow: &Flow<'_>,
    quantities: &Quantities,
) -> Exact {
    let forwards = |step| is_exact_node(values, quantities, step).then_some(Exactness::Whole);
    let nodes = flow.nodes.iter().map(forwards).collect();
    let found = Exact { nodes, values: BTreeMap::new() };
    let mut walk = Walk { values, flow, quantities, found, pending: vec![] };
    walk.start();
    walk.finish();
    walk.found
}

/// Returns whether a node makes or reads FP32 values that are whole and large, or works on nothing but such numbers and
/// what is made of them.
fn is_exact_node<V: Default>(values: &Values<V>, quantities: &Quantities, step: &Step<'_>) -> bool {
    // What only counts elements reads none.
    if step.rule.is_none_or(|rule| matches!(rule, Rule::ControlFlow | Rule::Counts)) {
        return false;
    }
    let is_float = |value: &&ValueId| values.all()[**value].element_type == Some(ElementType::Float);
    if step
        .inputs
        .iter()
        .chain(&step.outputs)
        .flatten()
        .filter(is_float)
        .any(|value| quantities.is_large(*value))
    {
        return true;
    }
    let mut varying = step
        .inputs
        .iter()
        .flatten()
        .filter(is_float)
        .filter(|input| !quantities.is_constant(**input))
        .peekable();
    varying.peek().is_some() && varying.all(|input| quantities.is_exact(*input))
}

/// A walk from what must be exact to what it is made of.
struct Walk<'a, 'g, V> {
    values: &'a Values<V>,
    flow: &'a Flow<'g>,
    quantities: &'a Quantities,
    found: Exact,
    pending: Vec<(ValueId, Exactness)>,
}

impl<V: Default> Walk<'_, '_, V> {
    fn start(&mut self) {
        for (index, step) in self.flow.nodes.iter().enumerate() {
            let Some(rule) = step.rule else { continue };
            let op_type = step.proto.op_type();
            let cast_to = if rule == Rule::Casts { self.cast_to(step) } else { None };
            // Whether a value behind weights is exactly zero, or equal to another, is chance.
            let compares = op_type == "Equal" || cast_to == Some(ElementType::Bool);
            for place in exact_inputs(op_type).iter().chain(cast_to.is_some().then_some(&0)) {
                let input = step.inputs.get(*place).copied().flatten();
                let is_chance =
                    |value: &ValueId| compares && self.quantities.get(*value) == Quantity::Learned;
                self.want(input.filter(|value| !is_chance(value)), Exactness::Position);
            }
            if cast_to.is_some() || compares || matches!(rule, Rule::Rounds | Rule::Remains) {
                self.keep(index, Exactness::Position);
            }
            if is_periodic(op_type) {
                self.keep(index, Exactness::Angle);
                self.want(step.inputs.first().copied().flatten(), Exactness::Angle);
            }
        }
        for condition in &self.flow.conditions {
            self.want(Some(*condition), Exactness::Position);
        }
    }

    /// Returns the integer or truth type that a cast makes of FP32 numbers.
    fn cast_to(&self, step: &Step<'_>) -> Option<ElementType> {
        use ElementType as E;
        let element_type = |side: &[Option<ValueId>]| {
            side.first().copied().flatten().and_then(|value| self.values.all()[value].element_type)
        };
        let is_real = |to: &E| matches!(to, E::Float | E::Float16 | E::Bfloat16 | E::Double);
        element_type(&step.outputs).filter(|to| element_type(&step.inputs) == Some(E::Float) && !is_real(to))
    }

    fn want(&mut self, value: Option<ValueId>, why: Exactness) {
        // What the graph holds is as exact as it is; what is computed from it alone must be exact too.
        if let Some(value) = value
            && self.quantities.facts(value).is_none()
            && self.found.values.get(&value).is_none_or(|known| *known < why)
        {
            self.found.values.insert(value, why);
            self.pending.push((value, why));
        }
    }

    fn keep(&mut self, node: usize, why: Exactness) {
        let reason = &mut self.found.nodes[node];
        *reason = (*reason).max(Some(why));
    }

    fn finish(&mut self) {
        while let Some((value, why)) = self.pending.pop() {
            for source in &self.flow.handed_from[value] {
                self.want(Some(*source), why);
            }
            if let Some(index) = self.flow.producers[value] {
                self.go_through(index, value, why);
            }
        }
    }

    /// Goes from a node's result to its inputs, as far as they matter.
    fn go_through(&mut self, index: usize, value: ValueId, why: Exactness) {
        let step = &self.flow.nodes[index];
        let Some(rule) = step.rule else { return };
        // Besides the elements themselves, it gives their places.
        let gives_places = step.proto.op_type() == "TopK" && step.outputs.first() != Some(&Some(value));
        let rule = if gives_places { Rule::Ranks } else { rule };
        let quantities = self.quantities;
        let inputs = || step.inputs.iter().flatten().copied();
        let goes_on: Vec<ValueId> = match rule {
            Rule::ControlFlow | Rule::Normalizes | Rule::Fills => return,
            Rule::Counts if !exact_inputs(step.proto.op_type()).contains(&0) => return,
            // What comes out is as good as what goes in.
            Rule::Learned => inputs().filter(|input| quantities.is_exact(*input)).collect(),
            Rule::Ranks => inputs().filter(|input| quantities.get(*input) != Quantity::Learned).collect(),
            // An angle made of several rounded values is as rounded as they are.
            _ if why == Exactness::Angle
                && inputs().filter(|input| quantities.get(*input) == Quantity::Learned).count() > 1 =>
            {
                return;
            }
            _ => {
                self.keep(index, why);
                inputs().collect()
            }
        };
        if !goes_on.is_empty() {
            self.keep(index, why);
        }
        for input in goes_on {
            self.want(Some(input), why);
        }
    }
}

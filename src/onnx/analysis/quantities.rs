//! Forwards: which values are whole numbers that can be large, or are made of such numbers alone.
//!
//! Sources are integers (graph inputs, shapes, counts, places), constants, and whatever is rounded. Bounds come from
//! integer types, limits ([`Rule::Clips`]), the tables that ids are looked up in, and from what a mask is.

use std::collections::BTreeMap;

use super::constant_facts::ConstantFacts;
use super::flow::{Flow, Step, ValueId};
use super::operator_rules::Rule;
use super::quantity::{Quantity, Whole};
use super::scope::Values;
use crate::onnx::ElementType;

/// After this many passes, a count that still grows (in a loop) has no bound.
const PASSES_WITH_BOUNDS: usize = 2;
/// The lattice has six steps; a pass settles at least one value.
const MAX_PASSES: usize = 64;

/// What is known of every value, by its number.
#[derive(Debug)]
pub(in crate::onnx) struct Quantities {
    of: Vec<Quantity>,
    /// Up to this many steps, the precision tells whole numbers from their neighbours.
    exact_steps: f64,
    is_constant: Vec<bool>,
    facts: Vec<Option<ConstantFacts>>,
}

impl Quantities {
    /// Finds what follows from the constants and from the bounds of the graph's inputs, for a precision that tells whole
    /// numbers apart up to `exact_steps`; `inputs` has the largest magnitudes of inputs.
    pub(in crate::onnx) fn of<V: Default>(
        values: &Values<V>,
        flow: &Flow<'_>,
        exact_steps: f64,
        facts: Vec<Option<ConstantFacts>>,
        inputs: &BTreeMap<ValueId, f64>,
    ) -> Self {
        let types: Vec<Option<ElementType>> = values.all().iter().map(|value| value.element_type).collect();
        let mut known = Self {
            of: vec![Quantity::Unreached; types.len()],
            exact_steps,
            is_constant: facts.iter().map(Option::is_some).collect(),
            facts,
        };
        for (value, element_type) in types.iter().enumerate() {
            let has_source = flow.producers[value].is_some() || !flow.handed_from[value].is_empty();
            let fact = known.facts[value].map(|facts| facts.whole.map_or(Quantity::Free, Quantity::Whole));
            let given = inputs.get(&value).map(|magnitude| Quantity::Whole(Whole::up_to(*magnitude)));
            if let Some(source) = fact.or(given).or_else(|| (!has_source).then_some(Quantity::Free)) {
                known.of[value] = typed(source, *element_type);
            }
        }
        for pass in 0..MAX_PASSES {
            if !known.pass(flow, &types, pass >= PASSES_WITH_BOUNDS) {
                break;
            }
        }
        known
    }

    /// Returns what is known of a value.
    pub(in crate::onnx) fn get(&self, value: ValueId) -> Quantity {
        self.of[value]
    }

    /// Returns what is known of a constant that the graph holds.
    pub(in crate::onnx) fn facts(&self, value: ValueId) -> Option<&ConstantFacts> {
        self.facts[value].as_ref()
    }

    /// Returns whether a value follows from constants alone.
    pub(in crate::onnx) fn is_constant(&self, value: ValueId) -> bool {
        self.is_constant[value]
    }

    /// Returns whether a value varies, and may be a whole number that the precision doesn't tell from its neighbours.
    pub(in crate::onnx) fn is_large(&self, value: ValueId) -> bool {
        !self.is_constant[value] && self.of[value].whole().is_some_and(|whole| whole.steps > self.exact_steps)
    }

    /// Returns whether a value varies and is made of such numbers, and of constants alone.
    pub(in crate::onnx) fn is_exact(&self, value: ValueId) -> bool {
        self.is_large(value) || !self.is_constant[value] && self.of[value] == Quantity::Scaled
    }

    /// Goes over all nodes once. Returns whether anything changed.
    fn pass(&mut self, flow: &Flow<'_>, types: &[Option<ElementType>], widen: bool) -> bool {
        let mut changed = false;
        for (value, sources) in flow.handed_from.iter().enumerate() {
            let joined = sources.iter().fold(Quantity::Unreached, |all, source| all.join(self.of[*source]));
            changed |= self.raise(value, typed(joined, types[value]), widen);
        }
        for step in &flow.nodes {
            if step.rule == Some(Rule::ControlFlow) {
                continue;
            }
            let constant = is_constant_node(step, &self.is_constant);
            for (place, output) in step.outputs.iter().enumerate() {
                let Some(output) = *output else { continue };
                let found = self.output(step, place);
                if self.is_constant[output] != constant && self.facts[output].is_none() {
                    self.is_constant[output] = constant;
                    changed = true;
                }
                if self.facts[output].is_none() {
                    changed |= self.raise(output, typed(found, types[output]), widen);
                }
            }
        }
        changed
    }

    fn raise(&mut self, value: ValueId, found: Quantity, widen: bool) -> bool {
        let before = self.of[value];
        let mut after = before.join(found);
        if let (true, Quantity::Whole(whole)) =
            (widen && before != Quantity::Unreached && after != before, after)
        {
            after = Quantity::Whole(Whole { steps: f64::INFINITY, ..whole });
        }
        self.of[value] = after;
        after != before
    }

    fn output(&self, step: &Step<'_>, place: usize) -> Quantity {
        let input = |place: usize| step.inputs.get(place).copied().flatten().map(|input| self.of[input]);
        let inputs = || step.inputs.iter().flatten().map(|input| self.of[*input]);
        let join = |all: Quantity, one: Quantity| all.join(one);
        let first = input(0).unwrap_or(Quantity::Free);
        let Some(rule) = step.rule else { return Quantity::Free };
        let is_splitting = rule == Rule::Splits;
        if place > 0 && !is_splitting {
            return self.computed(step);
        }
        match rule {
            Rule::Moves(places) => {
                places.iter().filter_map(|place| input(*place)).fold(Quantity::Unreached, join)
            }
            Rule::MovesAll => inputs().fold(Quantity::Unreached, join),
            Rule::Splits | Rule::Signs => first,
            Rule::Adds => {
                let sum = inputs().skip(1).try_fold(first, Quantity::plus);
                let sum = sum.unwrap_or_else(|| self.computed(step));
                // How many steps a range has, nothing here says.
                if step.proto.op_type() == "Range" { unbounded(sum) } else { sum }
            }
            Rule::Multiplies => input(1)
                .and_then(|second| first.times(second))
                .filter(|product| product.whole().is_none_or(|whole| whole.magnitude() < 1e30))
                .unwrap_or_else(|| self.computed(step)),
            Rule::Divides => match (first, input(1)) {
                (Quantity::Whole(a), Some(Quantity::Whole(b))) if b.steps == 1.0 => {
                    Quantity::Whole(Whole { unit: a.unit / b.unit, ..a })
                }
                _ => self.computed(step),
            },
            Rule::Rounds => match first {
                Quantity::Unreached => first,
                Quantity::Whole(whole) => Quantity::Whole(Whole::up_to(whole.magnitude().ceil())),
                _ => Quantity::Whole(Whole::ANY),
            },
            Rule::Clips => self.clipped(step, first),
            Rule::Remains => match (first, input(1)) {
                (Quantity::Whole(a), Some(Quantity::Whole(b))) => {
                    let whole = Quantity::Whole(a).join(Quantity::Whole(b));
                    whole
                        .whole()
                        .map_or(Quantity::Scaled, |whole| Quantity::Whole(whole.limited(b.magnitude())))
                }
                _ => self.computed(step),
            },
            Rule::Sums => unbounded(first),
            Rule::Casts => first,
            Rule::Fills => match fill(step) {
                Some(value) => one_number(value),
                None => Quantity::Free,
            },
            Rule::Counts | Rule::Ranks => Quantity::Whole(Whole::ANY),
            Rule::Units => Quantity::Whole(Whole::TRUTH),
            Rule::Bounds => match self.computed(step) {
                Quantity::Learned => Quantity::Learned,
                _ => Quantity::Free,
            },
            Rule::Learned => {
                let is_whole = |input: Quantity| matches!(input, Quantity::Whole(_) | Quantity::Unreached);
                let mut constants = step.inputs.iter().flatten().filter(|input| self.is_constant[**input]);
                match self.computed(step) {
                    _ if inputs().all(is_whole) => Quantity::Whole(Whole::ANY),
                    // A permutation, a selection, a sum: no weights.
                    made @ (Quantity::Small | Quantity::Scaled)
                        if constants.all(|input| is_whole(self.of[*input])) =>
                    {
                        made
                    }
                    _ => Quantity::Learned,
                }
            }
            Rule::Normalizes => Quantity::Learned,
            Rule::ControlFlow => Quantity::Unreached,
            Rule::Computes => self.computed(step),
        }
    }

    /// What comes of inputs when nothing else is known: what varies decides.
    fn computed(&self, step: &Step<'_>) -> Quantity {
        let varying = step.inputs.iter().flatten().filter(|input| !self.is_constant[**input]);
        let mut all = Quantity::Unreached;
        let mut count = 0;
        for input in varying {
            count += 1;
            all = all.join(match self.of[*input] {
                Quantity::Whole(whole) if whole.steps > self.exact_steps => Quantity::Scaled,
                Quantity::Whole(_) => Quantity::Small,
                other => other,
            });
        }
        if count == 0 { Quantity::Free } else { all }
    }

    fn clipped(&self, step: &Step<'_>, first: Quantity) -> Quantity {
        let attributes = ["min", "max"]
            .map(|name| super::node::attribute(step.proto, name).and_then(|limit| limit.f).map(f64::from));
        let limit = |place: usize| {
            let input = step.inputs.get(place).copied().flatten();
            let magnitude =
                input.filter(|input| self.is_constant[*input]).and_then(|input| self.of[input].whole());
            magnitude.map(Whole::magnitude).or(attributes[place - 1].map(f64::abs))
        };
        match (first, limit(1), limit(2)) {
            (Quantity::Whole(whole), Some(low), Some(high)) => {
                Quantity::Whole(whole.limited(low.max(high).ceil()))
            }
            _ => first,
        }
    }
}

/// Returns whether what a node makes is the same in every run, but for its shape.
fn is_constant_node(step: &Step<'_>, is_constant: &[bool]) -> bool {
    let mut inputs = step.inputs.iter().flatten();
    match (step.rule, step.proto.op_type()) {
        (None | Some(Rule::ControlFlow), _) => false,
        (Some(Rule::Fills), _) => true,
        (_, "Bernoulli" | "Multinomial" | "RandomNormal" | "RandomUniform") => false,
        (_, "RandomNormalLike" | "RandomUniformLike") => false,
        (_, "Expand" | "Reshape" | "Slice" | "Squeeze" | "Tile" | "Unsqueeze") => {
            inputs.next().is_some_and(|input| is_constant[*input])
        }
        _ => inputs.all(|input| is_constant[*input]),
    }
}

fn unbounded(quantity: Quantity) -> Quantity {
    match quantity {
        Quantity::Whole(whole) => Quantity::Whole(Whole { steps: f64::INFINITY, ..whole }),
        other => other,
    }
}

fn one_number(value: f64) -> Quantity {
    if !value.is_finite() {
        return Quantity::Free;
    }
    let steps = f64::from(u8::from(value != 0.0));
    Quantity::Whole(Whole { unit: if value == 0.0 { 1.0 } else { value.abs() }, steps })
}

/// Returns the number that a ConstantOfShape node fills with.
fn fill(step: &Step<'_>) -> Option<f64> {
    let Some(value) = super::node::attribute(step.proto, "value") else { return Some(0.0) };
    let tensor = value.t.as_ref()?;
    if let Some(value) = tensor.float_data.first() {
        return Some(f64::from(*value));
    }
    if let Some(value) = tensor.int64_data.first() {
        return Some(*value as f64);
    }
    let facts = ConstantFacts::of(ElementType::from_onnx(tensor.data_type())?, tensor.raw_data.as_ref()?)?;
    facts.whole.map(Whole::magnitude)
}

/// Returns what is known once the type is considered: integers are whole and have the bound of their type.
fn typed(quantity: Quantity, element_type: Option<ElementType>) -> Quantity {
    use ElementType as E;
    let magnitude = match element_type {
        Some(E::Bool) => 1.0,
        Some(E::Int2) => 2.0,
        Some(E::Uint2) => 3.0,
        Some(E::Int4) => 8.0,
        Some(E::Uint4) => 15.0,
        Some(E::Int8) => 128.0,
        Some(E::Uint8) => 255.0,
        Some(E::Int16) => 32768.0,
        Some(E::Uint16) => 65535.0,
        Some(E::Int32 | E::Int64 | E::Uint32 | E::Uint64) => f64::INFINITY,
        _ => return quantity,
    };
    match quantity {
        Quantity::Unreached => Quantity::Unreached,
        Quantity::Whole(whole) if whole.unit.fract() == 0.0 => Quantity::Whole(whole.limited(magnitude)),
        Quantity::Whole(whole) => Quantity::Whole(Whole::up_to(magnitude.min(whole.magnitude()).floor())),
        Quantity::Small | Quantity::Scaled | Quantity::Free | Quantity::Learned => {
            Quantity::Whole(Whole::up_to(magnitude))
        }
    }
}

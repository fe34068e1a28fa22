//! What the analysis of a graph says for one precision: which numbers must be exact, and what sums up.

use std::collections::{BTreeMap, BTreeSet};

use super::choice::{Body, Node};
use super::report::KeepReason;
use super::scales::scales;
use super::spectrum::spectra;
use super::sums::sums;
use super::value::Values;
use crate::onnx::analysis::{
    Carried, End, Exact, Exactness, Flow, Quantities, ValueId, carried, exact, index_bounds,
};
use crate::onnx::proto::StringStringEntryProto;
use crate::onnx::{ElementType, OnnxFile, Precision, quantize};

/// What is known of a graph and its subgraphs.
#[derive(Debug)]
pub(super) struct Findings<'g> {
    flow: Flow<'g>,
    quantities: Quantities,
    exact: Exact,
    sums: BTreeSet<usize>,
    spectra: BTreeSet<usize>,
    scales: BTreeSet<usize>,
    carried: Carried,
    /// Whether scales of quantized numbers are numbers of the lower precision, too.
    pub(super) has_low_scales: bool,
}

/// Returns whether a model was quantized by us.
pub(super) fn is_quantized(file: &OnnxFile) -> bool {
    let is_ours = |property: &StringStringEntryProto| property.key() == quantize::PROPERTY;
    file.model().metadata_props.iter().any(is_ours)
}

impl<'g> Findings<'g> {
    /// Analyses a graph whose constants are noted in `values`.
    pub(super) fn of(file: &OnnxFile, values: &Values, body: &Body<'g>, precision: Precision) -> Self {
        let flow = Flow::of(values, body);
        let facts = values.all().iter().map(|value| value.note.facts).collect();
        let inputs = input_bounds(file, values, body);
        let quantities = Quantities::of(values, &flow, precision.exact_integers(), facts, &inputs);
        let exact = exact(values, &flow, &quantities);
        let vanishes = |value: ValueId| values.all()[value].note.losses.are_vanishing();
        let sums = sums(&flow, &quantities, &vanishes);
        let is_float = |value: ValueId| values.all()[value].element_type == Some(ElementType::Float);
        let spectra = spectra(&flow, &quantities, &is_float);
        let scales = scales(&flow, &quantities);
        let carried = carried(&flow);
        let has_low_scales = is_quantized(file);
        Self { flow, quantities, exact, sums, spectra, scales, carried, has_low_scales }
    }

    /// Returns why a node's numbers must be exact.
    pub(super) fn exactness(&self, node: &Node<'_>) -> Option<Exactness> {
        self.exact.nodes[node.index]
    }

    /// Returns whether a node sums up many values, or is around one that does.
    pub(super) fn is_sum(&self, node: &Node<'_>) -> bool {
        self.sums.contains(&node.index) || self.carried.nodes.contains(&node.index)
    }

    /// Returns whether a node is a part of a spectrum whose logarithm is taken.
    pub(super) fn is_spectrum(&self, node: &Node<'_>) -> bool {
        self.spectra.contains(&node.index)
    }

    /// Returns whether a node works with the scales of quantized numbers.
    pub(super) fn is_scale(&self, node: &Node<'_>) -> bool {
        self.scales.contains(&node.index)
    }

    /// Notes which inputs and outputs of a node with subgraphs stay in FP32 with what is inside them. Returns why, if any do.
    pub(super) fn keep_exact_ends(&self, node: &mut Node<'_>) -> Option<KeepReason> {
        let index = node.index;
        let step = &self.flow.nodes[index];
        let must_stay =
            |value: ValueId| self.quantities.is_exact(value) || self.exact.values.contains_key(&value);
        let mut full: Vec<End> = Vec::new();
        for (place, input) in step.inputs.iter().enumerate() {
            full.extend(input.filter(|value| must_stay(*value)).map(|_| End::Input(place)));
        }
        for (place, output) in step.outputs.iter().enumerate() {
            full.extend(output.filter(|value| must_stay(*value)).map(|_| End::Output(place)));
        }
        let wired = self.flow.wired.iter().filter(|wired| wired.node == index && must_stay(wired.inside));
        full.extend(wired.map(|wired| wired.end));
        let mut reason = (!full.is_empty()).then_some(KeepReason::ShapeArithmetic);
        for state in self.carried.states.iter().filter(|state| state.node == index) {
            full.push(End::Input(state.input));
            reason.get_or_insert(KeepReason::Accumulation);
        }
        // A state has one type on its whole way.
        for state in self.flow.states.iter().filter(|state| state.node == index) {
            let ends = [End::Input(state.input), End::Output(state.output)];
            if ends.iter().any(|end| full.contains(end)) {
                full.extend(ends);
            }
        }
        for end in full {
            let (side, place) = match end {
                End::Input(place) => (&mut node.note.low_inputs, place),
                End::Output(place) => (&mut node.note.low_outputs, place),
            };
            if let Some(low) = side.get_mut(place) {
                *low = false;
            }
        }
        reason
    }
}

/// Returns the largest magnitudes of integer inputs, where the graph or a name says so: what is looked up in a table is
/// less than the table's length, and a mask is 0 or 1.
fn input_bounds(file: &OnnxFile, values: &Values, body: &Body<'_>) -> BTreeMap<ValueId, f64> {
    let tables = index_bounds(file);
    let mut bounds = BTreeMap::new();
    for input in &body.graph.input {
        let Some(value) = values.find(body.scope, input.name()) else { continue };
        let is_integer = matches!(
            values.all()[value].element_type,
            Some(ElementType::Int32 | ElementType::Int64 | ElementType::Uint32 | ElementType::Uint64)
        );
        let is_mask = input.name().to_lowercase().contains("mask");
        let bound = match tables.get(input.name()) {
            Some(length) => Some(*length as f64),
            None => is_mask.then_some(1.0),
        };
        bounds.extend(bound.filter(|_| is_integer).map(|bound| (value, bound)));
    }
    bounds
}

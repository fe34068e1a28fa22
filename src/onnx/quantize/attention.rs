//! Attention: what its two products multiply, quantized only where that is asked for.
//!
//! Recognised is what exporters write: a product of two computed values, anything that scales or masks it, Softmax, and a product of
//! that with a third value.

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::{Candidates, WhyKept};
use super::groups::Ingredients;
use super::number_formats::scale_of;
use super::options::{QuantizationOptions, Treatment};
use super::rewrite::Rewrite;
use crate::onnx::analysis::{is_own_domain, label};
use crate::onnx::proto::{GraphProto, NodeProto};

/// What may stand between the first product and Softmax, and between Softmax and the second: scales, masks, shapes.
const BETWEEN: &[&str] =
    &["Mul", "Div", "Add", "Sub", "Where", "Reshape", "Identity", "Cast", "Clip", "Min", "Max", "Dropout"];
/// How many of them.
const MAX_BETWEEN: usize = 8;
/// The largest that Softmax gives, whatever the samples showed.
const LARGEST_PROBABILITY: f32 = 1.0;

/// The two products of attention.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attention {
    /// The place of the first node, of queries and keys.
    pub(super) scores: usize,
    /// The place of the second, of probabilities and values.
    pub(super) mixed: usize,
    /// The activations that are measured: queries, keys, values.
    pub(super) inputs: [String; 3],
    /// The probabilities.
    probabilities: String,
}

/// Finds attention among the products that stay because both factors are computed, and takes it out of them.
pub(super) fn find(graph: &GraphProto, options: &QuantizationOptions, candidates: &mut Candidates) {
    if options.attention == Treatment::Keep || !options.precision.has_fixed_scales() {
        return;
    }
    let makers: BTreeMap<&str, usize> = (graph.node.iter().enumerate())
        .flat_map(|(index, node)| node.output.iter().map(move |output| (output.as_str(), index)))
        .collect();
    let is_computed = |index: usize| candidates.kept.get(&index) == Some(&WhyKept::NoConstantWeight);
    let mut found: Vec<Attention> = Vec::new();
    for (mixed, node) in graph.node.iter().enumerate().filter(|(index, _)| is_computed(*index)) {
        let [probabilities, values] = node.input.as_slice() else { continue };
        let softmax = before(graph, &makers, probabilities, &|_, node| node.op_type() == "Softmax");
        let Some(softmax) = softmax else { continue };
        let Some(logits) = graph.node[softmax].input.first() else { continue };
        let Some(scores) = before(graph, &makers, logits, &|index, _| is_computed(index)) else { continue };
        let [queries, keys] = graph.node[scores].input.as_slice() else { continue };
        // Scores that two products use, as with one softmax for two values, are quantized once.
        if found.iter().all(|other| other.scores != scores) {
            let inputs = [queries, keys, values].map(Clone::clone);
            found.push(Attention { scores, mixed, inputs, probabilities: probabilities.clone() });
        }
    }
    let named: BTreeSet<&str> = options.keep_nodes.iter().map(String::as_str).collect();
    for attention in found {
        let places = [attention.scores, attention.mixed];
        let is_named = places.iter().any(|&place| named.contains(label(&graph.node[place])));
        for place in places {
            if is_named {
                candidates.kept.insert(place, WhyKept::KeptNode);
            } else {
                candidates.kept.remove(&place);
            }
        }
        if !is_named {
            candidates.unsmoothed.extend(results(graph, attention.mixed));
            candidates.attention.push(attention);
        }
    }
}

/// Returns what the second product gives, also turned and reshaped. A factor behind it, before it is quantized, keeps TensorRT for
/// RTX from fusing 8-bit attention.
fn results(graph: &GraphProto, mixed: usize) -> BTreeSet<String> {
    let mut values: BTreeSet<String> = graph.node[mixed].output.iter().cloned().collect();
    for node in &graph.node[mixed..] {
        let is_moved = matches!(node.op_type(), "Transpose" | "Reshape" | "Flatten" | "Identity");
        if is_moved && node.input.first().is_some_and(|input| values.contains(input)) {
            values.extend(node.output.iter().cloned());
        }
    }
    values
}

/// Returns the nearest node that `is_wanted` before a value, with nothing but [`BETWEEN`] in between.
fn before(
    graph: &GraphProto,
    makers: &BTreeMap<&str, usize>,
    value: &str,
    is_wanted: &dyn Fn(usize, &NodeProto) -> bool,
) -> Option<usize> {
    let mut level = vec![value];
    for _ in 0..=MAX_BETWEEN {
        let nodes: BTreeSet<usize> = level.iter().filter_map(|value| makers.get(value).copied()).collect();
        let own = |index: &usize| is_own_domain(graph.node[*index].domain());
        if let Some(&found) =
            nodes.iter().find(|index| own(index) && is_wanted(**index, &graph.node[**index]))
        {
            return Some(found);
        }
        let passes = |index: &usize| own(index) && BETWEEN.contains(&graph.node[*index].op_type());
        level = nodes
            .iter()
            .filter(|index| passes(index))
            .flat_map(|&index| graph.node[index].input.iter().map(String::as_str))
            .collect();
    }
    None
}

/// Attention with the scales of what it multiplies.
#[derive(Debug)]
pub(super) struct ScaledAttention {
    pub(super) attention: Attention,
    /// Of queries, keys and values.
    pub(super) scales: [f32; 3],
    pub(super) probability_scale: f32,
}

impl Ingredients<'_> {
    /// Finds the scales of attention. What the samples never reached is added to `candidates.kept`.
    pub(super) fn attention(&self, candidates: &mut Candidates) -> Vec<ScaledAttention> {
        let mut scaled = Vec::new();
        let largest = self.options.precision.largest();
        for attention in std::mem::take(&mut candidates.attention) {
            let known = |input: &String| self.statistics.values.get(input).map_or(0.0, |one| one.maximum());
            let maxima = [0, 1, 2].map(|place| known(&attention.inputs[place]));
            if maxima.contains(&0.0) {
                let places = [attention.scores, attention.mixed];
                candidates.kept.extend(places.map(|place| (place, WhyKept::NoActivation)));
                continue;
            }
            let range = self.method.range_percent as f32 / 100.0;
            let scales = maxima.map(|most| scale_of(self.options.base, most * range / largest));
            let probability_scale = scale_of(self.options.base, LARGEST_PROBABILITY / largest);
            scaled.push(ScaledAttention { attention, scales, probability_scale });
        }
        scaled
    }
}

impl Rewrite<'_> {
    /// Quantizes what attention multiplies.
    pub(super) fn attention(&mut self, scaled: ScaledAttention) {
        let ScaledAttention { attention, scales: [of_queries, of_keys, of_values], probability_scale } =
            scaled;
        let Attention { scores, mixed, inputs: [queries, keys, values], probabilities } = attention;
        for (node, place, value, scale) in [
            (scores, 0, queries, of_queries),
            (scores, 1, keys, of_keys),
            (mixed, 0, probabilities, probability_scale),
            (mixed, 1, values, of_values),
        ] {
            let (nodes, back) = self.quantized(&value, &value, scale);
            self.before.entry(node).or_default().extend(nodes);
            self.inputs.insert((node, place), back);
        }
    }
}

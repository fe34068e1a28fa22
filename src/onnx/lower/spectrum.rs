//! Front ends of audio models: a linear transform of the signal (a filter bank, a Fourier transform, both as convolutions),
//! squares of it, and their root or logarithm.
//!
//! A quiet band is the difference of large products, so rounding the signal or the filters fills it with noise, 66 dB below
//! the loudest band in FP16. The root shows some of that to the rest of the model, and the logarithm all. So everything from
//! the signal to them stays in FP32.

use std::collections::BTreeSet;

use crate::onnx::analysis::{Flow, Quantities, Rule, Step, ValueId};

/// Returns the nodes that compute a spectrum from the inputs of the graph, up to its root or logarithm. `is_float` says which
/// values are FP32.
pub(super) fn spectra(
    flow: &Flow<'_>,
    quantities: &Quantities,
    is_float: &dyn Fn(ValueId) -> bool,
) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for (index, step) in flow.nodes.iter().enumerate() {
        if step.rule.is_some()
            && matches!(step.proto.op_type(), "Log" | "Sqrt")
            && let Some(nodes) = front_end(flow, quantities, is_float, step)
        {
            found.extend(nodes);
            found.insert(index);
        }
    }
    found
}

/// Returns the nodes before a root or logarithm; `None` if they do something else than transform and square, or too little.
fn front_end(
    flow: &Flow<'_>,
    quantities: &Quantities,
    is_float: &dyn Fn(ValueId) -> bool,
    root: &Step<'_>,
) -> Option<BTreeSet<usize>> {
    let mut nodes = BTreeSet::new();
    let mut pending: Vec<ValueId> = root.inputs.iter().copied().flatten().collect();
    let (mut transforms, mut squares) = (false, false);
    while let Some(value) = pending.pop() {
        // Lengths and axes are no part of the signal.
        if quantities.is_constant(value) || !is_float(value) {
            continue;
        }
        // What a subgraph hands out or takes in is no plain front end.
        if !flow.handed_from[value].is_empty() {
            return None;
        }
        let Some(index) = flow.producers[value] else { continue };
        let step = &flow.nodes[index];
        match part(quantities, step)? {
            Part::Transform => transforms = true,
            Part::Square => squares = true,
            Part::Linear => {}
        }
        if nodes.insert(index) {
            let moved: &[usize] = if let Some(Rule::Moves(places)) = step.rule { places } else { &[] };
            let inputs =
                step.inputs.iter().enumerate().filter(|(place, _)| moved.is_empty() || moved.contains(place));
            pending.extend(inputs.filter_map(|(_, input)| *input));
        }
    }
    (transforms && squares).then_some(nodes)
}

enum Part {
    /// A product with constant filters.
    Transform,
    /// A magnitude.
    Square,
    /// Anything else that a front end does.
    Linear,
}

/// Returns what a node does in a front end; `None` if it is no part of one.
fn part(quantities: &Quantities, step: &Step<'_>) -> Option<Part> {
    let varying = step.inputs.iter().flatten().filter(|input| !quantities.is_constant(**input)).count();
    let multiplies_itself =
        step.inputs.first().is_some_and(|first| first.is_some() && step.inputs.get(1) == Some(first));
    match (step.rule?, step.proto.op_type()) {
        (_, "Abs" | "ReduceL2" | "ReduceSumSquare") => Some(Part::Square),
        (_, "Pow") if varying == 1 => Some(Part::Square),
        (_, "Mul") if multiplies_itself => Some(Part::Square),
        (_, "Conv" | "ConvTranspose" | "Einsum" | "Gemm" | "MatMul" | "STFT") if varying == 1 => {
            Some(Part::Transform)
        }
        (_, "DFT") => Some(Part::Transform),
        (Rule::Multiplies | Rule::Divides, _) if varying == 1 => Some(Part::Linear),
        (_, "Sqrt" | "Log" | "AveragePool" | "ReduceMean") => Some(Part::Linear),
        (_, "Relu") => None,
        (
            Rule::Moves(_)
            | Rule::MovesAll
            | Rule::Splits
            | Rule::Adds
            | Rule::Signs
            | Rule::Clips
            | Rule::Sums
            | Rule::Casts,
            _,
        ) => Some(Part::Linear),
        _ => None,
    }
}

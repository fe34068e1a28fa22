//! Front ends of audio models: a linear transform of the signal (a filter bank, a Fourier transform, both as convolutions),
//! squares of it, and their logarithm.
//!
//! A quiet band is the difference of large products, so rounding the signal or the filters fills it with noise, 66 dB below
//! the loudest band in FP16. Only the logarithm shows that: it is what the rest of the model sees. So everything from the
//! signal to the logarithm stays in FP32.

use std::collections::BTreeSet;

use crate::onnx::analysis::{Flow, Quantities, Rule, Step, ValueId};

/// Returns the nodes that compute the logarithm of a spectrum from the inputs of the graph.
pub(super) fn spectra(flow: &Flow<'_>, quantities: &Quantities) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let logarithms = flow.nodes.iter().filter(|step| step.rule.is_some() && step.proto.op_type() == "Log");
    for step in logarithms {
        found.extend(front_end(flow, quantities, step).unwrap_or_default());
    }
    found
}

/// Returns the nodes before a logarithm; `None` if they do something else than transform and square, or too little.
fn front_end(flow: &Flow<'_>, quantities: &Quantities, logarithm: &Step<'_>) -> Option<BTreeSet<usize>> {
    let mut nodes = BTreeSet::new();
    let mut pending: Vec<ValueId> = logarithm.inputs.iter().copied().flatten().collect();
    let (mut transforms, mut squares) = (false, false);
    while let Some(value) = pending.pop() {
        if quantities.is_constant(value) {
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
            pending.extend(step.inputs.iter().copied().flatten());
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
        (_, "Sqrt" | "AveragePool" | "ReduceMean") => Some(Part::Linear),
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

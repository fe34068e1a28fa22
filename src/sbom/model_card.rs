//! The model card of a profile: its inputs and outputs, and what was measured.

use std::collections::{BTreeMap, BTreeSet};

use super::cyclonedx::{
    Bounds, DatasetReference, Metric, ModelCard, ModelParameters, QuantitativeAnalysis, Tensor,
};
use super::datasets::graph_of;
use crate::benchmark::{BenchStatus, Case};
use crate::passport::Passport;
use crate::shape_range::ShapeRange;
use crate::validation::{GateResult, gate_is_bound_above};

/// The value of a gate that found a number that is not finite.
const NOT_FINITE: &str = "not finite";

/// Returns the model card of a profile whose data has these references.
pub(super) fn model_card(passport: &Passport, data: &BTreeSet<String>) -> ModelCard {
    let mut metrics = of_quantization(passport);
    if let Some(validation) = passport.validation.validation() {
        metrics.extend(worst(&validation.gates, ""));
        if let Some(emulated) = &validation.emulated {
            metrics.extend(worst(&emulated.gates, &format!(", {} emulated", emulated.precision)));
        }
    }
    if let BenchStatus::Measured(benchmark) = &passport.bench {
        metrics.extend(benchmark.cases.iter().flat_map(of_case));
    }
    ModelCard {
        model_parameters: ModelParameters {
            datasets: data.iter().map(|to| DatasetReference { to: to.clone() }).collect(),
            inputs: inputs(passport),
            outputs: outputs(passport),
        },
        quantitative_analysis: QuantitativeAnalysis { performance_metrics: metrics },
    }
}

fn inputs(passport: &Passport) -> Vec<Tensor> {
    let graphs = passport.contents.shape_ranges.iter();
    let inputs =
        graphs.flat_map(|(graph, inputs)| inputs.iter().map(move |(name, range)| (graph, name, range)));
    let input = |(graph, name, ShapeRange { min, opt, max }): (&String, &String, &ShapeRange)| Tensor {
        format: format!("{graph}/{name}: min {min:?}, opt {opt:?}, max {max:?}"),
    };
    inputs.map(input).collect()
}

/// Returns the outputs that gates compared: a passport names no others.
fn outputs(passport: &Passport) -> Vec<Tensor> {
    let Some(validation) = passport.validation.validation() else { return Vec::new() };
    let subjects = validation.all_gates().map(|gate| gate.subject.as_str());
    let outputs: BTreeSet<&str> = subjects.filter(|subject| graph_of(passport, subject).is_some()).collect();
    outputs.into_iter().map(|output| Tensor { format: output.into() }).collect()
}

/// Returns the worst value of each gate over all shapes.
fn worst(gates: &[GateResult], suffix: &str) -> Vec<Metric> {
    let mut found: BTreeMap<(&str, &str), Option<f64>> = BTreeMap::new();
    for GateResult { gate, subject, value, .. } in gates {
        let worst = |a: f64, b: f64| if gate_is_bound_above(gate) { a.max(b) } else { a.min(b) };
        let kept = found.entry((gate, subject)).or_insert(*value);
        *kept = kept.zip(*value).map(|(a, b)| worst(a, b));
    }
    let metric = |((gate, subject), value): ((&str, &str), Option<f64>)| Metric {
        kind: format!("{} {gate}", if gate_is_bound_above(gate) { "max" } else { "min" }),
        value: value.map_or_else(|| NOT_FINITE.into(), |value| value.to_string()),
        slice: format!("{subject}{suffix}"),
        confidence_interval: None,
    };
    found.into_iter().map(metric).collect()
}

fn of_quantization(passport: &Passport) -> Vec<Metric> {
    let graphs = passport.graphs.iter();
    let quantized = graphs.filter_map(|(name, graph)| Some((name, graph.lowering.quantization.as_ref()?)));
    let metric = |(name, quantization): (&String, &crate::quantization::QuantizationRecord)| Metric {
        kind: "min row_cosine of quantization".into(),
        value: quantization.choice.result.min_row_cosine.to_string(),
        slice: format!("{name}, {}", quantization.choice.method),
        confidence_interval: None,
    };
    quantized.map(metric).collect()
}

/// Returns the percentiles and the throughput of a case.
fn of_case(case: &Case) -> Vec<Metric> {
    let Case { graph, batch, streams, ran_on, latency, items_per_s, .. } = case;
    let slice = format!("{graph}, batch {batch}, streams {streams}, {ran_on}");
    let percentiles = latency.iter().flat_map(|latency| &latency.percentiles);
    let latencies = percentiles.map(|percentile| Metric {
        kind: format!("latency_ms {}", percentile.name),
        value: percentile.ms.to_string(),
        slice: slice.clone(),
        confidence_interval: Some(Bounds {
            lower_bound: percentile.low_ms.to_string(),
            upper_bound: percentile.high_ms.to_string(),
        }),
    });
    let throughput = items_per_s.iter().map(|items| Metric {
        kind: "items_per_s".into(),
        value: items.to_string(),
        slice: slice.clone(),
        confidence_interval: None,
    });
    latencies.chain(throughput).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(gate: &str, shapes: &str, value: Option<f64>) -> GateResult {
        GateResult {
            gate: gate.into(),
            subject: "text/OUT".into(),
            shapes: shapes.into(),
            value,
            threshold: 0.0,
            passed: true,
            worst_row: None,
        }
    }

    #[test]
    fn the_worst_shape_counts_whichever_way_a_gate_is_bound() {
        let gates = [
            gate("row_cosine", "min", Some(0.9995)),
            gate("row_cosine", "max", Some(0.999)),
            gate("norm_ratio", "min", Some(0.001)),
            gate("norm_ratio", "max", Some(0.002)),
            gate("cross_modal", "min", Some(0.5)),
            gate("cross_modal", "max", None),
        ];
        let found: Vec<(String, String)> =
            worst(&gates, "").into_iter().map(|metric| (metric.kind, metric.value)).collect();
        let expected =
            [("max cross_modal", NOT_FINITE), ("max norm_ratio", "0.002"), ("min row_cosine", "0.999")];
        assert_eq!(found, expected.map(|(kind, value)| (kind.to_owned(), value.to_owned())));
    }
}

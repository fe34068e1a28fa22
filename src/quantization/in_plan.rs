//! What a plan makes of the nodes that were quantized.

use std::fmt;

use crate::onnx::quantize::{Embeddings, QuantizationOptions, QuantizationReport, QuantizedPrecision};
use crate::plan::{
    Expected, Fallback, NodeVerdict, PlanHeader, PlanLayers, QuantizedNode, TensorType, check_nodes,
};

/// What a plan makes of the quantized nodes of its graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InPlan {
    /// How many do what they were quantized for.
    pub as_expected: usize,
    /// Those that don't, with the type that they compute in and the reason.
    pub fell_back: Vec<(String, TensorType, Fallback)>,
    /// Those of which the plan does not say it.
    pub unknown: Vec<String>,
}

impl InPlan {
    /// Compares a plan with what was quantized; a plan whose layers can't be read says nothing of any node.
    pub fn of(
        options: &QuantizationOptions,
        report: &QuantizationReport,
        plan: Option<(&PlanHeader, &PlanLayers)>,
    ) -> Self {
        let nodes: Vec<QuantizedNode> = report
            .quantized
            .iter()
            .map(|node| QuantizedNode { name: node.node.clone(), expected: expected(options, &node.op_type) })
            .collect();
        let verdicts = match plan {
            Some((header, layers)) => check_nodes(header, layers, &nodes),
            None => vec![NodeVerdict::Unknown; nodes.len()],
        };
        let mut found = Self::default();
        for (node, verdict) in nodes.into_iter().zip(verdicts) {
            match verdict {
                NodeVerdict::AsExpected => found.as_expected += 1,
                NodeVerdict::FellBack { computes_in, reason } => {
                    found.fell_back.push((node.name, computes_in, reason));
                }
                NodeVerdict::Unknown => found.unknown.push(node.name),
            }
        }
        found
    }

    /// Returns the number of all nodes.
    pub fn count(&self) -> usize {
        self.as_expected + self.fell_back.len() + self.unknown.len()
    }

    /// Says which nodes fell back, and why; nothing if none did.
    pub fn fallbacks(&self) -> Option<String> {
        let words = |(node, computes_in, reason): &(String, TensorType, Fallback)| match computes_in {
            TensorType::Unknown => format!("`{node}` ({reason})"),
            computes_in => format!("`{node}` computes in {} ({reason})", computes_in.as_str()),
        };
        self.named(self.fell_back.iter().map(words).collect(), "are not as they were quantized in the plan")
    }

    /// Says of which nodes the plan says nothing; nothing if there are none.
    pub fn unknowns(&self) -> Option<String> {
        let names = self.unknown.iter().map(|node| format!("`{node}`")).collect();
        self.named(names, "cannot be found in the plan, so what it makes of them is not known")
    }

    fn named(&self, all: Vec<String>, what: &str) -> Option<String> {
        /// More than these are only counted.
        const NAMED: usize = 5;
        if all.is_empty() {
            return None;
        }
        let more = all.len().saturating_sub(NAMED);
        let and_more = if more > 0 { format!(", and {more} more") } else { String::new() };
        let named = all[..all.len().min(NAMED)].join(", ");
        Some(format!("{} of {} quantized nodes {what}: {named}{and_more}", all.len(), self.count()))
    }
}

/// Quantized nodes of a plan that compute in something else, where all must be as they were quantized.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NotAllQuantized {
    /// The graph.
    pub graph: String,
    /// Which nodes, and why.
    pub fallbacks: String,
}

impl fmt::Display for NotAllQuantized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { graph, fallbacks } = self;
        write!(
            f,
            "graph `{graph}`: {fallbacks}; keep them in the base precision with `quantize.keep_nodes`, or accept them with \
             `require: nothing`"
        )
    }
}

/// Returns what a plan should do for a node of this operator.
fn expected(options: &QuantizationOptions, op_type: &str) -> Expected {
    if op_type == "Gather" {
        return Expected::Stores(match options.embeddings {
            Embeddings::Int4 => TensorType::Int4,
            Embeddings::Int8 | Embeddings::Keep => TensorType::Int8,
        });
    }
    match options.precision {
        QuantizedPrecision::Int8 => Expected::Multiplies(TensorType::Int8),
        QuantizedPrecision::Fp8 => Expected::Multiplies(TensorType::Fp8),
        QuantizedPrecision::Int8Weights => Expected::Stores(TensorType::Int8),
        QuantizedPrecision::Int4 => Expected::Stores(TensorType::Int4),
        QuantizedPrecision::Nvfp4 => Expected::Multiplies(TensorType::Fp4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Precision;
    use crate::onnx::quantize::{Method, QuantizedNode as Quantized};
    use crate::plan::{GemmFacts, GemmKind, WeightFacts, WeightPath};

    fn node(name: &str, op_type: &str) -> Quantized {
        Quantized {
            node: name.into(),
            op_type: op_type.into(),
            weight_bytes: 4096,
            activation_largest: Some(1.0),
        }
    }

    fn gemm(name: &str, kind: GemmKind, computes_in: TensorType, path: WeightPath) -> GemmFacts {
        let weights = WeightFacts {
            stored: TensorType::Int8,
            shape: vec![64, 64],
            // A scale for each output channel.
            scales: if kind == GemmKind::Conv { vec![64, 1] } else { vec![1, 64] },
            is_transposed: false,
            path,
        };
        GemmFacts {
            nodes: vec![name.into()],
            kind,
            operands: [computes_in; 2],
            output: TensorType::Fp16,
            alpha: None,
            weights: Some(weights),
        }
    }

    #[test]
    fn what_fell_back_and_what_is_not_known_are_told_apart() {
        let options = QuantizationOptions::new(QuantizedPrecision::Int8, Precision::Fp16);
        let report = QuantizationReport {
            precision: options.precision,
            base: options.base,
            method: Method::MAX,
            quantized: vec![node("up", "MatMul"), node("conv", "Conv"), node("gone", "MatMul")],
            kept: Vec::new(),
            weights_before_bytes: 12_288,
            weights_after_bytes: 3_072,
        };
        let header = PlanHeader {
            builder_version: "1.7.1.116".into(),
            compute_capabilities: vec!["7.5".parse().unwrap()],
            unknown_target_bits: 0,
        };
        let layers = PlanLayers {
            gemms: vec![
                gemm("up", GemmKind::Gemm, TensorType::Int8, WeightPath::Direct),
                gemm("conv", GemmKind::Conv, TensorType::Fp16, WeightPath::Kernel),
            ],
            ..PlanLayers::default()
        };
        let found = InPlan::of(&options, &report, Some((&header, &layers)));
        assert_eq!((found.as_expected, found.count()), (1, 3));
        assert_eq!(
            NotAllQuantized { graph: "net".into(), fallbacks: found.fallbacks().unwrap() }.to_string(),
            "graph `net`: 1 of 3 quantized nodes are not as they were quantized in the plan: `conv` computes in fp16 (convolutions are \
             not quantized on compute capability 7.5); keep them in the base precision with `quantize.keep_nodes`, or accept them \
             with `require: nothing`"
        );
        assert_eq!(
            found.unknowns().unwrap(),
            "1 of 3 quantized nodes cannot be found in the plan, so what it makes of them is not known: `gone`"
        );
        let blind = InPlan::of(&options, &report, None);
        assert_eq!((blind.as_expected, blind.fallbacks(), blind.unknown.len()), (0, None, 3));
    }
}

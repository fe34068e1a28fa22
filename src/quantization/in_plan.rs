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
    }
}

//! What quantization did.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attention::ScaledAttention;
use super::candidates::{Table, WhyKept};
use super::groups::{Group, Scaled};
use super::options::{Method, QuantizationOptions, QuantizedPrecision};
use crate::onnx::Precision;
use crate::onnx::analysis::label;
use crate::onnx::proto::{GraphProto, NodeProto};

/// What was quantized, and what was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizationReport {
    /// The format.
    pub precision: QuantizedPrecision,
    /// The precision of the rest.
    pub base: Precision,
    /// How scales were found.
    pub method: Method,
    /// The products and tables that were quantized, in the graph's order.
    pub quantized: Vec<QuantizedNode>,
    /// The products and tables that were not, in the graph's order.
    pub kept: Vec<UnquantizedNode>,
    /// The bytes of the weights of quantized nodes before, in FP32.
    pub weights_before_bytes: u64,
    /// Their bytes now, scales included.
    pub weights_after_bytes: u64,
}

/// A node whose weight is quantized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuantizedNode {
    /// Its name; that of its first output where it has none.
    pub node: String,
    /// Its operator in the original graph.
    pub op_type: String,
    /// The bytes of its weight in FP32; 0 for a product of two computed values.
    pub weight_bytes: u64,
    /// The largest magnitude that its activation's scale represents; absent where activations stay as they are.
    pub activation_largest: Option<f32>,
}

/// A node that stays in the base precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnquantizedNode {
    /// Its name; that of its first output where it has none.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// Why.
    pub why: WhyKept,
}

pub(super) fn empty(options: &QuantizationOptions, method: Method) -> QuantizationReport {
    QuantizationReport {
        precision: options.precision,
        base: options.base,
        method,
        quantized: Vec::new(),
        kept: Vec::new(),
        weights_before_bytes: 0,
        weights_after_bytes: 0,
    }
}

impl QuantizationReport {
    pub(super) fn add_group(&mut self, graph: &GraphProto, group: &Group) {
        for Scaled { product, .. } in &group.products {
            let largest = group.activation_scale.map(|scale| scale * self.precision.largest());
            self.add(&graph.node[product.index], product.summed * product.columns, largest);
        }
    }

    /// Adds both products: each with the largest of its left factor.
    pub(super) fn add_attention(&mut self, graph: &GraphProto, scaled: &ScaledAttention) {
        let ScaledAttention { attention, scales: [queries, ..], probability_scale } = scaled;
        for (place, scale) in [(attention.scores, queries), (attention.mixed, probability_scale)] {
            self.add(&graph.node[place], 0, Some(scale * self.precision.largest()));
        }
    }

    pub(super) fn add_table(&mut self, graph: &GraphProto, table: &Table) {
        self.add(&graph.node[table.index], table.rows * table.columns, None);
    }

    fn add(&mut self, node: &NodeProto, elements: usize, activation_largest: Option<f32>) {
        let weight_bytes = (elements * size_of::<f32>()) as u64;
        self.weights_before_bytes += weight_bytes;
        self.quantized.push(QuantizedNode {
            node: label(node).into(),
            op_type: node.op_type().into(),
            weight_bytes,
            activation_largest,
        });
    }

    pub(super) fn add_kept(&mut self, graph: &GraphProto, kept: &BTreeMap<usize, WhyKept>) {
        self.kept.extend(kept.iter().map(|(&index, &why)| {
            let node = &graph.node[index];
            UnquantizedNode { node: label(node).into(), op_type: node.op_type().into(), why }
        }));
    }
}

//! What the compiler made of a profile's graphs, as its plans say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::passport::Passport;
use crate::plan::{PlanHeader, PlanLayers};

/// One graph of a profile that has a plan whose text could be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompiledGraph {
    /// The graph.
    pub graph: String,
    /// How many GEMMs compute in which type: `10 of 12 GEMMs in INT8, 2 in FP16`.
    pub products: String,
    /// How attention is computed: `fused into 3 kernels, in FP16`.
    pub attention: String,
    /// Kernels that turn stored weights into another type at every inference.
    pub dequantize_kernels: u64,
    /// Bytes of constants by element type.
    pub weights: Vec<(String, u64)>,
    /// GEMMs that differ from most, or that fell back: nodes, what they compute in, and why where the plan shows it.
    pub exceptions: Vec<(String, String, Option<String>)>,
}

/// Returns what the plans of a profile say, by the order of its graphs.
pub(super) fn of(passport: &Passport) -> Vec<CompiledGraph> {
    let graphs = passport.graphs.iter().filter_map(|(graph, built)| {
        let record = built.compilation.as_ref()?;
        Some(compiled(graph, record.plan.as_ref()?, record.plan_layers.as_ref()?))
    });
    graphs.collect()
}

fn compiled(graph: &str, header: &PlanHeader, layers: &PlanLayers) -> CompiledGraph {
    let exceptions = layers
        .exceptions(header)
        .into_iter()
        .map(|(gemm, why)| (gemm.nodes.join(", "), gemm.words(), why.map(|why| why.to_string())));
    CompiledGraph {
        graph: graph.into(),
        products: layers.products_in_words(),
        attention: layers.attention_in_words(),
        dequantize_kernels: layers.dequantize_kernels.len() as u64,
        weights: layers.weight_bytes_by_type.iter().map(|(name, bytes)| (name.to_string(), *bytes)).collect(),
        exceptions: exceptions.collect(),
    }
}

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
pub(crate) fn of(passport: &Passport) -> Vec<CompiledGraph> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute_capability::ComputeCapability;
    use crate::plan::{GemmFacts, GemmKind, TensorType, WeightFacts, WeightPath};

    #[test]
    fn a_convolution_that_fell_back_is_an_exception() {
        let weights = WeightFacts {
            stored: TensorType::Int8,
            shape: vec![128, 64, 3, 3],
            path: WeightPath::Kernel,
            scales: vec![128, 1, 1, 1],
            is_transposed: false,
        };
        let conv = GemmFacts {
            nodes: vec!["conv".into()],
            kind: GemmKind::Conv,
            operands: [TensorType::Fp16; 2],
            output: TensorType::Fp16,
            alpha: Some(1.0),
            weights: Some(weights),
        };
        let layers = PlanLayers {
            kernels: 4,
            gemms: vec![conv],
            weight_bytes_by_type: [(TensorType::Int8, 73_728)].into(),
            ..PlanLayers::default()
        };
        let header = PlanHeader {
            builder_version: "1.7.1.116".into(),
            compute_capabilities: vec![ComputeCapability::new(7, 5)],
            unknown_target_bits: 0,
        };
        let found = compiled("vision", &header, &layers);
        let words = "FP16 with INT8 weights, converted by a separate kernel";
        assert_eq!(found.products, format!("1 of 1 GEMMs in {words}"));
        assert_eq!((found.attention.as_str(), found.dequantize_kernels), ("none", 0));
        assert_eq!(found.weights, [("int8".to_owned(), 73_728)]);
        let why = "convolutions are not quantized on compute capability 7.5";
        assert_eq!(found.exceptions, [("conv".into(), words.into(), Some(why.to_owned()))]);
    }
}

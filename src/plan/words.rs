//! Facts of a plan's layers in words, for people.

use std::collections::BTreeMap;

use super::expected::{Fallback, reason};
use super::facts::{GemmFacts, PlanLayers, TensorType, WeightPath};
use super::header::PlanHeader;

impl GemmFacts {
    /// Returns what it computes in, and what its weights are stored in where that differs: `FP16 with INT4 weights`.
    pub fn words(&self) -> String {
        let computes_in = match (self.computes_in(), self.operands) {
            (TensorType::Unknown, [data, weights]) if data != weights => {
                format!("{} × {}", upper(data), upper(weights))
            }
            (one, _) => upper(one),
        };
        match &self.weights {
            Some(weights) if weights.path != WeightPath::Direct => {
                let separately =
                    if weights.path == WeightPath::Kernel { ", converted by a separate kernel" } else { "" };
                format!("{computes_in} with {} weights{separately}", upper(weights.stored))
            }
            _ => computes_in,
        }
    }

    /// Returns why it does not compute in the type that its weights are stored in, where the plan shows a reason.
    pub fn fallback(&self, header: &PlanHeader) -> Option<Fallback> {
        let weights = self.weights.as_ref().filter(|weights| weights.stored.is_low_bit())?;
        if self.computes_in() == weights.stored {
            return None;
        }
        Some(reason(header, self, weights.stored)).filter(|&reason| reason != Fallback::Unknown)
    }
}

impl PlanLayers {
    /// Returns how many products compute in what, the most frequent first: `10 of 12 GEMMs in INT8, 2 in FP16`.
    pub fn products_in_words(&self) -> String {
        let counts = self.counts();
        let total: u64 = counts.iter().map(|(_, count)| count).sum();
        let mut parts = counts.iter().map(|(words, count)| format!("{count} in {words}"));
        let Some((words, count)) = counts.first() else { return "no GEMM".into() };
        parts.next();
        let first = format!("{count} of {total} GEMMs in {words}");
        std::iter::once(first).chain(parts).collect::<Vec<_>>().join(", ")
    }

    /// Returns how attention is computed: `fused into 3 kernels, in FP16`.
    pub fn attention_in_words(&self) -> String {
        let apart = self.products_of_computed_tensors();
        let products = |count: u64| match count {
            1 => "1 product of computed tensors is a GEMM of its own".to_owned(),
            count => format!("{count} products of computed tensors are GEMMs of their own"),
        };
        let mut types: Vec<TensorType> =
            self.attention.iter().flat_map(|attention| attention.inputs.iter().copied()).collect();
        types.sort_unstable();
        types.dedup();
        let types: Vec<String> = types.into_iter().map(upper).collect();
        let fused = match self.attention.len() {
            0 => None,
            1 => Some(format!("fused into 1 kernel, in {}", types.join(" and "))),
            count => Some(format!("fused into {count} kernels, in {}", types.join(" and "))),
        };
        match (fused, apart) {
            (None, 0) => "none".into(),
            (None, count) => format!("not fused: {}", products(count)),
            (Some(fused), 0) => fused,
            (Some(fused), count) => format!("{fused}; {}", products(count)),
        }
    }

    /// Returns the products that differ from most of them, or whose weights are not computed with as they are stored for a reason
    /// that the plan shows; each with that reason.
    pub fn exceptions(&self, header: &PlanHeader) -> Vec<(&GemmFacts, Option<Fallback>)> {
        let most = self.counts().into_iter().next().map(|(words, _)| words);
        self.gemms
            .iter()
            .filter(|gemm| gemm.weights.is_some())
            .map(|gemm| (gemm, gemm.fallback(header)))
            .filter(|(gemm, fallback)| fallback.is_some() || Some(gemm.words()) != most)
            .collect()
    }

    /// The products with weights by what they compute in, the most frequent first.
    fn counts(&self) -> Vec<(String, u64)> {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for gemm in self.gemms.iter().filter(|gemm| gemm.weights.is_some()) {
            *counts.entry(gemm.words()).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts
    }
}

fn upper(element_type: TensorType) -> String {
    match element_type {
        TensorType::Unknown => "an unknown type".into(),
        other => other.as_str().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute_capability::ComputeCapability;
    use crate::plan::{FusedAttention, GemmKind, WeightFacts};

    fn product(operand: TensorType, stored: Option<TensorType>, path: WeightPath) -> GemmFacts {
        let weights = stored.map(|stored| WeightFacts {
            stored,
            shape: vec![8, 16],
            path,
            scales: vec![8, 1],
            is_transposed: false,
        });
        GemmFacts {
            nodes: vec!["mm".into()],
            kind: GemmKind::Gemm,
            operands: [operand; 2],
            output: TensorType::Fp16,
            alpha: None,
            weights,
        }
    }

    #[test]
    fn products_attention_and_exceptions() {
        let (fp16, int8) = (TensorType::Fp16, TensorType::Int8);
        let mut layers = PlanLayers::default();
        assert_eq!(
            (layers.products_in_words().as_str(), layers.attention_in_words().as_str()),
            ("no GEMM", "none")
        );
        layers.gemms = vec![
            product(fp16, Some(int8), WeightPath::Fused),
            product(int8, Some(int8), WeightPath::Direct),
            product(int8, Some(int8), WeightPath::Direct),
            product(fp16, Some(TensorType::Int4), WeightPath::Kernel),
            product(fp16, None, WeightPath::Direct),
        ];
        assert_eq!(
            layers.products_in_words(),
            "2 of 4 GEMMs in INT8, 1 in FP16 with INT4 weights, converted by a separate kernel, 1 in FP16 with INT8 weights"
        );
        let header = PlanHeader {
            builder_version: String::new(),
            compute_capabilities: vec![ComputeCapability::new(8, 9)],
            unknown_target_bits: 0,
        };
        let reasons: Vec<_> = layers.exceptions(&header).into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, [Some(Fallback::ScaleAlongK), Some(Fallback::ScaleAlongK)]);
        assert_eq!(
            layers.attention_in_words(),
            "not fused: 1 product of computed tensors is a GEMM of its own"
        );
        let fused = FusedAttention { nodes: vec![], inputs: vec![fp16; 3], output: int8 };
        layers.attention = vec![fused.clone(), fused];
        layers.gemms.pop();
        assert_eq!(layers.attention_in_words(), "fused into 2 kernels, in FP16");
        assert_eq!(product(TensorType::Unknown, None, WeightPath::Direct).words(), "an unknown type");
    }
}

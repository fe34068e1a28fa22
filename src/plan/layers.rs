//! From the compiler's graphs of kernels to facts.
//!
//! A product is an operation `fully_connected` or `corrltn` (convolution) of the plan's graph, or one inside a `runtime_fusion`, whose
//! inside is a graph of its own further on in the plan. Everything else that computes is a `function`.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{
    FusedAttention, GemmFacts, GemmKind, KernelFacts, PlanLayers, TensorType, WeightFacts, WeightPath,
};
use super::text::{Graph, Operation, Tensor};

const FUNCTION: &str = "function";
const FUSION: &str = "runtime_fusion";
/// What runs beside the kernels, to compute sizes and to keep streams in step.
const NOT_KERNELS: &[&str] = &["shape_call", "signal", "wait", "copy", "memset", "assert"];
/// Part of the name of a kernel of attention: `_gemm_mha_v2`.
const ATTENTION: &str = "mha";
/// How far a weight is followed inside a fused kernel; 4 steps were seen.
const MAX_STEPS: usize = 64;

/// Returns the facts of a plan's graphs, in the order of the plan; `None` if there is none.
pub(super) fn of(graphs: &[Graph]) -> Option<PlanLayers> {
    let mut layers = PlanLayers::default();
    let mut rest = graphs;
    while let [first, behind @ ..] = rest {
        let insides = behind.iter().take_while(|graph| graph.is_inside_of_a_kernel()).count();
        let (inside, after) = behind.split_at(insides);
        // An inside without a graph around it belongs to nothing.
        if !first.is_inside_of_a_kernel() {
            Plan::new(first, inside).add_to(&mut layers);
        }
        rest = after;
    }
    graphs.iter().any(|graph| !graph.is_inside_of_a_kernel()).then_some(layers)
}

fn gemm_kind(operation: &Operation) -> Option<GemmKind> {
    match operation.kind.as_str() {
        "fully_connected" => Some(GemmKind::Gemm),
        "corrltn" => Some(GemmKind::Conv),
        _ => None,
    }
}

/// A graph of kernels with the insides of its fused kernels.
struct Plan<'a> {
    graph: &'a Graph,
    insides: &'a [Graph],
    /// The kernels that read nothing but constants, by what they write.
    prepared: BTreeMap<&'a str, &'a Operation>,
}

/// Where the weights of a product come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    tensor: &'a Tensor,
    is_prepared: bool,
    scales: Option<&'a Tensor>,
}

impl<'a> Plan<'a> {
    fn new(graph: &'a Graph, insides: &'a [Graph]) -> Self {
        let mut plan = Self { graph, insides, prepared: BTreeMap::new() };
        for operation in graph.operations.iter().filter(|operation| operation.kind == FUNCTION) {
            let data = data_inputs(operation);
            if !data.is_empty() && data.iter().all(|name| plan.is_constant(name)) {
                plan.prepared.extend(operation.outputs.iter().map(|output| (output.as_str(), operation)));
            }
        }
        plan
    }

    fn add_to(&self, layers: &mut PlanLayers) {
        self.count_weights(&mut layers.weight_bytes_by_type);
        for operation in &self.graph.operations {
            let kind = operation.kind.as_str();
            if NOT_KERNELS.contains(&kind) {
                continue;
            }
            layers.kernels += 1;
            if let Some(kind) = gemm_kind(operation) {
                layers.gemms.push(self.product(operation, kind));
            } else if kind == FUSION {
                self.add_fusion(operation, layers);
            } else if kind == FUNCTION {
                self.add_function(operation, layers);
            } else {
                *layers.unknown_operations.entry(kind.to_owned()).or_default() += 1;
            }
        }
    }

    fn tensor(&self, name: &str) -> Option<&'a Tensor> {
        self.graph.tensors.get(name)
    }

    fn type_of(&self, name: Option<&String>) -> TensorType {
        type_of(name.and_then(|name| self.tensor(name)))
    }

    /// Returns the constant that a tensor is, or is a part of.
    fn constant(&self, name: &str) -> Option<&'a Tensor> {
        let tensor = self.tensor(name)?;
        if tensor.constant.is_some() {
            return Some(tensor);
        }
        let base = self.tensor(tensor.base.as_ref()?)?;
        base.constant.is_some().then_some(tensor)
    }

    fn is_constant(&self, name: &str) -> bool {
        self.constant(name).is_some()
    }

    /// Returns the constant behind a tensor of this graph: itself, or what the kernel read that wrote it.
    fn source(&self, name: &str) -> Option<Source<'a>> {
        if let Some(tensor) = self.constant(name) {
            return Some(Source { tensor, is_prepared: false, scales: None });
        }
        let base = self.tensor(name).and_then(|tensor| tensor.base.as_deref()).unwrap_or(name);
        let operation = self.prepared.get(base)?;
        let constants: Vec<_> =
            data_inputs(operation).iter().filter_map(|input| self.constant(input)).collect();
        let tensor = weights_among(&constants)?;
        Some(Source { tensor, is_prepared: true, scales: scales(&constants, tensor) })
    }

    fn count_weights(&self, bytes: &mut BTreeMap<TensorType, u64>) {
        let mut seen = BTreeSet::new();
        for tensor in self.graph.tensors.values() {
            if let Some(constant) = &tensor.constant
                && seen.insert(constant)
            {
                *bytes.entry(type_of(Some(tensor))).or_default() += constant.size_bytes;
            }
        }
    }

    /// A product that is a kernel of its own.
    fn product(&self, operation: &Operation, kind: GemmKind) -> GemmFacts {
        let operand = |index: usize| operation.inputs.get(index);
        let from = |index| operand(index).and_then(|name| self.source(name));
        // The weights are the second operand; a compiler may swap them.
        let (data, weights, source) = match (from(0), from(1)) {
            (Some(source), None) => (1, 0, Some(source)),
            (_, source) => (0, 1, source),
        };
        let operands = [self.type_of(operand(data)), self.type_of(operand(weights))];
        GemmFacts {
            nodes: nodes_of(operation),
            kind,
            operands,
            output: self.type_of(operation.outputs.first()),
            alpha: alpha_of(operation, kind),
            weights: source.map(|source| weight_facts(source, operation, operands[1])),
        }
    }

    /// The products inside a fused kernel.
    fn add_fusion(&self, fusion: &Operation, layers: &mut PlanLayers) {
        let Some(inside) = fusion.binary.and_then(|binary| self.insides.get(binary)) else {
            *layers.unknown_operations.entry(FUSION.into()).or_default() += 1;
            return;
        };
        let outer: BTreeMap<&str, &str> =
            inside.inputs.iter().map(String::as_str).zip(fusion.inputs.iter().map(String::as_str)).collect();
        let makers: BTreeMap<&str, &Operation> = inside
            .operations
            .iter()
            .flat_map(|operation| operation.outputs.iter().map(move |output| (output.as_str(), operation)))
            .collect();
        let before = layers.gemms.len();
        for operation in &inside.operations {
            let Some(kind) = gemm_kind(operation) else { continue };
            let [left, right] = [0, 1].map(|index| operation.inputs.get(index).map_or("", String::as_str));
            let from = |name| self.source_inside(name, &outer, &makers);
            let (data, weights, source) = match (from(left), from(right)) {
                (Some(source), None) => (right, left, Some(source)),
                (_, source) => (left, right, source),
            };
            let operands = [data, weights].map(|name| type_of(inside.tensors.get(name)));
            layers.gemms.push(GemmFacts {
                nodes: nodes_of(operation),
                kind,
                operands,
                output: type_of(operation.outputs.first().and_then(|name| inside.tensors.get(name))),
                alpha: alpha_of(operation, kind),
                weights: source.map(|source| weight_facts(source, operation, operands[1])),
            });
        }
        if layers.gemms.len() == before {
            *layers.unknown_operations.entry(FUSION.into()).or_default() += 1;
        }
    }

    /// Follows an operand of a fused kernel back to a constant of this graph; `None` if it is computed from anything else.
    fn source_inside(
        &self,
        operand: &str,
        outer: &BTreeMap<&str, &str>,
        makers: &BTreeMap<&str, &Operation>,
    ) -> Option<Source<'a>> {
        let mut open = vec![operand];
        let mut found = Vec::new();
        let mut is_prepared = false;
        let mut prepared_scales = None;
        for _ in 0..MAX_STEPS {
            let Some(name) = open.pop() else { break };
            if let Some(outer) = outer.get(name) {
                let source = self.source(outer)?;
                is_prepared |= source.is_prepared;
                prepared_scales = prepared_scales.or(source.scales);
                found.push(source.tensor);
            } else if let Some(maker) = makers.get(name) {
                open.extend(maker.inputs.iter().map(String::as_str));
            }
            // Else it is a constant of the kernel itself: one number, such as a scale of a whole tensor.
        }
        if !open.is_empty() {
            return None;
        }
        let tensor = weights_among(&found)?;
        Some(Source { tensor, is_prepared, scales: scales(&found, tensor).or(prepared_scales) })
    }

    /// A kernel of anything but products.
    fn add_function(&self, function: &Operation, layers: &mut PlanLayers) {
        let data = data_inputs(function);
        let output = self.type_of(function.outputs.first());
        if function.name.contains(ATTENTION) {
            layers.attention.push(FusedAttention {
                nodes: function.layers.clone(),
                inputs: data.iter().take(3).map(|name| self.type_of(Some(name))).collect(),
                output,
            });
            return;
        }
        let low_bit: Vec<&Tensor> = data
            .iter()
            .filter_map(|name| self.constant(name))
            .filter(|tensor| type_of(Some(tensor)).is_low_bit() && elements(tensor) != 1)
            .collect();
        let Some(weights) = weights_among(&low_bit) else { return };
        let stored = type_of(Some(weights));
        let size_bytes =
            low_bit.iter().filter_map(|tensor| tensor.constant.as_ref()).map(|found| found.size_bytes);
        let kernel =
            KernelFacts { nodes: function.layers.clone(), stored, output, size_bytes: size_bytes.sum() };
        let is_prepared = function.outputs.iter().any(|output| self.prepared.contains_key(output.as_str()));
        if !is_prepared {
            layers.low_bit_lookups.push(kernel);
        } else if output != stored {
            layers.dequantize_kernels.push(kernel);
        }
    }
}

/// Returns what a product is multiplied by. A convolution is multiplied by an operand of its own, and always says 1.
fn alpha_of(operation: &Operation, kind: GemmKind) -> Option<f32> {
    operation.alpha.filter(|_| kind == GemmKind::Gemm)
}

fn type_of(tensor: Option<&Tensor>) -> TensorType {
    tensor.map_or(TensorType::Unknown, |tensor| TensorType::of(&tensor.element_type))
}

fn weight_facts(source: Source<'_>, operation: &Operation, operand: TensorType) -> WeightFacts {
    let Source { tensor, is_prepared, scales } = source;
    let stored = type_of(Some(tensor));
    let path = match (stored == operand, is_prepared) {
        // A kernel that only lays out anew what it read takes no part in the arithmetic.
        (true, _) => WeightPath::Direct,
        (false, true) => WeightPath::Kernel,
        (false, false) => WeightPath::Fused,
    };
    WeightFacts {
        stored,
        shape: tensor.shape.clone(),
        path,
        scales: scales.map(|scales| scales.shape.clone()).unwrap_or_default(),
        is_transposed: operation.is_second_transposed,
    }
}

/// The inputs of a kernel without the sizes behind them.
fn data_inputs(operation: &Operation) -> &[String] {
    &operation.inputs[..operation.inputs.len().saturating_sub(operation.shape_inputs)]
}

fn elements(tensor: &Tensor) -> u64 {
    tensor.shape.iter().fold(1, |product, &size| product.saturating_mul(size))
}

/// The weights among constants that are read together: of the quantized ones, if there are any, the one with the most elements.
/// Padding may be larger than what it pads, and is not quantized.
fn weights_among<'a>(constants: &[&'a Tensor]) -> Option<&'a Tensor> {
    let rank = |tensor: &Tensor| {
        let is_quantized = type_of(Some(tensor)).is_low_bit() && elements(tensor) > 1;
        (is_quantized, elements(tensor))
    };
    constants.iter().copied().max_by_key(|tensor| rank(tensor))
}

/// The scales among constants that are read together with weights: the smallest that fits them.
fn scales<'a>(constants: &[&'a Tensor], weights: &Tensor) -> Option<&'a Tensor> {
    let fits = |other: &Tensor| {
        other.shape.len() == weights.shape.len()
            && elements(other) > 1
            && elements(other) < elements(weights)
            && other.shape.iter().zip(&weights.shape).all(|(&part, &whole)| part > 0 && whole % part == 0)
    };
    constants.iter().copied().filter(|other| fits(other)).min_by_key(|other| elements(other))
}

/// The nodes whose product an operation is: its name holds theirs, joined by `+`, with `_` for quotes. A node that is called like a
/// tensor gets a number: `up_U19`.
fn nodes_of(operation: &Operation) -> Vec<String> {
    let holds = |node: &&String| {
        let node = node.replace('"', "_");
        let name = operation.name.as_str();
        name.match_indices(&node).any(|(at, _)| {
            let (before, after) = (&name[..at], &name[at + node.len()..]);
            let after = without_number(after);
            !node.is_empty()
                && (before.is_empty() || before.ends_with('+'))
                && (after.is_empty() || after.starts_with('+'))
        })
    };
    operation.layers.iter().filter(holds).cloned().collect()
}

/// Returns what is behind a node's name, less the number that makes it unique.
fn without_number(behind: &str) -> &str {
    let Some(number) = behind.strip_prefix("_U") else { return behind };
    let rest = number.trim_start_matches(|digit: char| digit.is_ascii_digit());
    if rest.len() < number.len() { rest } else { behind }
}

//! Transformer blocks as CLIP has them: normalization first, multi-head attention, an MLP with exact GELU.

use super::graph_builder::{Attribute, GraphBuilder};

/// The sizes of a transformer.
#[derive(Clone, Copy)]
pub(super) struct Transformer {
    pub(super) width: i64,
    pub(super) heads: i64,
    pub(super) layers: i64,
    pub(super) mlp_width: i64,
}

/// Queries and keys are drawn wider than trained ones start, so that attention picks tokens instead of averaging
/// them all: with averages, every input would get nearly the same embedding.
const QUERY_KEY_GAIN: f64 = 2.0;

impl Transformer {
    /// Adds all blocks; `mask` is added to the attention scores. Returns the last block's output.
    pub(super) fn blocks(
        &self,
        builder: &mut GraphBuilder,
        prefix: &str,
        input: String,
        mask: Option<&str>,
    ) -> String {
        let shapes = Shapes::new(builder, prefix, self);
        (0..self.layers).fold(input, |input, layer| {
            let name = format!("{prefix}.block.{layer}");
            let attended = self.attention(builder, &format!("{name}.attention"), &input, mask, &shapes);
            self.mlp(builder, &format!("{name}.mlp"), &attended)
        })
    }

    fn attention(
        &self,
        builder: &mut GraphBuilder,
        name: &str,
        input: &str,
        mask: Option<&str>,
        shapes: &Shapes,
    ) -> String {
        let normalized = layer_norm(builder, &format!("{name}.norm"), input, self.width);
        let gain = QUERY_KEY_GAIN / (self.width as f64).sqrt();
        let out_gain = 1.0 / (self.width as f64).sqrt();
        let mut head = |part: &str, gain: f64, permutation: &[i64]| {
            let part = format!("{name}.{part}");
            let flat = linear(builder, &part, &normalized, self.width, self.width, gain);
            let split = builder.node("Reshape", &format!("{part}.heads"), &[&flat, &shapes.split], &[]);
            let attributes = [("perm", Attribute::Ints(permutation))];
            builder.node("Transpose", &format!("{part}.transpose"), &[&split], &attributes)
        };
        let query = head("query", gain, &[0, 2, 1, 3]);
        let key = head("key", gain, &[0, 2, 3, 1]);
        let value = head("value", out_gain, &[0, 2, 1, 3]);
        // Scaled before the product, so that the product stays small in half precision.
        let query = builder.node("Mul", &format!("{name}.query.scaled"), &[&query, &shapes.scale], &[]);
        let mut scores = builder.node("MatMul", &format!("{name}.scores"), &[&query, &key], &[]);
        if let Some(mask) = mask {
            scores = builder.node("Add", &format!("{name}.masked"), &[&scores, mask], &[]);
        }
        let softmax = [("axis", Attribute::Int(-1))];
        let weights = builder.node("Softmax", &format!("{name}.weights"), &[&scores], &softmax);
        let mixed = builder.node("MatMul", &format!("{name}.mixed"), &[&weights, &value], &[]);
        let order = [("perm", Attribute::Ints(&[0, 2, 1, 3]))];
        let mixed = builder.node("Transpose", &format!("{name}.mixed.transpose"), &[&mixed], &order);
        let joined = builder.node("Reshape", &format!("{name}.joined"), &[&mixed, &shapes.join], &[]);
        let out = linear(builder, &format!("{name}.out"), &joined, self.width, self.width, out_gain);
        builder.node("Add", &format!("{name}.residual"), &[input, &out], &[])
    }

    fn mlp(&self, builder: &mut GraphBuilder, name: &str, input: &str) -> String {
        let normalized = layer_norm(builder, &format!("{name}.norm"), input, self.width);
        let up_gain = 1.0 / (self.width as f64).sqrt();
        let down_gain = 1.0 / (self.mlp_width as f64).sqrt();
        let up = linear(builder, &format!("{name}.up"), &normalized, self.width, self.mlp_width, up_gain);
        let gelu = gelu(builder, &format!("{name}.gelu"), &up);
        let down = linear(builder, &format!("{name}.down"), &gelu, self.mlp_width, self.width, down_gain);
        builder.node("Add", &format!("{name}.residual"), &[input, &down], &[])
    }
}

/// Constants that all blocks share.
struct Shapes {
    split: String,
    join: String,
    scale: String,
}

impl Shapes {
    fn new(builder: &mut GraphBuilder, prefix: &str, sizes: &Transformer) -> Self {
        let head_width = sizes.width / sizes.heads;
        // IEEE 754 rounds the square root and the division correctly: the same bits everywhere.
        let scale = 1.0 / (head_width as f32).sqrt();
        Self {
            split: builder.integers(&format!("{prefix}.split_heads"), &[4], &[0, 0, sizes.heads, head_width]),
            join: builder.integers(&format!("{prefix}.join_heads"), &[3], &[0, 0, sizes.width]),
            scale: builder.floats(&format!("{prefix}.attention_scale"), &[], &[scale]),
        }
    }
}

/// Adds a layer normalization over the last axis.
pub(super) fn layer_norm(builder: &mut GraphBuilder, name: &str, input: &str, width: i64) -> String {
    let ones = vec![1.0; width as usize];
    let scale = builder.floats(&format!("{name}.weight"), &[width], &ones);
    let bias = builder.normal(&format!("{name}.bias"), &[width], 0.02);
    let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(1e-5))];
    builder.node("LayerNormalization", name, &[input, &scale, &bias], &attributes)
}

fn linear(builder: &mut GraphBuilder, name: &str, input: &str, from: i64, to: i64, gain: f64) -> String {
    let weight = builder.normal(&format!("{name}.weight"), &[from, to], gain);
    let bias = builder.normal(&format!("{name}.bias"), &[to], 0.02);
    let product = builder.node("MatMul", &format!("{name}.product"), &[input, &weight], &[]);
    builder.node("Add", name, &[&product, &bias], &[])
}

/// GELU in its exact form, `x/2 * (1 + erf(x / sqrt 2))`: the operator of that name is younger than opset 19.
fn gelu(builder: &mut GraphBuilder, name: &str, input: &str) -> String {
    let root = builder.floats(&format!("{name}.sqrt_2"), &[], &[std::f32::consts::SQRT_2]);
    let one = builder.floats(&format!("{name}.one"), &[], &[1.0]);
    let half = builder.floats(&format!("{name}.half"), &[], &[0.5]);
    let scaled = builder.node("Div", &format!("{name}.scaled"), &[input, &root], &[]);
    let erf = builder.node("Erf", &format!("{name}.erf"), &[&scaled], &[]);
    let gate = builder.node("Add", &format!("{name}.gate"), &[&erf, &one], &[]);
    let product = builder.node("Mul", &format!("{name}.gated"), &[input, &gate], &[]);
    builder.node("Mul", name, &[&product, &half], &[])
}

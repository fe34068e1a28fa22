//! The two towers of NV-CLIP: NVIDIA's documented names, shapes and opset, with seeded weights.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attention::{Transformer, layer_norm};
use super::graph_builder::{Attribute, GraphBuilder, Size};
use crate::onnx::{DEFAULT_INLINE_LIMIT_BYTES, ElementType, OnnxError, WrittenFile, write_model};

/// Raised whenever equal arguments start to give other bytes.
pub const SYNTH_VERSION: u32 = 1;

const IMAGE_SIZE: i64 = 224;
const CONTEXT: i64 = 77;
const EMBEDDING_WIDTH: i64 = 1024;
/// What keeps a token from seeing later ones: far below any score, and finite in half precision.
const MASKED_SCORE: f32 = -10_000.0;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $error:ident, $what:literal, $expected:literal,
     { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err($error { text: text.into() }),
                }
            }
        }

        #[doc = concat!("A string that is not a ", $what, ".")]
        #[derive(Debug, thiserror::Error)]
        #[error("`{text}` is not a {}: expected {}", $what, $expected)]
        pub struct $error {
            text: String,
        }
    };
}

named!(
    /// How large the towers are.
    NvclipSize, UnknownNvclipSize, "size of NV-CLIP", "tiny, b32, l14 or h14",
    {
        /// Under 4 MB a tower, with a vocabulary of 1024: for tests.
        Tiny = "tiny",
        /// As CLIP ViT-B/32.
        B32 = "b32",
        /// As CLIP ViT-L/14.
        L14 = "l14",
        /// As CLIP ViT-H/14, NV-CLIP's own size, with its vocabulary of 32000.
        H14 = "h14",
    }
);
named!(
    /// One of the two graphs.
    NvclipTower, UnknownNvclipTower, "tower of NV-CLIP", "vision or text",
    {
        /// Images to embeddings.
        Vision = "vision",
        /// Token ids to embeddings.
        Text = "text",
    }
);

impl NvclipSize {
    fn vision(self) -> (i64, Transformer) {
        match self {
            Self::Tiny => (32, Transformer { width: 128, heads: 4, layers: 2, mlp_width: 512 }),
            Self::B32 => (32, Transformer { width: 768, heads: 12, layers: 12, mlp_width: 3072 }),
            Self::L14 => (14, Transformer { width: 1024, heads: 16, layers: 24, mlp_width: 4096 }),
            Self::H14 => (14, Transformer { width: 1280, heads: 16, layers: 32, mlp_width: 5120 }),
        }
    }

    fn text(self) -> (i64, Transformer) {
        match self {
            Self::Tiny => (1024, Transformer { width: 128, heads: 4, layers: 2, mlp_width: 512 }),
            Self::B32 => (49408, Transformer { width: 512, heads: 8, layers: 12, mlp_width: 2048 }),
            Self::L14 => (49408, Transformer { width: 768, heads: 12, layers: 12, mlp_width: 3072 }),
            Self::H14 => (32000, Transformer { width: 1024, heads: 16, layers: 24, mlp_width: 4096 }),
        }
    }
}

/// Writes one tower with weights drawn from `seed`; the vision tower of `h14` gets an external data file.
///
/// # Errors
/// The destination can't be written.
pub fn write_nvclip_tower(
    size: NvclipSize,
    tower: NvclipTower,
    seed: u64,
    destination: &Path,
) -> Result<Vec<WrittenFile>, OnnxError> {
    let mut builder = GraphBuilder::new(&format!("nvclip_{size}_{tower}"), seed);
    match tower {
        NvclipTower::Vision => vision(&mut builder, size),
        NvclipTower::Text => text(&mut builder, size),
    }
    let (model, initializers) = builder.finish();
    write_model(&model, initializers, destination, DEFAULT_INLINE_LIMIT_BYTES)
}

fn vision(builder: &mut GraphBuilder, size: NvclipSize) {
    let (patch, sizes) = size.vision();
    let width = sizes.width;
    let tokens = (IMAGE_SIZE / patch) * (IMAGE_SIZE / patch) + 1;
    let pixels = [Size::Batch, Size::Fixed(3), Size::Fixed(IMAGE_SIZE), Size::Fixed(IMAGE_SIZE)];
    builder.input("IMAGE", ElementType::Float, &pixels);

    let gain = 1.0 / ((3 * patch * patch) as f64).sqrt();
    let kernel = builder.normal("vision.patch.weight", &[width, 3, patch, patch], gain);
    let strides =
        [("kernel_shape", Attribute::Ints(&[patch, patch])), ("strides", Attribute::Ints(&[patch, patch]))];
    let patches = builder.node("Conv", "vision.patch", &["IMAGE", &kernel], &strides);
    let flat = builder.integers("vision.patch.flat_shape", &[3], &[0, width, -1]);
    let patches = builder.node("Reshape", "vision.patch.flat", &[&patches, &flat], &[]);
    let order = [("perm", Attribute::Ints(&[0, 2, 1]))];
    let patches = builder.node("Transpose", "vision.patch.tokens", &[&patches], &order);

    let class = builder.normal("vision.class.weight", &[1, 1, width], 1.0);
    let batch = batch_size(builder, "vision.class", "IMAGE");
    let rest = builder.integers("vision.class.rest", &[2], &[1, width]);
    let axis = [("axis", Attribute::Int(0))];
    let shape = builder.node("Concat", "vision.class.shape", &[&batch, &rest], &axis);
    let class = builder.node("Expand", "vision.class", &[&class, &shape], &[]);
    let axis = [("axis", Attribute::Int(1))];
    let joined = builder.node("Concat", "vision.tokens", &[&class, &patches], &axis);
    let positions = builder.normal("vision.position.weight", &[1, tokens, width], 0.5);
    let placed = builder.node("Add", "vision.position", &[&joined, &positions], &[]);
    let normalized = layer_norm(builder, "vision.norm_before", &placed, width);

    let last = sizes.blocks(builder, "vision", normalized, None);
    let zero = builder.integers("vision.class_index", &[], &[0]);
    let pooled = builder.node("Gather", "vision.pooled", &[&last, &zero], &[("axis", Attribute::Int(1))]);
    embedding(builder, "vision", &pooled, width, "LOGITS_PER_IMAGE");
}

fn text(builder: &mut GraphBuilder, size: NvclipSize) {
    let (vocabulary, sizes) = size.text();
    let width = sizes.width;
    builder.input("TEXT", ElementType::Int64, &[Size::Batch, Size::Fixed(CONTEXT)]);

    let table = builder.normal("text.token.weight", &[vocabulary, width], 1.0);
    let tokens = builder.node("Gather", "text.token", &[&table, "TEXT"], &[("axis", Attribute::Int(0))]);
    let positions = builder.normal("text.position.weight", &[1, CONTEXT, width], 0.5);
    let placed = builder.node("Add", "text.position", &[&tokens, &positions], &[]);
    let mask: Vec<f32> = (0..CONTEXT)
        .flat_map(|row| (0..CONTEXT).map(move |column| if column > row { MASKED_SCORE } else { 0.0 }))
        .collect();
    let mask = builder.floats("text.causal_mask", &[1, 1, CONTEXT, CONTEXT], &mask);

    let last = sizes.blocks(builder, "text", placed, Some(&mask));
    // The end-of-text token has the largest id: CLIP takes the embedding at its position.
    let axes = [("axis", Attribute::Int(1)), ("keepdims", Attribute::Int(1))];
    let end = builder.node("ArgMax", "text.end_index", &["TEXT"], &axes);
    let pooled =
        builder.node("GatherND", "text.pooled", &[&last, &end], &[("batch_dims", Attribute::Int(1))]);
    embedding(builder, "text", &pooled, width, "LOGITS_PER_TEXT");
}

/// Returns the batch size of `input` as a tensor of one element.
fn batch_size(builder: &mut GraphBuilder, prefix: &str, input: &str) -> String {
    let ends = [("start", Attribute::Int(0)), ("end", Attribute::Int(1))];
    builder.node("Shape", &format!("{prefix}.batch"), &[input], &ends)
}

/// Projects a pooled token to the shared space and gives it the length 1.
///
/// Divided by its largest component first, a vector has a length of 1 to 32 (the square root of its width): no
/// square overflows or vanishes in half precision.
fn embedding(builder: &mut GraphBuilder, prefix: &str, pooled: &str, width: i64, output: &str) {
    let normalized = layer_norm(builder, &format!("{prefix}.norm_after"), pooled, width);
    let gain = 1.0 / (width as f64).sqrt();
    let weight = builder.normal(&format!("{prefix}.projection.weight"), &[width, EMBEDDING_WIDTH], gain);
    let projected = builder.node("MatMul", &format!("{prefix}.projection"), &[&normalized, &weight], &[]);
    let last = builder.integers(&format!("{prefix}.last_axis"), &[1], &[-1]);
    let magnitudes = builder.node("Abs", &format!("{prefix}.magnitudes"), &[&projected], &[]);
    let largest = builder.node("ReduceMax", &format!("{prefix}.largest"), &[&magnitudes, &last], &[]);
    let scaled = builder.node("Div", &format!("{prefix}.scaled"), &[&projected, &largest], &[]);
    let length = builder.node("ReduceL2", &format!("{prefix}.length"), &[&scaled, &last], &[]);
    builder.node("Div", output, &[&scaled, &length], &[]);
    builder.output(output, ElementType::Float, &[Size::Batch, Size::Fixed(EMBEDDING_WIDTH)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Dimension, OnnxFile};

    #[track_caller]
    fn check(tower: NvclipTower, input: &str, output: &str, sha256: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tower.onnx");
        let written = write_nvclip_tower(NvclipSize::Tiny, tower, 1, &path).unwrap();
        let file = OnnxFile::open(&path).unwrap();
        let digest = crate::onnx::graph_digest(&file).unwrap();
        assert_eq!(file.opset(), Some(19));
        assert_eq!(file.inputs()[0].name, input);
        assert_eq!(file.inputs()[0].shape[0], Dimension::Symbolic("batch".into()));
        assert_eq!(file.outputs()[0].name, output);
        assert_eq!(file.outputs()[0].shape[1], Dimension::Fixed(EMBEDDING_WIDTH));
        assert!(written[0].size_bytes < 4_000_000);
        assert_eq!(digest.files[0].sha256.to_hex(), sha256, "raise SYNTH_VERSION if this change is meant");
    }

    #[test]
    fn tiny_towers_are_the_same_bytes_everywhere() {
        check(
            NvclipTower::Vision,
            "IMAGE",
            "LOGITS_PER_IMAGE",
            "358a0b9b2c8baf8b837e29972a1121aacdf2012347a5e7cb11db9485c8015349",
        );
        check(
            NvclipTower::Text,
            "TEXT",
            "LOGITS_PER_TEXT",
            "c582b349eb3c3e5d6dc1d3b3d128de9c4f8be09c3b7500cc22fa16cdc4c5f5e9",
        );
    }

    #[test]
    fn names_parse() {
        assert_eq!("h14".parse::<NvclipSize>().unwrap(), NvclipSize::H14);
        assert_eq!(NvclipTower::Text.to_string(), "text");
        assert_eq!(
            "g14".parse::<NvclipSize>().unwrap_err().to_string(),
            "`g14` is not a size of NV-CLIP: expected tiny, b32, l14 or h14"
        );
    }
}

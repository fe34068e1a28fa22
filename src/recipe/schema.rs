//! The recipe as people write it (`nimctl.recipe/1`): what the YAML may hold, before anything is checked.
//!
//! Unknown keys are refused. Enums are externally tagged only, because the other forms lose the position of an error.
//! [`Spanned`](serde_saphyr::Spanned) values keep the line for checks that YAML can't do.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::mixed_precision::{Calibrate, Search};
use crate::onnx::quantize::{Embeddings, Treatment};
use crate::onnx::{Io, Precision};
use crate::profile::ProfilePrecision;
use crate::quantization::Require;
use crate::samples::Sample;
use crate::shape_range::ShapeRange;
use crate::source::Source;
use crate::validation::Demands;

/// The schema name that a recipe starts with.
pub(super) const RECIPE_SCHEMA: &str = "nimctl.recipe/1";

/// What a recipe of any version has.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub schema: Option<Spanned<String>>,
}

/// A model and the profiles wanted of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "nimctl.recipe/1")]
pub(super) struct Recipe {
    /// Always `nimctl.recipe/1`.
    #[schemars(with = "String", extend("const" = "nimctl.recipe/1"))]
    pub schema: Spanned<String>,
    /// The model's name and release.
    pub model: Model,
    /// The model's graphs by name; a profile holds all of them.
    #[schemars(with = "BTreeMap<String, Graph>")]
    pub graphs: Spanned<BTreeMap<String, Graph>>,
    /// The profiles: each entry is a matrix of targets and precisions.
    #[schemars(with = "Vec<ProfileGroup>")]
    pub profiles: Spanned<Vec<Spanned<ProfileGroup>>>,
    /// What `nimctl validate` demands of the profiles' numbers.
    #[schemars(with = "Option<Demands>")]
    pub validation: Option<Spanned<Demands>>,
}

/// One release of a named model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    /// The model's name, for example `nvclip-demo`.
    #[schemars(with = "String")]
    pub name: Spanned<String>,
    /// The release, for example `2.0.0`.
    #[schemars(with = "String")]
    pub release: Spanned<String>,
}

/// One ONNX network of the model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Graph {
    /// Where its ONNX comes from.
    #[schemars(with = "Source")]
    pub source: Spanned<Source>,
    /// Shape range of every input with a dynamic dimension.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, ShapeRange>")]
    pub shapes: BTreeMap<String, Spanned<ShapeRange>>,
    /// Values for every input: to validate and to measure, and for `calibrate` and `search`.
    #[serde(default)]
    pub samples: BTreeMap<String, Sample>,
    /// Values for every input that quantization measures activations on, of real data and other than `samples`: every image of a
    /// folder, every line of a text file, every row of an array. 32 rows are few, 256 are plenty.
    #[serde(default)]
    pub calibration: BTreeMap<String, Sample>,
}

/// Profiles that differ in target and precision only.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileGroup {
    /// `tensorrt-rtx` (built ahead of time), `tensorrt` (built on the GPU itself), `onnxruntime` (the generic
    /// profile), or a third party's `nimctl-backend-<name>`.
    #[schemars(with = "String")]
    pub backend: Spanned<String>,
    /// The precisions to build in.
    #[schemars(with = "Vec<ProfilePrecision>")]
    pub precisions: Spanned<Vec<ProfilePrecision>>,
    /// What to build for; one profile each.
    #[schemars(with = "Targets")]
    pub targets: Spanned<Targets>,
    /// How the graphs are lowered to the precision.
    #[serde(default)]
    pub lowering: Lowering,
    /// How the graphs are quantized, for the precisions of 8 and 4 bits.
    #[schemars(with = "Option<Quantize>")]
    pub quantize: Option<Spanned<Quantize>>,
    /// Max memory that the compiler may use for one layer, in MiB; the compiler's own limit if absent.
    pub workspace_mib: Option<u64>,
}

/// What a group of profiles is for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Targets {
    /// One profile for each of these GPUs.
    #[schemars(with = "Vec<String>")]
    Gpus(Vec<Spanned<String>>),
    /// One profile for each of these compute capabilities.
    #[schemars(with = "Vec<crate::compute_capability::ComputeCapability>")]
    ComputeCapabilities(Vec<Spanned<String>>),
    /// One portable profile for all of these compute capabilities together.
    #[schemars(with = "Vec<crate::compute_capability::ComputeCapability>")]
    Portable(Vec<Spanned<String>>),
    /// One profile for any machine.
    Generic,
}

/// How graphs are lowered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Lowering {
    /// Whether the graph's inputs and outputs keep their types.
    #[serde(default = "keep")]
    pub io: Io,
    /// Operator types that stay in FP32.
    #[serde(default)]
    pub keep_ops: Vec<String>,
    /// Nodes that stay in FP32, by name.
    #[serde(default)]
    pub keep_nodes: Vec<String>,
    /// Operator types that are lowered although they sum up many values.
    #[serde(default)]
    pub lower_ops: Vec<String>,
    /// Keep nodes in FP32 whose values leave the precision's range on the graph's samples.
    #[schemars(with = "Option<Calibrate>")]
    pub calibrate: Option<Spanned<Calibrate>>,
    /// Keep the fewest nodes in FP32 with which the numbers hold on the graph's samples.
    #[schemars(with = "Option<Search>")]
    pub search: Option<Spanned<Search>>,
}

impl Default for Lowering {
    fn default() -> Self {
        Self {
            io: keep(),
            keep_ops: Vec::new(),
            keep_nodes: Vec::new(),
            lower_ops: Vec::new(),
            calibrate: None,
            search: None,
        }
    }
}

/// How graphs are quantized.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Quantize {
    /// The precision of everything that is not quantized.
    #[serde(default = "fp16")]
    pub base: Precision,
    /// How scales are found: `auto` tries what there is and takes what is best for the whole graph; otherwise one method, as
    /// `nimctl quantize --method` takes it.
    #[schemars(with = "Option<String>")]
    pub method: Option<Spanned<String>>,
    /// How many weights share a scale in 4-bit formats: 16, 32, 64 or 128; 32 if absent.
    #[schemars(with = "Option<u32>")]
    pub block: Option<Spanned<u32>>,
    /// What becomes of embedding tables.
    #[serde(default = "int8")]
    pub embeddings: Embeddings,
    /// What becomes of what attention multiplies (queries, keys, values and probabilities), in `int8` and `fp8`.
    #[serde(default)]
    pub attention: Treatment,
    /// What becomes of convolutions, in `int8` and `fp8`; if absent, they are quantized for targets that compute them in 8 bits.
    pub convolutions: Option<Treatment>,
    /// Nodes that stay in the base precision, by name.
    #[serde(default)]
    pub keep_nodes: Vec<String>,
    /// What plans must make of the quantized nodes.
    #[serde(default)]
    pub require: Require,
    /// What the quantized graph must reach.
    #[schemars(with = "Option<QuantizeGate>")]
    pub gate: Option<Spanned<QuantizeGate>>,
}

/// What a quantized graph must reach on samples, and how long the search for it may take.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuantizeGate {
    /// The min cosine between a row of an output in FP32 and the same row quantized; 0.995 for 8 bits and 0.98 for 4 if absent.
    /// `nimctl validate` holds the profile to it too.
    pub min_row_cosine: Option<f64>,
    /// Most graphs that are run; 60 if absent.
    pub evaluations: Option<u32>,
}

fn fp16() -> Precision {
    Precision::Fp16
}

fn int8() -> Embeddings {
    Embeddings::Int8
}

fn keep() -> Io {
    Io::Keep
}

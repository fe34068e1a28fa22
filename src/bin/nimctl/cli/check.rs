//! Arguments of `check`.

use std::path::PathBuf;

use clap::Args;
use nimctl::compute_capability::ComputeCapability;
use nimctl::gpu;
use nimctl::profile::ProfilePrecision;

use super::limits;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl check model.onnx
  nimctl check model.onnx --for 8.9,12.0 --precision fp16
  nimctl check model.onnx --for l4,h100-sxm --output json
  nimctl check recipe.yaml

An ONNX file is checked in the shapes that `nimctl init` would propose, for tensorrt-rtx, which needs no GPU. A recipe is
checked with its own shapes, targets and precisions. Each graph is lowered as `nimctl build` would lower it; the compiler
names every node that it refuses, and compiles the graph for each target. Nothing is kept.

Exit codes:
  0  each target can be built in at least one of the precisions; in a recipe, every plan can be built
  1  the file is not an ONNX model, or the recipe is wrong
  2  usage
  3  a target, or a plan of the recipe, cannot be built
  5  the compiler is missing")]
pub(crate) struct Check {
    /// An ONNX file, or a recipe.
    #[arg(value_name = "MODEL.onnx|RECIPE")]
    pub(crate) subject: PathBuf,
    /// Only for these compute capabilities, or GPUs by name, separated by commas [default: all that the backend builds for, or those of the recipe].
    #[arg(long = "for", value_name = "LIST", value_delimiter = ',', value_parser = capability)]
    pub(crate) capabilities: Vec<ComputeCapability>,
    /// Only in these precisions, separated by commas: fp32, fp16, bf16, and for a recipe int8, int8-weights, fp8, int4, nvfp4 [default: fp32 and fp16, or those of the recipe].
    #[arg(long = "precision", value_name = "LIST", value_delimiter = ',')]
    pub(crate) precisions: Vec<ProfilePrecision>,
    /// The maximum time for one compilation, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) job_timeout: u64,
}

/// Reads `8.9` or `l4`.
fn capability(text: &str) -> Result<ComputeCapability, String> {
    match text.parse::<ComputeCapability>() {
        Ok(capability) => Ok(capability),
        Err(error) if text.starts_with(|c: char| c.is_ascii_digit()) => Err(error.to_string()),
        Err(_) => gpu::find(text).map(|gpu| gpu.compute_capability).map_err(|error| error.to_string()),
    }
}

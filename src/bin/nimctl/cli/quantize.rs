//! Arguments of `quantize`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nimctl::onnx::quantize::{
    BLOCKS, Embeddings, QuantizedPrecision, Treatment, UnknownMethod, UnknownQuantizedPrecision,
};
use nimctl::ops::quantize::Wanted;

use super::limits;

/// Arguments of `quantize`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nimctl quantize model.onnx -o model-int8.onnx --precision int8 --samples images=calibration.npy
  nimctl quantize text.onnx -o text-fp8.onnx --precision fp8 --samples input_ids=ids.npy --samples attention_mask=mask.npy
  nimctl quantize model.onnx -o model-int4.onnx --precision int4 --samples images=calibration.npy --min-row-cosine 0.99
  nimctl quantize model.onnx -o model-int8.onnx --precision int8 --samples images=calibration.npy --method smoothing=0.5

Products and convolutions with constant weights are quantized, and embedding tables; everything else is lowered to the base precision. While
methods are compared, a part of the samples judges the whole graph's outputs and the others calibrate, one part after the other; the
scales of the result are those of all samples. If no method reaches --min-row-cosine, a search finds which of them must stay in the base precision.

Exit codes:
  0  written
  1  the file is not an ONNX model, the samples cannot be used, or nothing can be quantized
  2  usage
  3  --min-row-cosine cannot be reached; nothing is written
  5  the onnxruntime worker, which runs the samples, is missing or failed")]
pub(crate) struct Quantize {
    /// The model, with FP32 weights. Its external data must be beside it.
    #[arg(value_name = "IN.onnx")]
    pub(crate) source: PathBuf,
    /// The file to write; weights that don't fit into one file go to <OUT.onnx>.data beside it.
    #[arg(short = 'o', long = "output-file", value_name = "OUT.onnx")]
    pub(crate) destination: PathBuf,
    /// The format of weights, and of the activations that they are multiplied with.
    #[arg(long, value_parser = parse_precision, value_name = "int8|int8-weights|fp8|int4|nvfp4")]
    pub(crate) precision: QuantizedPrecision,
    /// A NumPy file with samples of an input, one a row; once for each input.
    #[arg(long, value_name = "INPUT=FILE.npy", value_parser = sample, required = true)]
    pub(crate) samples: Vec<(String, PathBuf)>,
    /// Samples that judge; none of them may be among --samples [default: parts of --samples, one after the other].
    #[arg(long, value_name = "INPUT=FILE.npy", value_parser = sample)]
    pub(crate) judge: Vec<(String, PathBuf)>,
    /// The precision of everything else.
    #[arg(long, value_enum, default_value = "fp16")]
    pub(crate) base: BasePrecision,
    /// How scales are found: `auto` tries all that are worth it; `max` takes maxima; `smoothing=0.5`, `range=0.9`,
    /// `clipped` and `gptq`, or several of these separated by commas, are one method.
    #[arg(long, value_name = "METHOD", default_value = "auto", value_parser = method)]
    pub(crate) method: Wanted,
    /// How many weights share a scale in int4: 16, 32, 64 or 128.
    #[arg(long, value_name = "N", default_value = "32", value_parser = block)]
    pub(crate) block: u32,
    /// What to do with embedding tables.
    #[arg(long, value_enum, default_value = "int8")]
    pub(crate) embeddings: EmbeddingsArgument,
    /// What to do with what attention multiplies (queries, keys, values and probabilities), in int8 and fp8. Quantizing it costs many
    /// models most of their accuracy.
    #[arg(long, value_enum, default_value = "keep")]
    pub(crate) attention: TreatmentArgument,
    /// What to do with convolutions, in int8 and fp8. TensorRT for RTX computes them in 8 bits from compute capability 8.0 on; on 7.5
    /// it dequantizes their weights at every inference.
    #[arg(long, value_enum, default_value = "quantize")]
    pub(crate) convolutions: TreatmentArgument,
    /// Keep this node in the base precision; a node without a name is called after its first output.
    #[arg(long = "keep-node", value_name = "NAME")]
    pub(crate) keep_nodes: Vec<String>,
    /// The least cosine between a row of an output in FP32 and the same row quantized [default: 0.995; 0.98 for int4 and nvfp4].
    #[arg(long, value_name = "COSINE", value_parser = cosine)]
    pub(crate) min_row_cosine: Option<f64>,
    /// Most graphs to try.
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) evaluations: u32,
    /// The backend that will run the graph: softmax and normalizations are lowered if it computes them in FP32
    /// internally. `any` makes no assumptions.
    #[arg(long, value_name = "BACKEND", default_value = "any")]
    pub(crate) target: String,
    /// Write an FP32 graph that rounds as the quantized and lowered one does.
    #[arg(long)]
    pub(crate) emulate: bool,
    /// The maximum time for one run, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) job_timeout: u64,
}

/// A precision of what isn't quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BasePrecision {
    /// IEEE 754 binary32: as it was.
    Fp32,
    /// IEEE 754 binary16.
    Fp16,
    /// The upper half of a binary32.
    Bf16,
}

/// What to do with embedding tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmbeddingsArgument {
    /// They stay in the base precision.
    Keep,
    /// 8-bit integers.
    Int8,
    /// 4-bit integers.
    Int4,
}

impl From<EmbeddingsArgument> for Embeddings {
    fn from(argument: EmbeddingsArgument) -> Self {
        match argument {
            EmbeddingsArgument::Keep => Self::Keep,
            EmbeddingsArgument::Int8 => Self::Int8,
            EmbeddingsArgument::Int4 => Self::Int4,
        }
    }
}

/// Whether nodes of a kind are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TreatmentArgument {
    /// They stay in the base precision.
    Keep,
    /// They are quantized.
    Quantize,
}

impl From<TreatmentArgument> for Treatment {
    fn from(argument: TreatmentArgument) -> Self {
        match argument {
            TreatmentArgument::Keep => Self::Keep,
            TreatmentArgument::Quantize => Self::Quantize,
        }
    }
}

fn parse_precision(text: &str) -> Result<QuantizedPrecision, String> {
    text.parse().map_err(|error: UnknownQuantizedPrecision| error.to_string())
}

fn sample(text: &str) -> Result<(String, PathBuf), String> {
    let (input, file) = text.split_once('=').ok_or("expected INPUT=FILE.npy")?;
    if input.is_empty() || file.is_empty() {
        return Err("expected INPUT=FILE.npy".into());
    }
    Ok((input.into(), file.into()))
}

fn block(text: &str) -> Result<u32, String> {
    let block = text.parse().ok().filter(|block| BLOCKS.contains(block));
    block.ok_or_else(|| "expected 16, 32, 64 or 128".into())
}

fn cosine(text: &str) -> Result<f64, String> {
    let cosine = text.parse().ok().filter(|cosine| *cosine > 0.0 && *cosine < 1.0);
    cosine.ok_or_else(|| "expected a number between 0 and 1".into())
}

fn method(text: &str) -> Result<Wanted, String> {
    if text == "auto" {
        return Ok(Wanted::Auto);
    }
    text.parse().map(Wanted::Only).map_err(|error: UnknownMethod| error.to_string())
}

//! What can go wrong while a graph is quantized.

use std::io;
use std::path::PathBuf;

use crate::backend::QuantizedRefusal;
use crate::error_kind::ErrorKind;
use crate::onnx::OnnxError;
use crate::ops::error::PipelineError;
use crate::ops::lower::LowerError;
use crate::ops::samples::SamplesError;
use crate::ops::search_journal::JournalError;
use crate::ops::validate::runtime::RunError;
use crate::worker::npy::NpyError;

/// Why a graph can't be quantized.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum QuantizeError {
    /// The graph.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// Nothing to quantize.
    #[error(
        "{} has no product with a constant weight of at least 64 x 64, and no convolution over at least 16 channels, that {precision} could be used for",
        path.display()
    )]
    NothingToQuantize { path: PathBuf, precision: &'static str },
    /// A method that the samples are not enough for.
    #[error("method {method} can't be used: {why}; give more samples, or take another method")]
    MethodSkipped { method: String, why: String },
    /// A method of other formats.
    #[error("`{part}` is a method of {formats}, not of {precision}")]
    OtherMethod { part: &'static str, formats: &'static str, precision: &'static str },
    /// Attention in a format that has no attention.
    #[error("attention can't be quantized in {precision}: use int8 or fp8, or keep it (`--attention keep`)")]
    NoAttention { precision: &'static str },
    /// A format that the backend doesn't take.
    #[error("{0} (`--target` names the backend)")]
    Refused(#[from] QuantizedRefusal),
    /// A sample of something else.
    #[error("the graph has no input `{input}`; its inputs are {}", inputs.join(", "))]
    NoSuchInput { input: String, inputs: Vec<String> },
    /// An input without samples.
    #[error("input `{input}` has no samples; every input needs some ({})", inputs.join(", "))]
    NoSamples { input: String, inputs: Vec<String> },
    /// A file.
    #[error("cannot use the samples of input `{input}`: {source}")]
    Npy { input: String, source: NpyError },
    /// No rows.
    #[error("the samples of input `{input}` have no rows")]
    NoRows { input: String },
    /// Inputs that don't belong together.
    #[error(
        "the samples of input `{input}` have {found} rows, and those of other inputs {others}: row n of each input belongs to sample n"
    )]
    OtherRows { input: String, found: usize, others: usize },
    /// Too few rows to split.
    #[error(
        "{found} sample is too few to calibrate with: some are measured, and others judge the result; give at least 2, better 32 or more"
    )]
    TooFew { found: usize },
    /// NaN or infinity.
    #[error(
        "row {row} of the samples of input `{input}` has a value that is NaN or infinite; leave that row out"
    )]
    NotFinite { input: String, row: usize },
    /// Padding.
    #[error("row {row} of the samples is padding only: `{mask}` is all zeros there; leave that row out")]
    OnlyPadding { row: usize, mask: String },
    /// Rows that judge themselves.
    #[error(
        "row {judged} of the samples that judge is row {calibration} of those that calibrate; a row that scales were made for says nothing about others: give other rows to one of them"
    )]
    JudgedRowCalibrates { judged: usize, calibration: usize },
    /// The graph itself.
    #[error(
        "output `{output}` of the graph is NaN or infinite in FP32 on row {row} of the samples; leave that row out, or repair the graph"
    )]
    ReferenceNotFinite { output: String, row: usize },
    /// An activation.
    #[error(
        "value `{value}` inside the graph is NaN or infinite on row {row} of the samples; leave that row out, or repair the graph"
    )]
    ActivationNotFinite { value: String, row: usize },
    /// What the worker gave.
    #[error("the onnxruntime worker returned no output `{output}` of the expected size")]
    NoOutput { output: String },
    /// The gate.
    #[error(
        "no way was found to reach a min row cosine of {gate} in {precision}: the best is {best:.5} ({how}); ask for less (`min_row_cosine`), keep more (`keep_nodes`), give more samples, or use a higher precision"
    )]
    BelowGate { gate: f64, precision: &'static str, best: f64, how: String },
    /// A search that was too short.
    #[error(
        "the search ran its {evaluations} graphs before it found what to keep for a min row cosine of {gate}: the best so far is \
         {best:.5}; allow more `evaluations`, name one `method`, or ask for less (`min_row_cosine`)"
    )]
    OutOfEvaluations { gate: f64, best: f64, evaluations: u32 },
    /// A profile that isn't quantized.
    #[error("the profile asks for no quantization: this is a bug of nimctl")]
    NothingAsked,
    /// Samples of a recipe.
    #[error(transparent)]
    Samples(#[from] SamplesError),
    /// Running a graph.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A folder for graphs.
    #[error("cannot make a folder in {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// Where the result goes.
    #[error(transparent)]
    Destination(#[from] LowerError),
    /// An input with two files.
    #[error("the samples of input `{input}` are given twice; put all rows into one file")]
    NamedTwice { input: String },
    /// A node to keep that isn't there.
    #[error(
        "the graph has no node `{node}`, which is to be kept (`--keep-node`); a node without a name is called after its first output"
    )]
    NoSuchNode { node: String },
    /// The worker that runs graphs.
    #[error(transparent)]
    Pipeline(#[from] Box<PipelineError>),
    /// Ctrl-C.
    #[error("interrupted")]
    Cancelled,
}

impl QuantizeError {
    /// Returns what the error means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Onnx(source) => source.kind(),
            Self::Samples(source) => source.kind(),
            Self::Run(source) => source.kind(),
            Self::Destination(source) => source.kind(),
            Self::Pipeline(source) => source.kind(),
            Self::BelowGate { .. } | Self::OutOfEvaluations { .. } => ErrorKind::Refused,
            Self::NothingAsked => ErrorKind::Bug,
            Self::NoOutput { .. } => ErrorKind::Unavailable,
            _ => ErrorKind::Input,
        }
    }
}

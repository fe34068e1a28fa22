//! `quantize`: one graph to 8 or 4 bits, without recipe or store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{
    Found, Gate, Place, QuantizationChoice, QuantizeError, QuantizeProgress, Request, Wanted, find,
    split_files,
};
use crate::backend::{facts_of, takes_quantized};
use crate::machine::memory;
use crate::onnx::lower::{emulate, lower};
use crate::onnx::quantize::{
    QuantizationOptions, QuantizationReport, Quantized, Statistics, quantize, quantize_for_cpu,
};
use crate::onnx::{LoweringOptions, OnnxError, OnnxFile, Precision, WrittenFile};
use crate::ops::lower::check_destination;
use crate::ops::resolve::Backends;
use crate::ops::runners::Runners;
use crate::ops::workspace::Workspace;
use crate::worker::npy::NpyFile;
use crate::worker::protocol::Execution;

/// What to quantize, as a user says it.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// What to quantize.
    pub quantization: QuantizationOptions,
    /// Which methods are tried.
    pub wanted: Wanted,
    /// What must be reached.
    pub gate: Gate,
    /// Files of samples, by input.
    pub samples: Vec<(String, PathBuf)>,
    /// Files of samples that judge, by input; none for half of the others.
    pub judged: Vec<(String, PathBuf)>,
    /// The backend that the graph is for.
    pub target: String,
    /// Write an FP32 graph that rounds as the quantized one does.
    pub emulate: bool,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct QuantizeOutcome {
    /// What was found.
    pub choice: QuantizationChoice,
    /// What the quantization did.
    pub report: QuantizationReport,
    /// The files written, relative to the destination's folder.
    pub files: Vec<WrittenFile>,
    /// How long the samples took to read and to measure.
    pub statistics_time: Duration,
    /// How long all of the search took, with that.
    pub search_time: Duration,
    /// How long writing took.
    pub write_time: Duration,
    /// The largest resident size of this process, pages of mapped files included, on systems that report it.
    pub peak_memory_bytes: Option<u64>,
    /// That of the worker.
    pub worker_peak_bytes: Option<u64>,
}

/// Quantizes the graph at `source` and writes it to `destination`, whole or not at all.
///
/// # Errors
/// See [`QuantizeError`].
pub fn quantize_to(
    workspace: &Workspace,
    source: &Path,
    destination: &Path,
    options: &QuantizeOptions,
    on_progress: &dyn Fn(QuantizeProgress),
) -> Result<QuantizeOutcome, QuantizeError> {
    #[expect(clippy::disallowed_methods, reason = "the search is timed")]
    let start = Instant::now();
    let QuantizeOptions { quantization, wanted, gate, samples, judged, target, emulate: emulates } = options;
    takes_quantized(target, quantization.precision, None)?;
    let file = OnnxFile::open(source)?;
    let real = check_destination(&file, destination)?;
    let lowering = LoweringOptions::new(quantization.base, facts_of(target).fp32_inside);
    let work = tempfile::Builder::new().prefix("nimctl-quantize-").tempdir();
    let work = work.map_err(|source| QuantizeError::Folder { path: std::env::temp_dir(), source })?;
    let backends = Backends::new(workspace);
    let way = Runners::new(&backends, &Execution::default()).for_graphs().map_err(Box::new)?;
    let rows = |files, name| split_files(&file.inputs(), &open_all(files)?, &work.path().join(name));
    let calibration = rows(samples, "calibration")?;
    let judged = if judged.is_empty() { None } else { Some(rows(judged, "judged")?) };
    let request = Request {
        file: &file,
        options: quantization,
        lowering: &lowering,
        wanted: *wanted,
        gate: *gate,
        calibration: &calibration,
        judged: judged.as_deref(),
    };
    let place =
        Place { way: &way, workspace, folder: work.path(), journal: work.path().join("journal.jsonl") };
    let found = find(&request, &place, on_progress);
    if workspace.cancel.is_cancelled() {
        return Err(QuantizeError::Cancelled);
    }
    let Found { choice, statistics, statistics_time, worker_peak_bytes } = found?;
    let search_time = start.elapsed();
    let written = write(&file, quantization, &lowering, &choice, &statistics, *emulates, &real, work.path())?;
    Ok(QuantizeOutcome {
        choice,
        report: written.1,
        files: written.0,
        statistics_time,
        search_time,
        write_time: start.elapsed().saturating_sub(search_time),
        peak_memory_bytes: memory::own_peak_bytes(),
        worker_peak_bytes,
    })
}

/// Writes the graph as it was chosen, everything that isn't quantized lowered.
#[expect(clippy::too_many_arguments, reason = "all of it decides what is written")]
pub(in crate::ops) fn write(
    file: &OnnxFile,
    options: &QuantizationOptions,
    lowering: &LoweringOptions,
    choice: &QuantizationChoice,
    statistics: &Statistics,
    emulates: bool,
    destination: &Path,
    work_folder: &Path,
) -> Result<(Vec<WrittenFile>, QuantizationReport), OnnxError> {
    let mut options = options.clone();
    options.keep_nodes.extend(choice.kept.iter().cloned());
    let quantize = if emulates { quantize_for_cpu } else { quantize };
    if options.base == Precision::Fp32 {
        let quantized = quantize(file, &options, choice.method, statistics, destination)?;
        return Ok((quantized.files, quantized.report));
    }
    let between = work_folder.join("quantized.onnx");
    let quantized = quantize(file, &options, choice.method, statistics, &between)?;
    let between = OnnxFile::open(&between)?;
    let write = if emulates { emulate } else { lower };
    let lowered = write(&between, &lowering_of(lowering, &quantized), destination)?;
    Ok((lowered.files, quantized.report))
}

/// Returns how a quantized graph is lowered: with what stands for exact computations kept.
pub(super) fn lowering_of(lowering: &LoweringOptions, quantized: &Quantized) -> LoweringOptions {
    let mut lowering = lowering.clone();
    lowering.keep_nodes.extend(quantized.exact_nodes.iter().cloned());
    lowering
}

fn open_all(files: &[(String, PathBuf)]) -> Result<BTreeMap<String, NpyFile>, QuantizeError> {
    let mut all = BTreeMap::new();
    for (input, path) in files {
        let input = input.clone();
        match NpyFile::open(path) {
            Ok(_) if all.contains_key(&input) => return Err(QuantizeError::NamedTwice { input }),
            Ok(file) => _ = all.insert(input, file),
            Err(source) => return Err(QuantizeError::Npy { input, source }),
        }
    }
    Ok(all)
}

//! Runs a graph on rows of samples: to see its activations, and to compare a quantized graph with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::rows::Row;
use super::to_file::lowering_of;
use super::{QuantizeError, Trial};
use crate::mixed_precision::similarity::{NOT_FINITE, least_row_cosine};
use crate::onnx::lower::emulate;
use crate::onnx::quantize::{
    Channels, Method, ObservedChannels, ObservedTokens, QuantizationOptions, SampleTokens, Statistics,
    observe_channels, quantize_for_cpu,
};
use crate::onnx::{LoweringOptions, OnnxFile, Precision};
use crate::ops::runners::Way;
use crate::ops::validate::runtime::Runtime;
use crate::ops::workspace::Workspace;
use crate::validation::{Floats, Output};
use crate::worker::protocol::{Execution, GraphOptimization};

/// About as many tokens of each activation are kept in files at most: more hardly change what comes of them, and take disk and time.
const MOST_TOKENS: usize = 2048;

/// What runs graphs.
pub(super) struct Measure<'a> {
    file: &'a OnnxFile,
    /// How everything that isn't quantized is lowered.
    lowering: &'a LoweringOptions,
    folder: &'a Path,
    runtime: Runtime,
    /// Outputs of the FP32 graph, by the number of a row.
    reference: BTreeMap<usize, BTreeMap<String, Floats>>,
    /// The peak memory of the worker in any run.
    pub(super) peak_bytes: Option<u64>,
}

impl<'a> Measure<'a> {
    /// Nothing has run yet.
    pub(super) fn new(
        file: &'a OnnxFile,
        lowering: &'a LoweringOptions,
        way: &Way,
        workspace: &Workspace,
        folder: &'a Path,
    ) -> Self {
        // Fused kernels of integers round otherwise than the graph says.
        let execution =
            Execution { graph_optimization: Some(GraphOptimization::Basic), ..way.execution.clone() };
        let way = Way { execution, ..way.clone() };
        let runtime = Runtime::new(way, workspace, folder);
        Self { file, lowering, folder, runtime, reference: BTreeMap::new(), peak_bytes: None }
    }

    /// Measures the activations of all rows, part by part, remembers the outputs, and leaves some tokens of each row in files if
    /// `keeps_tokens`.
    pub(super) fn statistics(
        &mut self,
        options: &QuantizationOptions,
        rows: &[Row],
        parts: &[Range<usize>],
        keeps_tokens: bool,
        on_row: &dyn Fn(usize),
    ) -> Result<Vec<Statistics>, QuantizeError> {
        let folder = self.work_folder()?;
        let model = folder.path().join("model.onnx");
        let tokens = keeps_tokens.then(|| MOST_TOKENS.div_ceil(rows.len().max(1)));
        let observed = observe_channels(self.file, options, tokens, &model)?;
        let mut all = vec![Statistics::default(); parts.len()];
        for (index, row) in rows.iter().enumerate() {
            let mut outputs = self.run(row, &model)?;
            let mut take = |name: &String, count: Option<usize>| {
                let is_right = |floats: &Floats| count.is_none_or(|count| floats.values.len() == count);
                let floats = outputs.remove(name).filter(is_right);
                floats.ok_or_else(|| QuantizeError::NoOutput { output: name.clone() })
            };
            let count = Some(observed.count());
            let (largest, squares) = (take(&observed.largest, count)?, take(&observed.squares, count)?);
            let mut statistics = of_row(&observed, &largest.values, &squares.values, row)?;
            if let Some(ObservedTokens { activations, values, counts }) = &observed.tokens {
                let counts = take(counts, Some(activations.len()))?;
                let tokens = take(values, None)?;
                statistics.tokens.push(self.keep_tokens(activations, &counts.values, &tokens.values, row)?);
            }
            self.remember(row, outputs)?;
            // What each row gave is too much to keep.
            if let Some(part) = parts.iter().position(|part| part.contains(&index)) {
                all[part].add(&statistics);
            }
            on_row(index + 1);
        }
        Ok(all)
    }

    /// Puts the tokens of a row into a file.
    fn keep_tokens(
        &self,
        activations: &[(String, usize)],
        counts: &[f32],
        tokens: &[f32],
        row: &Row,
    ) -> Result<SampleTokens, QuantizeError> {
        let folder = self.folder.join("tokens");
        let failed = |source| QuantizeError::Folder { path: folder.clone(), source };
        fs_err::create_dir_all(&folder).map_err(failed)?;
        let activations = activations.iter().zip(counts);
        let activations: Vec<(String, usize, usize)> = activations
            .map(|((value, channels), count)| (value.clone(), *channels, *count as usize))
            .collect();
        SampleTokens::write(&folder.join(row.number.to_string()), &activations, tokens).map_err(failed)
    }

    /// Runs the FP32 graph, and remembers its outputs.
    pub(super) fn run_reference(&mut self, rows: &[Row]) -> Result<(), QuantizeError> {
        let path = self.file.path_for_others();
        for row in rows {
            let outputs = self.run(row, &path)?;
            self.remember(row, outputs)?;
        }
        Ok(())
    }

    fn remember(&mut self, row: &Row, outputs: BTreeMap<String, Floats>) -> Result<(), QuantizeError> {
        for (output, floats) in &outputs {
            if floats.values.iter().any(|value| !value.is_finite()) {
                let (output, row) = (output.clone(), row.number);
                return Err(QuantizeError::ReferenceNotFinite { output, row });
            }
        }
        self.reference.insert(row.number, outputs);
        Ok(())
    }

    /// Compares the quantized graph, everything else of it lowered, with the FP32 graph on rows whose outputs
    /// are remembered.
    pub(super) fn quantized(
        &mut self,
        options: &QuantizationOptions,
        method: Method,
        statistics: &Statistics,
        rows: &[Row],
    ) -> Result<Trial, QuantizeError> {
        let folder = self.work_folder()?;
        let quantized = folder.path().join("quantized.onnx");
        let written = quantize_for_cpu(self.file, options, method, statistics, &quantized)?;
        let model = if options.base == Precision::Fp32 {
            quantized
        } else {
            let emulated = folder.path().join("emulated.onnx");
            let lowering = lowering_of(self.lowering, &written);
            emulate(&OnnxFile::open(&quantized)?, &lowering, &emulated)?;
            emulated
        };
        let (mut least, mut sum) = (1f64, 0f64);
        for row in rows {
            let cosine = match self.run(row, &model) {
                Ok(outputs) => self.cosine(row, &outputs),
                Err(QuantizeError::Run(error)) if error.is_about_what_ran() => return Ok(Trial::UNUSABLE),
                Err(error) => return Err(error),
            };
            least = least.min(cosine);
            sum += cosine;
        }
        Ok(Trial { min_row_cosine: least, mean_row_cosine: sum / rows.len().max(1) as f64 })
    }

    /// Returns the cosine of the output that is furthest from the reference.
    fn cosine(&self, row: &Row, outputs: &BTreeMap<String, Floats>) -> f64 {
        let Some(reference) = self.reference.get(&row.number) else { return NOT_FINITE };
        let cosines = reference.iter().map(|(name, reference)| {
            let output = outputs.get(name).filter(|output| output.shape == reference.shape);
            output.map_or(NOT_FINITE, |output| {
                let length =
                    if reference.shape.len() < 2 { reference.values.len() } else { reference.row_length() };
                least_row_cosine(&reference.values, &output.values, length).0.max(NOT_FINITE)
            })
        });
        cosines.fold(1.0, f64::min)
    }

    fn run(&mut self, row: &Row, model: &Path) -> Result<BTreeMap<String, Floats>, QuantizeError> {
        let outputs = self.runtime.run_on(row.files.clone(), model)?;
        self.peak_bytes = self.peak_bytes.max(self.runtime.peak_memory_bytes());
        Ok(outputs
            .into_iter()
            .filter_map(|(name, output)| match output {
                Output::Floats(floats) => Some((name, floats)),
                // Outputs of other types don't say how near two graphs are.
                _ => None,
            })
            .collect())
    }

    fn work_folder(&self) -> Result<tempfile::TempDir, QuantizeError> {
        let folder = tempfile::Builder::new().prefix("graph-").tempdir_in(self.folder);
        folder.map_err(|source| QuantizeError::Folder { path: PathBuf::from(self.folder), source })
    }
}

fn of_row(
    observed: &ObservedChannels,
    largest: &[f32],
    squares: &[f32],
    row: &Row,
) -> Result<Statistics, QuantizeError> {
    let mut statistics = Statistics::default();
    let mut at = 0;
    for (value, count) in &observed.values {
        let place = at..at + count;
        at += count;
        let (largest, squares) = (&largest[place.clone()], &squares[place]);
        // Maxima may hide what is not a number; sums don't.
        if largest.iter().chain(squares).any(|value| !value.is_finite()) {
            return Err(QuantizeError::ActivationNotFinite { value: value.clone(), row: row.number });
        }
        let mut channels = Channels::default();
        channels.add(largest, squares);
        statistics.values.insert(value.clone(), channels);
    }
    Ok(statistics)
}

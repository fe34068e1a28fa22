//! Runs graphs in the worker and compares their outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{MixedPrecisionError, Runner};
use crate::mixed_precision::similarity::{NOT_FINITE, least_row_cosine};
use crate::onnx::lower::{MAGNITUDES, ObservedValue, emulate, observe};
use crate::onnx::{LoweringOptions, OnnxFile};
use crate::ops::samples::{self, Subject};
use crate::worker::host::{Limits, Worker};
use crate::worker::npy::Tensor;
use crate::worker::protocol::{Execution, RunRequest};

/// A worker with inputs, and the FP32 graph's outputs for them.
pub(super) struct Measure<'a> {
    file: &'a OnnxFile,
    runner: &'a Runner,
    worker: Worker,
    inputs: BTreeMap<String, PathBuf>,
    reference: BTreeMap<String, Floats>,
}

/// An output of FP32.
struct Floats {
    values: Vec<f32>,
    /// Values of one row: all that the first dimension doesn't count.
    row_length: usize,
}

impl<'a> Measure<'a> {
    /// Starts the worker and writes the inputs.
    pub(super) fn start(subject: &Subject<'a>, runner: &'a Runner) -> Result<Self, MixedPrecisionError> {
        let inputs = samples::write(subject, samples::Shapes::Opt, &runner.work_folder.join("inputs"))?;
        let limits = Limits { request_timeout: runner.timeout, ..Limits::default() };
        let worker = Worker::spawn(&runner.command, limits)?;
        Ok(Self { file: subject.file, runner, worker, inputs, reference: BTreeMap::new() })
    }

    /// Runs the graph in FP32, and remembers its outputs.
    pub(super) fn run_reference(&mut self) -> Result<(), MixedPrecisionError> {
        let path = fs_err::canonicalize(self.file.path()).unwrap_or_else(|_| self.file.path().into());
        self.reference = self.run(&path)?;
        for (output, floats) in &self.reference {
            let not_finite = floats.values.iter().position(|value| !value.is_finite());
            if let Some(position) = not_finite {
                let row = position / floats.row_length.max(1);
                return Err(MixedPrecisionError::ReferenceNotFinite { output: output.clone(), row });
            }
        }
        Ok(())
    }

    /// Returns the min row cosine of any output of the emulated graph against the reference.
    pub(super) fn row_cosine(&mut self, options: &LoweringOptions) -> Result<f64, MixedPrecisionError> {
        let folder = Graphs::new(&self.runner.work_folder)?;
        emulate(self.file, options, &folder.model)?;
        let outputs = self.run(&folder.model)?;
        let mut least = 1f64;
        for (name, reference) in &self.reference {
            let output = outputs
                .get(name)
                .filter(|output| output.values.len() == reference.values.len())
                .ok_or_else(|| MixedPrecisionError::NoOutput { output: name.clone() })?;
            let (cosine, _) = least_row_cosine(&reference.values, &output.values, reference.row_length);
            least = least.min(cosine.max(NOT_FINITE));
        }
        Ok(least)
    }

    /// Returns the largest magnitude of every value that would be lowered.
    pub(super) fn magnitudes(
        &mut self,
        options: &LoweringOptions,
    ) -> Result<Vec<(ObservedValue, f64)>, MixedPrecisionError> {
        let folder = Graphs::new(&self.runner.work_folder)?;
        let observed = observe(self.file, options, &folder.model)?;
        if observed.is_empty() {
            return Ok(Vec::new());
        }
        let mut outputs = self.run(&folder.model)?;
        let magnitudes = outputs
            .remove(MAGNITUDES)
            .filter(|output| output.values.len() == observed.len())
            .ok_or_else(|| MixedPrecisionError::NoOutput { output: MAGNITUDES.into() })?;
        Ok(observed.into_iter().zip(magnitudes.values.into_iter().map(f64::from)).collect())
    }

    fn run(&mut self, model: &Path) -> Result<BTreeMap<String, Floats>, MixedPrecisionError> {
        let folder = Graphs::new(&self.runner.work_folder)?;
        let request = RunRequest {
            path: model.into(),
            inputs: self.inputs.clone(),
            output_folder: folder.folder.path().into(),
            execution: Execution::default(),
        };
        let outputs = self.worker.run(request, &self.runner.cancel, &mut |_| {})?.result.outputs;
        let mut floats = BTreeMap::new();
        for (name, path) in outputs {
            let tensor = Tensor::read(&path).map_err(MixedPrecisionError::Output)?;
            // Outputs of other types don't say how near two graphs are.
            if let Some(values) = tensor.elements::<f32>() {
                let row_length = tensor.shape().get(1..).map_or(values.len(), |row| row.iter().product());
                // A plain vector is one row.
                let row_length = if tensor.shape().len() < 2 { values.len() } else { row_length };
                floats.insert(name, Floats { values, row_length });
            }
        }
        Ok(floats)
    }
}

/// A folder for one graph or one run, gone when dropped.
struct Graphs {
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Graphs {
    fn new(parent: &Path) -> Result<Self, MixedPrecisionError> {
        let failed = |source| MixedPrecisionError::Journal { path: parent.into(), source };
        fs_err::create_dir_all(parent).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix("graph-").tempdir_in(parent).map_err(failed)?;
        let model = folder.path().join("model.onnx");
        Ok(Self { folder, model })
    }
}

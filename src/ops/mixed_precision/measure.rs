//! Runs graphs in the worker and compares their outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{MixedPrecisionError, Runner};
use crate::mixed_precision::similarity::{NOT_FINITE, least_row_cosine};
use crate::onnx::lower::{Observed, ObservedValue, emulate, observe};
use crate::onnx::{LoweringOptions, OnnxFile};
use crate::ops::samples::{self, Subject};
use crate::worker::error::WorkerError;
use crate::worker::host::{Limits, Worker};
use crate::worker::npy::Tensor;
use crate::worker::protocol::{Digests, ErrorCode, Execution, RunRequest};

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
    shape: Vec<usize>,
}

impl Floats {
    /// Returns the number of values of one row: all that the first dimension doesn't count. A plain vector is one row.
    fn row_length(&self) -> usize {
        if self.shape.len() < 2 { self.values.len() } else { self.shape[1..].iter().product() }
    }
}

/// What came of running a graph with some nodes lowered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measured {
    /// The min row cosine of any output against the reference.
    RowCosine(f64),
    /// The graph could not be loaded or run, or its outputs have other shapes than the reference's.
    Unusable,
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
        let path = self.file.path_for_others();
        self.reference = self.run(&path)?;
        for (output, floats) in &self.reference {
            let not_finite = floats.values.iter().position(|value| !value.is_finite());
            if let Some(position) = not_finite {
                let row = position / floats.row_length().max(1);
                return Err(MixedPrecisionError::ReferenceNotFinite { output: output.clone(), row });
            }
        }
        Ok(())
    }

    /// Compares the emulated graph with the reference.
    ///
    /// # Errors
    /// What says nothing about the graph: the worker is gone, files can't be written.
    pub(super) fn emulated(&mut self, options: &LoweringOptions) -> Result<Measured, MixedPrecisionError> {
        let folder = Graphs::new(&self.runner.work_folder)?;
        emulate(self.file, options, &folder.model)?;
        let outputs = match self.run(&folder.model) {
            Ok(outputs) => outputs,
            Err(MixedPrecisionError::Worker(error)) if is_about_the_graph(&error) => {
                return Ok(Measured::Unusable);
            }
            Err(error) => return Err(error),
        };
        let mut least = 1f64;
        for (name, reference) in &self.reference {
            let Some(output) = outputs.get(name).filter(|output| output.shape == reference.shape) else {
                return Ok(Measured::Unusable);
            };
            let (cosine, _) = least_row_cosine(&reference.values, &output.values, reference.row_length());
            least = least.min(cosine.max(NOT_FINITE));
        }
        Ok(Measured::RowCosine(least))
    }

    /// Returns the largest magnitude of every value that would be lowered.
    pub(super) fn magnitudes(
        &mut self,
        options: &LoweringOptions,
    ) -> Result<Vec<(ObservedValue, f64)>, MixedPrecisionError> {
        let folder = Graphs::new(&self.runner.work_folder)?;
        let Observed { output, values } = observe(self.file, options, &folder.model)?;
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let mut outputs = self.run(&folder.model)?;
        let magnitudes = outputs
            .remove(&output)
            .filter(|magnitudes| magnitudes.values.len() == values.len())
            .ok_or(MixedPrecisionError::NoOutput { output })?;
        Ok(values.into_iter().zip(magnitudes.values.into_iter().map(f64::from)).collect())
    }

    fn run(&mut self, model: &Path) -> Result<BTreeMap<String, Floats>, MixedPrecisionError> {
        let folder = Graphs::new(&self.runner.work_folder)?;
        let request = RunRequest {
            path: model.into(),
            digests: Digests::new(),
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
                floats.insert(name, Floats { values, shape: tensor.shape().to_vec() });
            }
        }
        Ok(floats)
    }
}

/// Returns whether a worker that works reported a failure of the graph that it was given.
fn is_about_the_graph(error: &WorkerError) -> bool {
    let code = error.problem().map(|problem| problem.code);
    matches!(code, Some(ErrorCode::InvalidGraph | ErrorCode::RunFailed | ErrorCode::BuildFailed))
}

/// A folder for one graph or one run, gone when dropped.
struct Graphs {
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Graphs {
    fn new(parent: &Path) -> Result<Self, MixedPrecisionError> {
        let failed = |source| MixedPrecisionError::Folder { path: parent.into(), source };
        fs_err::create_dir_all(parent).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix("graph-").tempdir_in(parent).map_err(failed)?;
        let model = folder.path().join("model.onnx");
        Ok(Self { folder, model })
    }
}

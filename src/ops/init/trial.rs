//! Runs each graph in the proposed shapes, and in others if those fail.
//!
//! One or two rows are enough: what is found out is which lengths a graph takes, not how it scales.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::InitError;
use crate::backend::Backend;
use crate::onnx::OnnxFile;
use crate::ops::resolve::FoundBackend;
use crate::ops::samples::{self, Shapes, Subject};
use crate::recipe::OneNameTwoRanges;
use crate::recipe::proposal::{DimensionKind, DraftGraph, DraftInput, Trial, alternatives};
use crate::samples::Sample;
use crate::shape_range::ShapeRange;
use crate::toolchain::Places;
use crate::worker::discover::SearchPath;
use crate::worker::error::WorkerError;
use crate::worker::host::{BackendCommand, Cancel, Limits, Worker};
use crate::worker::npy::Tensor;
use crate::worker::protocol::{Digests, Execution, RunRequest};

/// Rows that are run at once.
const MAX_ROWS: i64 = 2;

/// Where ONNX Runtime is, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Tools<'a> {
    /// Where toolchains are.
    pub places: &'a Places,
    /// Where workers are.
    pub search_path: &'a SearchPath,
    /// The maximum time for one run of a graph.
    pub run_timeout: Duration,
    /// The maximum time for finding the shapes of one graph.
    pub search_time: Duration,
    /// Set to stop.
    pub cancel: &'a Cancel,
}

/// Runs one graph, and changes its ranges to some that run.
pub(in crate::ops) fn try_in_shapes(graph: &mut DraftGraph, file: &OnnxFile, tools: &Tools<'_>) -> Trial {
    match Runner::start(tools) {
        Ok(mut runner) => runner.settle(graph, file),
        Err(why) => Trial::NotRun(why),
    }
}

/// Tries every graph, and changes its ranges to some that run.
pub(super) fn try_all(
    graphs: &mut [DraftGraph],
    files: &[OnnxFile],
    tools: &Tools<'_>,
    on_graph: &dyn Fn(&str),
) -> Result<(), InitError> {
    let mut runner = match Runner::start(tools) {
        Ok(runner) => runner,
        Err(why) => {
            graphs.iter_mut().for_each(|graph| graph.trial = Trial::NotRun(why.clone()));
            return Ok(());
        }
    };
    for (graph, file) in graphs.iter_mut().zip(files) {
        if tools.cancel.is_cancelled() {
            return Err(InitError::Cancelled);
        }
        on_graph(&graph.name);
        graph.trial = runner.settle(graph, file);
    }
    if tools.cancel.is_cancelled() { Err(InitError::Cancelled) } else { Ok(()) }
}

/// A worker, replaced when it fails, and a folder for tensors.
struct Runner {
    command: BackendCommand,
    worker: Option<Worker>,
    limits: Limits,
    cancel: Cancel,
    search_time: Duration,
    folder: tempfile::TempDir,
}

impl Runner {
    /// Finds and starts ONNX Runtime; the error says in words what is missing.
    fn start(tools: &Tools<'_>) -> Result<Self, String> {
        let backend = Backend::reference();
        let found = FoundBackend::find(backend.name(), tools.search_path, tools.places)
            .map_err(|error| error.to_string())?;
        if found.library.is_none() {
            return Err("its library is not installed: run `nimctl toolchain install onnxruntime`".into());
        }
        let command = found.command;
        let limits = Limits { request_timeout: tools.run_timeout, ..Limits::default() };
        let worker = Worker::spawn(&command, limits).map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Self {
            command,
            worker: Some(worker),
            limits,
            cancel: tools.cancel.clone(),
            search_time: tools.search_time,
            folder,
        })
    }

    /// Runs a graph as proposed, then in other shapes until one runs; keeps the ranges that did.
    #[expect(clippy::disallowed_methods, reason = "the search for shapes is limited")]
    fn settle(&mut self, graph: &mut DraftGraph, file: &OnnxFile) -> Trial {
        if let Some(input) = graph.inputs.iter().find(|input| input.sample.is_none()) {
            return Trial::NotRun(format!("input `{}` takes {}", input.info.name, input.info.element_type));
        }
        let proposed: Vec<_> = graph.inputs.iter().map(|input| input.range.clone()).collect();
        let Err(first) = self.run(graph, &proposed, file) else { return Trial::Runs };
        let until = Instant::now() + self.search_time;
        for ranges in alternatives(&graph.inputs) {
            if Instant::now() > until || self.cancel.is_cancelled() {
                break;
            }
            let inputs = graph.inputs.iter().zip(&ranges);
            let ranged = inputs.filter_map(|(input, range)| Some((&input.info, range.as_ref()?)));
            if OneNameTwoRanges::first(ranged).is_some() {
                continue;
            }
            if self.run(graph, &ranges, file).is_ok() {
                for (input, range) in graph.inputs.iter_mut().zip(ranges) {
                    input.range = range;
                }
                return Trial::Narrowed(first);
            }
        }
        Trial::Fails(first)
    }

    /// Runs a graph at min, opt and max of these ranges; the error is the runtime's.
    fn run(
        &mut self,
        graph: &DraftGraph,
        ranges: &[Option<ShapeRange>],
        file: &OnnxFile,
    ) -> Result<(), String> {
        let (mut shapes, mut values) = (BTreeMap::new(), BTreeMap::new());
        for (input, range) in graph.inputs.iter().zip(ranges) {
            if let Some(range) = range {
                shapes.insert(input.info.name.clone(), few_rows(input, range));
            }
            values.extend(input.sample.clone().map(|sample: Sample| (input.info.name.clone(), sample)));
        }
        let subject = Subject { file, samples: &values, sample_folder: Path::new(""), shapes: &shapes };
        let cases: &[Shapes] = match shapes.is_empty() {
            true => &[Shapes::Opt],
            false => &[Shapes::Opt, Shapes::OptAlone, Shapes::Min, Shapes::Max],
        };
        cases.iter().try_for_each(|which| self.run_once(&subject, *which))
    }

    fn run_once(&mut self, subject: &Subject<'_>, which: Shapes) -> Result<(), String> {
        let inputs = samples::write(subject, which, &self.folder.path().join("inputs"))
            .map_err(|error| error.to_string())?;
        let outputs = tempfile::tempdir_in(self.folder.path()).map_err(|error| error.to_string())?;
        let path = subject.file.path();
        let request = RunRequest {
            path: fs_err::canonicalize(path).unwrap_or_else(|_| path.into()),
            digests: Digests::new(),
            inputs,
            output_folder: outputs.path().into(),
            execution: Execution::default(),
        };
        if self.worker.as_ref().is_none_or(|worker| !worker.is_healthy()) {
            self.worker = Some(Worker::spawn(&self.command, self.limits).map_err(|error| error.to_string())?);
        }
        let Some(worker) = &mut self.worker else { return Err("no worker".into()) };
        let done = worker.run(request, &self.cancel, &mut |_| {}).map_err(|error| cause(&error))?;
        for (name, file) in done.result.outputs {
            let tensor = Tensor::read(&file).map_err(|error| error.to_string())?;
            let values = tensor.elements::<f32>().unwrap_or_default();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(format!("output `{name}` has values that are not finite"));
            }
        }
        Ok(())
    }
}

/// Returns what a runtime says of a failed run, without what is the same for all: the file, and the node in which it was.
fn cause(error: &WorkerError) -> String {
    let message = error.problem().map_or_else(|| error.to_string(), |problem| problem.message);
    message.rsplit("Status Message: ").next().unwrap_or(&message).trim().to_owned()
}

/// Returns the range with few rows: with one at min and max, and two at opt where they may be two.
fn few_rows(input: &DraftInput, range: &ShapeRange) -> ShapeRange {
    let mut range = range.clone();
    for (index, _) in input.dynamic().filter(|(_, kind)| *kind == DimensionKind::Batch) {
        range.opt[index] = range.opt[index].min(MAX_ROWS);
        range.max[index] = range.min[index];
    }
    range
}

//! Runs graphs on the recipe's samples in the `onnxruntime` worker, each kind of graph once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{ValidateError, sample_folder};
use crate::onnx::lower::emulate;
use crate::onnx::{LoweringOptions, OnnxFile};
use crate::ops::build::{BuildOptions, mixed_precision};
use crate::ops::mixed_precision::Subject;
use crate::ops::mixed_precision::samples::{self, Shapes};
use crate::recipe::Recipe;
use crate::store::Store;
use crate::validation::Floats;
use crate::worker::error::WorkerError;
use crate::worker::host::{BackendCommand, Cancel, Limits, Worker};
use crate::worker::npy::Tensor;
use crate::worker::protocol::RunRequest;

/// The shapes that inputs are run in, and what results call them.
const CASES: [(&str, Shapes); 3] = [("min", Shapes::Least), ("opt", Shapes::Usual), ("max", Shapes::Largest)];

/// What a graph made of the samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    /// Outputs of floats by shapes and name.
    pub cases: BTreeMap<&'static str, BTreeMap<String, Floats>>,
    /// The outputs of the first rows of the usual shapes, run alone.
    pub alone: BTreeMap<String, Floats>,
}

impl Outputs {
    /// Returns the one embedding that the graph gives; nothing if it gives none or several.
    pub(super) fn embedding(&self, case: &str) -> Option<&Floats> {
        let mut found = self.cases.get(case)?.values().filter(|floats| floats.is_embedding());
        found.next().filter(|_| found.next().is_none())
    }
}

/// A model that lies in a folder of its own, gone when dropped.
#[derive(Debug)]
pub(super) struct Model {
    pub path: PathBuf,
    pub _folder: tempfile::TempDir,
}

/// A worker with inputs, and what it computed so far.
pub(super) struct Numbers<'a> {
    graphs: BTreeMap<&'a str, &'a OnnxFile>,
    command: BackendCommand,
    limits: Limits,
    cancel: Cancel,
    worker: Option<Worker>,
    runtime: String,
    folder: tempfile::TempDir,
    /// Input files by graph and shapes; `alone` is the fourth of them.
    inputs: BTreeMap<(String, &'static str), BTreeMap<String, PathBuf>>,
    references: BTreeMap<String, Outputs>,
    emulated: BTreeMap<(String, LoweringOptions), Outputs>,
}

impl<'a> Numbers<'a> {
    /// Starts the worker, and writes the inputs of every graph.
    pub(super) fn start(
        recipe: &'a Recipe,
        graphs: BTreeMap<&'a str, &'a OnnxFile>,
        options: &BuildOptions,
    ) -> Result<Self, ValidateError> {
        let (command, _) = mixed_precision::runtime(options)?;
        let folder = Store::open(&options.store)?.work_folder()?;
        let mut inputs = BTreeMap::new();
        for (name, file) in &graphs {
            let graph = &recipe.graphs[*name];
            let subject = Subject {
                file,
                samples: &graph.samples,
                sample_folder: sample_folder(&options.recipe),
                shapes: &graph.shapes,
            };
            for (case, shapes) in CASES.into_iter().chain([("alone", Shapes::UsualAlone)]) {
                let place = folder.path().join(format!("{name}-{case}"));
                let written = samples::write(&subject, shapes, &place)
                    .map_err(|source| ValidateError::Samples { graph: (*name).into(), source })?;
                inputs.insert(((*name).to_owned(), case), written);
            }
        }
        let limits = Limits { request_timeout: options.job_timeout, ..Limits::default() };
        let mut numbers = Self {
            graphs,
            command,
            limits,
            cancel: options.cancel.clone(),
            worker: None,
            runtime: String::new(),
            folder,
            inputs,
            references: BTreeMap::new(),
            emulated: BTreeMap::new(),
        };
        let failed = |source| ValidateError::Reference { graph: "any".into(), source };
        let library = numbers.worker().map_err(failed)?.description().library.clone();
        numbers.runtime = library.map_or_else(
            || "ONNX Runtime on the CPU".into(),
            |l| format!("{} {} on the CPU", l.name, l.version),
        );
        Ok(numbers)
    }

    /// Returns what runs the graphs.
    pub(super) fn runtime(&self) -> &str {
        &self.runtime
    }

    /// Returns what the FP32 graph gives.
    pub(super) fn reference(&mut self, graph: &str) -> Result<Outputs, ValidateError> {
        if let Some(known) = self.references.get(graph) {
            return Ok(known.clone());
        }
        let path = self.graphs[graph].path();
        let path = fs_err::canonicalize(path).unwrap_or_else(|_| path.into());
        let outputs = self
            .run(graph, &path)
            .map_err(|source| ValidateError::Reference { graph: graph.into(), source })?;
        for (case, floats) in
            outputs.cases.iter().flat_map(|(case, outputs)| outputs.iter().map(move |o| (case, o)))
        {
            let (name, floats) = floats;
            if floats.values.iter().any(|value| !value.is_finite()) {
                let message = format!(
                    "output `{name}` of graph `{graph}` is not finite in FP32 ({case} shapes): give other samples"
                );
                return Err(ValidateError::Profile(message));
            }
        }
        self.references.insert(graph.into(), outputs.clone());
        Ok(outputs)
    }

    /// Returns what the lowered graph gives, with its precision emulated; profiles that share a lowering share it.
    pub(super) fn emulated(
        &mut self,
        graph: &str,
        lowering: &LoweringOptions,
    ) -> Result<Outputs, ValidateError> {
        let key = (graph.to_owned(), lowering.clone());
        if let Some(known) = self.emulated.get(&key) {
            return Ok(known.clone());
        }
        let place = tempfile::tempdir_in(self.folder.path())
            .map_err(|source| ValidateError::Io { doing: "making a folder for a graph".into(), source })?;
        let model = place.path().join("model.onnx");
        emulate(self.graphs[graph], lowering, &model)?;
        let outputs = self.of_path(graph, &model)?;
        self.emulated.insert(key, outputs.clone());
        Ok(outputs)
    }

    /// Returns what a profile's own file gives.
    pub(super) fn of_file(&mut self, graph: &str, model: &Model) -> Result<Outputs, ValidateError> {
        self.of_path(graph, &model.path)
    }

    fn of_path(&mut self, graph: &str, path: &Path) -> Result<Outputs, ValidateError> {
        if self.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        self.run(graph, path).map_err(|error| ValidateError::Profile(format!("graph `{graph}`: {error}")))
    }

    /// Returns a worker that can take a request: one that crashed is replaced.
    fn worker(&mut self) -> Result<&mut Worker, WorkerError> {
        if self.worker.as_ref().is_some_and(|worker| !worker.is_healthy()) {
            self.worker = None;
        }
        match &mut self.worker {
            Some(worker) => Ok(worker),
            none => Ok(none.insert(Worker::spawn(&self.command, self.limits)?)),
        }
    }

    fn run(&mut self, graph: &str, path: &Path) -> Result<Outputs, WorkerError> {
        let mut outputs = Outputs::default();
        for (case, _) in CASES {
            let found = self.run_case(graph, case, path)?;
            outputs.cases.insert(case, found);
        }
        outputs.alone = self.run_case(graph, "alone", path)?;
        Ok(outputs)
    }

    fn run_case(
        &mut self,
        graph: &str,
        case: &'static str,
        path: &Path,
    ) -> Result<BTreeMap<String, Floats>, WorkerError> {
        let inputs = self.inputs[&(graph.to_owned(), case)].clone();
        let cancel = self.cancel.clone();
        let lost = |source| WorkerError::CannotStart { path: path.into(), source };
        let folder = tempfile::tempdir_in(self.folder.path()).map_err(lost)?;
        let request = RunRequest { path: path.into(), inputs, output_folder: folder.path().into() };
        let result = self.worker()?.run(request, &cancel, &mut |_| {})?.result;
        let mut outputs = BTreeMap::new();
        for (name, file) in result.outputs {
            let tensor = Tensor::read(&file).map_err(|error| lost(std::io::Error::other(error)))?;
            let floats = tensor.elements::<f32>().or_else(|| {
                tensor
                    .elements::<half::f16>()
                    .map(|values| values.into_iter().map(half::f16::to_f32).collect())
            });
            if let Some(values) = floats {
                outputs.insert(name, Floats { values, shape: tensor.shape().to_vec() });
            }
        }
        Ok(outputs)
    }
}

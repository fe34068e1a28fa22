//! What graphs give: the FP32 graph as the reference, whose outputs are kept in the store; the lowered graph with its precision
//! emulated, in place of a plan; a profile's own file. Each kind of graph is run once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ValidateError;
use super::inputs::{Alone, CASES, Files, GraphInputs, Labelled, write};
use super::key;
use super::outputs::Outputs;
use super::runtime::{RunError, Runtime};
use super::towers::{self, Embeddings};
use crate::canonical;
use crate::digest::Sha256;
use crate::files::work_folder::WorkFolder;
use crate::onnx::lower::emulate;
use crate::onnx::quantize::write_twin;
use crate::onnx::{GraphDigest, LoweringOptions, OnnxFile};
use crate::ops::error::PipelineError;
use crate::ops::not_run_here::NotRunHere;
use crate::ops::resolve::Resolved;
use crate::ops::run_identity::RunIdentity;
use crate::ops::runners::{Runners, Way};
use crate::ops::samples::{Shapes, named_files};
use crate::ops::to_lower::ToLower;
use crate::ops::workspace::Workspace;
use crate::passport::Passport;
use crate::profile::ProfileId;
use crate::shape_range::ShapeRange;
use crate::store::Store;
use crate::validation::Demands;
use crate::worker::protocol::Execution;

/// The schema of a reference's key.
const REFERENCE_SCHEMA: &str = "nimctl.reference/3";
/// Everything that decides what the FP32 graph gives.
#[derive(Serialize)]
struct ReferenceKey<'a> {
    schema: &'static str,
    graph: &'a GraphDigest,
    runs: &'a RunIdentity,
    inputs: BTreeMap<String, Sha256>,
}

/// The most bytes of weights times rows that are emulated beside a run of the profile itself: about a minute on two cores.
const MAX_EMULATED_BYTES: u64 = 64_000_000_000;

/// How much of a profile is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// All shapes: nothing else was run.
    All,
    /// The shapes that don't take too long: the profile itself was run in all of them.
    InReasonableTime,
}

/// A model that lies in a folder of its own, gone when dropped.
#[derive(Debug)]
pub(super) struct Model {
    pub path: PathBuf,
    pub _folder: WorkFolder,
}

/// A worker with inputs, and what it computed so far.
pub(super) struct Numbers<'a> {
    workspace: &'a Workspace,
    resolved: &'a Resolved,
    store: Store,
    /// ONNX Runtime on the CPU: the reference, graphs that stand for plans, and generic profiles.
    cpu: Runtime,
    /// What `cpu` is, in words.
    reference_runtime: String,
    /// What `cpu` is, for keys.
    reference_identity: RunIdentity,
    folder: WorkFolder,
    inputs: BTreeMap<String, GraphInputs>,
    /// The digest of every file of `inputs`, by graph.
    input_digests: BTreeMap<String, BTreeMap<String, Sha256>>,
    labelled: Option<Labelled>,
    /// Which outputs embed the labelled set, once that is known.
    embeddings: Option<Embeddings>,
    references: BTreeMap<String, Outputs>,
    emulated: BTreeMap<(String, LoweringOptions, Extent), Outputs>,
}

impl<'a> Numbers<'a> {
    /// Starts the worker, and writes the inputs of every graph.
    pub(super) fn start(workspace: &'a Workspace, resolved: &'a Resolved) -> Result<Self, ValidateError> {
        named_files::check(resolved.recipe(), resolved.file().folder())?;
        let way = Runners::new(&resolved.backends, &Execution::default()).for_graphs()?;
        let reference_identity = RunIdentity::of(&way);
        // The folder of references and the work folder are made here.
        let store = Store::open(&workspace.store)?;
        let folder = store.work_folder()?;
        let (inputs, labelled) = write(resolved, folder.path())?;
        let input_digests = inputs
            .iter()
            .map(|(graph, inputs)| Ok((graph.clone(), inputs.digests()?)))
            .collect::<std::io::Result<_>>()
            .map_err(|source| ValidateError::Io { doing: "reading the inputs".into(), source })?;
        let mut cpu = Runtime::new(way, workspace, folder.path());
        let reference_runtime =
            cpu.place().map_err(|source| PipelineError::Worker { backend: "onnxruntime".into(), source })?;
        Ok(Self {
            workspace,
            resolved,
            store,
            cpu,
            reference_runtime,
            reference_identity,
            folder,
            inputs,
            input_digests,
            labelled,
            embeddings: None,
            references: BTreeMap::new(),
            emulated: BTreeMap::new(),
        })
    }

    /// Returns what runs the reference, in words.
    pub(super) fn reference_runtime(&self) -> &str {
        &self.reference_runtime
    }

    /// Returns what runs the reference.
    pub(super) fn cpu(&mut self) -> &mut Runtime {
        &mut self.cpu
    }

    /// Returns a worker that runs a profile in its own way. What its library compiles for one run serves the others.
    pub(super) fn runtime(&self, mut way: Way, passport: &Passport) -> Runtime {
        if passport.contents.backend.facts().compiles_when_loaded {
            let kernels = self.folder.path().join(format!("kernels-{}", passport.id));
            way.execution.runtime_cache = Some(kernels);
        }
        Runtime::new(way, self.workspace, self.folder.path())
    }

    /// Returns what the rows of the labelled set mean, if there is one.
    pub(super) fn labelled(&self) -> Option<&Labelled> {
        self.labelled.as_ref()
    }

    /// Returns which outputs embed the labelled set; `None` without one.
    ///
    /// # Errors
    /// Graphs whose reference has no such outputs, or too many.
    pub(super) fn embeddings(&mut self) -> Result<Option<Embeddings>, ValidateError> {
        if let (None, Some(labelled)) = (&self.embeddings, self.labelled.clone()) {
            let image = self.reference(&labelled.image_graph)?;
            let text = self.reference(&labelled.text_graph)?;
            self.embeddings = Some(towers::embeddings(&labelled, &image, &text)?);
        }
        Ok(self.embeddings.clone())
    }

    /// Returns the rows of a batch that are run alone, by the names of their runs.
    pub(super) fn alone(&self, graph: &str) -> &BTreeMap<&'static str, Alone> {
        &self.inputs[graph].alone
    }

    /// Returns the files of one run.
    pub(super) fn files(&self, graph: &str, case: &str) -> Option<&Files> {
        self.inputs.get(graph)?.cases.get(case)
    }

    /// Returns what the FP32 graph gives: from the store, if it is known there for the same graph, inputs and runtime.
    pub(super) fn reference(&mut self, graph: &str) -> Result<Outputs, ValidateError> {
        if let Some(known) = self.references.get(graph) {
            return Ok(known.clone());
        }
        let key = self.reference_key(graph)?;
        let outputs = match self.store.reference(&key)?.and_then(|bytes| Outputs::of_npz(&bytes)) {
            Some(known) => known,
            None => {
                let path = self.reference_path(graph);
                let outputs = self.cpu.run(&self.inputs[graph], &path);
                let outputs = outputs.map_err(|source| self.reference_failed(graph, source))?;
                self.resolved.graphs[graph].check_unchanged(graph)?;
                check_measure(graph, &outputs)?;
                if let Some(npz) = outputs.to_npz() {
                    self.store.put_reference(&key, &npz)?;
                }
                outputs
            }
        };
        self.references.insert(graph.into(), outputs.clone());
        Ok(outputs)
    }

    /// Returns where the FP32 graph is.
    pub(super) fn reference_path(&self, graph: &str) -> PathBuf {
        self.resolved.graphs[graph].file.path_for_others()
    }

    /// Returns the key of validating a profile; nothing if it has none.
    pub(super) fn key(
        &self,
        profile: &ProfileId,
        way: Result<&Way, &NotRunHere>,
        demands: &Demands,
    ) -> Option<Sha256> {
        let graphs = self.resolved.digests.iter().map(|(name, digest)| (name.as_str(), digest)).collect();
        let given = key::Given {
            graphs: &graphs,
            inputs: &self.input_digests,
            demands,
            labelled: self.labelled.as_ref(),
            reference: &self.reference_identity,
        };
        key::key(profile, way, &given)
    }

    fn reference_key(&self, graph: &str) -> Result<Sha256, ValidateError> {
        let inputs = self.input_digests[graph].clone();
        let graph = &self.resolved.digests[graph];
        let key = ReferenceKey { schema: REFERENCE_SCHEMA, graph, runs: &self.reference_identity, inputs };
        canonical::digest(&key).map_err(|error| ValidateError::Io {
            doing: "naming a reference".into(),
            source: std::io::Error::other(error),
        })
    }

    /// Returns what the lowered graph gives, with its precision emulated; profiles that share a lowering share it.
    pub(super) fn emulated(
        &mut self,
        graph: &str,
        lowering: &LoweringOptions,
        extent: Extent,
    ) -> Result<Outputs, ValidateError> {
        let key = (graph.to_owned(), lowering.clone(), extent);
        if let Some(known) = self.emulated.get(&key) {
            return Ok(known.clone());
        }
        let model = self.emulated_model(graph, lowering)?;
        if self.workspace.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        let left_out = self.too_long(graph, extent);
        let outputs = self.cpu.run_without(&self.inputs[graph], &model.path, &left_out);
        let outputs = outputs.map_err(|error| self.profile_failed(graph, error))?;
        self.emulated.insert(key, outputs.clone());
        Ok(outputs)
    }

    /// Returns the shapes of a graph that are not emulated, as `graph/shapes`.
    pub(super) fn left_out(&self, graph: &str, extent: Extent) -> Vec<String> {
        self.too_long(graph, extent).into_iter().map(|case| format!("{graph}/{case}")).collect()
    }

    /// Returns the shapes that would take too long: never `opt`.
    fn too_long(&self, graph: &str, extent: Extent) -> Vec<&'static str> {
        let ranges = &self.resolved.recipe().graphs[graph].shapes;
        let axes = self.resolved.subject(graph).batch_axes();
        let rows_of = |input: &String, range: &ShapeRange, shapes: Shapes| {
            let axis = axes.axis(input)?;
            shapes.of(range, Some(axis)).get(axis).copied()
        };
        let work = |shapes: Shapes| {
            let rows = ranges.iter().filter_map(|(input, range)| rows_of(input, range, shapes)).max();
            let rows = u64::try_from(rows.unwrap_or(1)).unwrap_or(1);
            self.resolved.graphs[graph].file.size_bytes().saturating_mul(rows)
        };
        let is_too_long = |(case, shapes): (&'static str, Shapes)| {
            let asked = extent == Extent::InReasonableTime && case != "opt";
            (asked && work(shapes) > MAX_EMULATED_BYTES).then_some(case)
        };
        CASES.into_iter().filter_map(is_too_long).collect()
    }

    /// Writes the lowered graph, with its precision emulated.
    pub(super) fn emulated_model(
        &self,
        graph: &str,
        lowering: &LoweringOptions,
    ) -> Result<Model, ValidateError> {
        let folder = self.store.work_folder()?;
        let path = folder.path().join("model.onnx");
        let to_lower = ToLower::of(&self.resolved.graphs[graph].file, lowering, &self.store)?;
        // What ONNX Runtime's CPU has no operators for has a twin that it can run.
        let twin = folder.path().join("twin.onnx");
        match write_twin(to_lower.file(), &twin)? {
            None => emulate(to_lower.file(), lowering, &path)?,
            Some(exact_nodes) => {
                let mut lowering = lowering.clone();
                lowering.keep_nodes.extend(exact_nodes);
                emulate(&OnnxFile::open(&twin)?, &lowering, &path)?
            }
        };
        Ok(Model { path, _folder: folder })
    }

    /// Returns what a profile's own file of a graph gives, in its own worker; the graph was lowered in this way.
    pub(super) fn of_profile(
        &self,
        graph: &str,
        path: &Path,
        lowering: &LoweringOptions,
        worker: &mut Runtime,
    ) -> Result<Outputs, ValidateError> {
        let inputs = self.inputs[graph].lowered(lowering);
        let inputs = inputs.map_err(|source| ValidateError::Samples { graph: graph.into(), source })?;
        self.run(graph, &inputs, path, worker)
    }

    /// Returns what a profile's own file of a graph gives, where the inputs are those of the lowered graph already.
    pub(super) fn of_profile_as_it_is(
        &self,
        graph: &str,
        path: &Path,
        worker: &mut Runtime,
    ) -> Result<Outputs, ValidateError> {
        self.run(graph, &self.inputs[graph], path, worker)
    }

    fn run(
        &self,
        graph: &str,
        inputs: &GraphInputs,
        path: &Path,
        worker: &mut Runtime,
    ) -> Result<Outputs, ValidateError> {
        if self.workspace.cancel.is_cancelled() {
            return Err(ValidateError::Cancelled);
        }
        worker.run(inputs, path).map_err(|error| self.profile_failed(graph, error))
    }

    /// Says what it means that the FP32 graph could not be run.
    pub(super) fn reference_failed(&self, graph: &str, source: RunError) -> ValidateError {
        if self.workspace.cancel.is_cancelled() {
            return ValidateError::Cancelled;
        }
        ValidateError::Reference { graph: graph.into(), source }
    }

    /// Says what it means that a profile's graph could not be run: that it failed, or that something else did.
    pub(super) fn profile_failed(&self, graph: &str, source: RunError) -> ValidateError {
        if self.workspace.cancel.is_cancelled() {
            return ValidateError::Cancelled;
        }
        if source.is_about_what_ran() {
            return ValidateError::Profile(format!("graph `{graph}`: {source}"));
        }
        ValidateError::Around { graph: graph.into(), source }
    }
}

/// Fails if the reference itself is no measure.
fn check_measure(graph: &str, outputs: &Outputs) -> Result<(), ValidateError> {
    for (case, outputs) in &outputs.cases {
        for (name, output) in outputs {
            if !output.is_finite() {
                let (graph, output, case) = (graph.into(), name.clone(), (*case).into());
                return Err(ValidateError::ReferenceNotFinite { graph, output, case });
            }
        }
    }
    let names: BTreeSet<&String> = outputs.cases.values().flat_map(BTreeMap::keys).collect();
    let is_compared =
        |name: &String| outputs.cases.values().any(|found| found.get(name).is_some_and(|o| !o.is_empty()));
    match names.iter().find(|name| !is_compared(name)) {
        Some(output) => {
            Err(ValidateError::NothingToCompare { graph: graph.into(), output: (*output).clone() })
        }
        None => Ok(()),
    }
}

//! A worker that runs graphs or plans on given inputs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::inputs::{CASES, Files, GraphInputs};
use super::outputs::{Outputs, output_of};
use crate::compute_capability::ComputeCapability;
use crate::error_kind::ErrorKind;
use crate::ops::runners::{Way, place};
use crate::ops::workspace::Workspace;
use crate::validation::{Floats, Output};
use crate::worker::error::WorkerError;
use crate::worker::host::{Answer, Cancel, Limits, Worker};
use crate::worker::npy::{NpyError, Tensor};
use crate::worker::protocol::{Digests, RanOn, RunRequest};
use crate::worklist::OutputFile;

/// Why a graph or plan gave no outputs.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The worker.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The folder that its outputs are written into.
    #[error("cannot make a folder for outputs in {}: {source}", folder.display())]
    Folder {
        /// The parent.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An output that it wrote.
    #[error("cannot read output `{output}`: {source}")]
    Output {
        /// The output.
        output: String,
        /// Why not.
        source: NpyError,
    },
}

impl RunError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Worker(source) => source.kind(),
            Self::Folder { .. } | Self::Output { source: NpyError::Io(_), .. } => ErrorKind::Input,
            Self::Output { .. } => ErrorKind::Unavailable,
        }
    }

    /// Returns whether this says something about what was run, and not about what is around it.
    pub(in crate::ops) fn is_about_what_ran(&self) -> bool {
        match self {
            Self::Worker(source) => source.is_about_what_ran(),
            Self::Folder { .. } | Self::Output { .. } => false,
        }
    }
}

/// A worker, started when it is needed and replaced when it broke.
pub(in crate::ops) struct Runtime {
    way: Way,
    limits: Limits,
    cancel: Cancel,
    worker: Option<Worker>,
    /// Where outputs are written.
    folder: PathBuf,
    /// What the files of models must be, by the paths of the models.
    digests: BTreeMap<PathBuf, Digests>,
    ran_on: RanOn,
    peak_memory_bytes: Option<u64>,
}

/// Returns what a worker is told of the files of a graph.
pub(in crate::ops) fn digests_of(files: &[OutputFile]) -> Digests {
    files.iter().map(|file| (file.path.clone().into(), file.blake3.to_string())).collect()
}

impl Runtime {
    /// Makes one that has not been started.
    pub(in crate::ops) fn new(way: Way, workspace: &Workspace, folder: &Path) -> Self {
        let limits = Limits { request_timeout: workspace.job_timeout, ..Limits::default() };
        let (cancel, folder) = (workspace.cancel.clone(), folder.to_path_buf());
        Self {
            way,
            limits,
            cancel,
            worker: None,
            folder,
            digests: BTreeMap::new(),
            ran_on: RanOn::default(),
            peak_memory_bytes: None,
        }
    }

    /// Has the worker load a model only if its files are these: it hashes the very bytes that it gives its library.
    pub(super) fn expect(&mut self, model: &Path, files: &[OutputFile]) {
        self.digests.insert(model.into(), digests_of(files));
    }

    /// Returns what runs here, and where the last run was.
    pub(super) fn place(&mut self) -> Result<String, WorkerError> {
        let ran_on = self.ran_on.clone();
        let worker = self.worker()?;
        let description = worker.description();
        let place = place(&description.backend, description.library.as_ref(), &ran_on);
        Ok(match worker.elsewhere().map(|elsewhere| elsewhere.node) {
            Some(node) => format!("{place}, node {node}"),
            None => place,
        })
    }

    /// Returns the compute capability of the GPU of the last run; `None` for the CPU.
    pub(super) fn compute_capability(&self) -> Option<ComputeCapability> {
        self.ran_on.device.as_ref().map(|device| device.compute_capability)
    }

    /// Returns the peak resident size of the worker during the last run.
    pub(in crate::ops) fn peak_memory_bytes(&self) -> Option<u64> {
        self.peak_memory_bytes
    }

    /// Returns a worker that can take a request: one that crashed is replaced.
    fn worker(&mut self) -> Result<&mut Worker, WorkerError> {
        if self.worker.as_ref().is_some_and(|worker| !worker.is_healthy()) {
            self.worker = None;
        }
        match &mut self.worker {
            Some(worker) => Ok(worker),
            none => Ok(none.insert(Worker::spawn_unless(&self.way.command, self.limits, &self.cancel)?)),
        }
    }

    /// Runs a file of one graph on everything that the graph is run on.
    pub(super) fn run(&mut self, inputs: &GraphInputs, path: &Path) -> Result<Outputs, RunError> {
        self.run_without(inputs, path, &[])
    }

    /// Runs a file of one graph on everything that the graph is run on, without some of the shapes.
    pub(super) fn run_without(
        &mut self,
        inputs: &GraphInputs,
        path: &Path,
        left_out: &[&str],
    ) -> Result<Outputs, RunError> {
        let mut outputs = Outputs::default();
        for (case, _) in CASES.into_iter().filter(|(case, _)| !left_out.contains(case)) {
            outputs.cases.insert(case, self.run_on(inputs.cases[case].clone(), path)?);
        }
        for (run, alone) in inputs.alone.iter().filter(|(_, alone)| !left_out.contains(&alone.whole)) {
            outputs.alone.insert(*run, self.run_on(alone.files.clone(), path)?);
        }
        if let Some((pieces, rows)) = inputs.labelled.clone() {
            outputs.labelled = self.run_labelled(pieces, rows, path)?;
        }
        Ok(outputs)
    }

    /// Runs the pieces of the labelled set, and puts the rows of its embeddings together.
    fn run_labelled(
        &mut self,
        pieces: Vec<Files>,
        rows: usize,
        path: &Path,
    ) -> Result<BTreeMap<String, Floats>, RunError> {
        let mut whole: BTreeMap<String, Floats> = BTreeMap::new();
        for files in pieces {
            for (name, output) in self.run_on(files, path)? {
                let Some(piece) = output.embedding() else { continue };
                match whole.get_mut(&name) {
                    None => _ = whole.insert(name, piece),
                    Some(whole) => {
                        whole.values.extend(&piece.values);
                        whole.shape[0] += piece.shape[0];
                    }
                }
            }
        }
        Ok(whole.into_iter().map(|(name, whole)| (name, whole.first_rows(rows))).collect())
    }

    /// Runs a graph once.
    pub(in crate::ops) fn run_on(
        &mut self,
        inputs: Files,
        path: &Path,
    ) -> Result<BTreeMap<String, Output>, RunError> {
        let cancel = self.cancel.clone();
        let folder = tempfile::tempdir_in(&self.folder)
            .map_err(|source| RunError::Folder { folder: self.folder.clone(), source })?;
        let execution = self.way.execution.clone();
        let digests = self.digests.get(path).cloned().unwrap_or_default();
        let output_folder = folder.path().into();
        let request = RunRequest { path: path.into(), digests, inputs, output_folder, execution };
        let Answer { result, peak_memory_bytes } = self.worker()?.run(request, &cancel, &mut |_| {})?;
        (self.ran_on, self.peak_memory_bytes) = (result.ran_on, peak_memory_bytes);
        let mut outputs = BTreeMap::new();
        for (name, file) in result.outputs {
            let unreadable = |source| RunError::Output { output: name.clone(), source };
            let tensor = Tensor::read(&file).map_err(unreadable)?;
            outputs.insert(name, output_of(&tensor));
        }
        Ok(outputs)
    }
}

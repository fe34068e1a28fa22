//! Tries one graph in one precision: lowers it, asks what its compiler refuses of it, and compiles it for every target.

use std::path::{Path, PathBuf};

use super::obstacles::{self, Obstacle};
use super::{Answer, Candidate, CheckError, Target, Verdict};
use crate::backend::Builds;
use crate::onnx::{GraphDigest, Precision, lower};
use crate::ops::event::{BuildEvent, OnEvent};
use crate::ops::workspace::Workspace;
use crate::worker::error::WorkerError;
use crate::worker::host::{Limits, Worker};
use crate::worker::protocol::{BuildRequest, CheckRequest, ErrorCode};

/// Returns an answer for every target of a candidate.
pub(super) fn answers(
    candidate: &Candidate<'_>,
    workspace: &Workspace,
    on_event: OnEvent<'_>,
) -> Result<Vec<Verdict>, CheckError> {
    let folder = tempfile::tempdir().map_err(CheckError::Folder)?;
    let verdict = |target: &Target, answer: Answer| Verdict {
        graph: candidate.graph.clone(),
        backend: candidate.backend.clone(),
        precision: candidate.lowering.profile_precision(),
        compute_capabilities: target.compute_capabilities.clone(),
        answer,
    };
    let for_all = |obstacles: Vec<Obstacle>| {
        let answer = Answer::No(obstacles);
        candidate.targets.iter().map(|target| verdict(target, answer.clone())).collect()
    };
    let model = match lowered(candidate, folder.path()) {
        Ok(model) => model,
        Err(error) => return Ok(for_all(vec![obstacles::of_lowering(candidate.lowering.precision, &error)])),
    };
    let mut compiler = Compiler { candidate, workspace, worker: None };
    let refused = match compiler.check(&model)? {
        Ok(refusals) => refusals,
        Err(crash) => return Ok(for_all(crash)),
    };
    let mut answers: Vec<Option<Answer>> = vec![None; candidate.targets.len()];
    let mut left = Vec::new();
    for (index, target) in candidate.targets.iter().enumerate() {
        let mut found: Vec<Obstacle> = unsupported(candidate, target).into_iter().collect();
        found.extend(refused.iter().cloned());
        if found.is_empty() { left.push(index) } else { answers[index] = Some(Answer::No(found)) }
    }
    let plan = folder.path().join("model.plan");
    for group in together(candidate, left) {
        let title =
            format!("{}: {}, {}", candidate.graph, candidate.backend, candidate.lowering.profile_precision());
        on_event(BuildEvent::JobStarted { title: title.clone() });
        let found = compiler.build_all(&model, &group, &plan);
        on_event(BuildEvent::JobEnded { title });
        for (index, answer) in found? {
            answers[index] = Some(answer);
        }
    }
    let verdicts = candidate.targets.iter().zip(answers);
    Ok(verdicts.filter_map(|(target, answer)| Some(verdict(target, answer?))).collect())
}

/// Groups targets that one plan can be for: a plan for several capabilities takes little more time than one for a single one.
fn together(candidate: &Candidate<'_>, targets: Vec<usize>) -> Vec<Vec<usize>> {
    if !matches!(candidate.backend.facts().builds, Builds::AheadOfTime(_)) {
        return targets.into_iter().map(|index| vec![index]).collect();
    }
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in targets {
        let Target { compute_capabilities: _, shape_ranges, workspace_mib } = &candidate.targets[index];
        let fits = |group: &&mut Vec<usize>| {
            let other = &candidate.targets[group[0]];
            (&other.shape_ranges, other.workspace_mib) == (shape_ranges, *workspace_mib)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Lowers the graph; one in FP32 is taken as it is.
fn lowered(candidate: &Candidate<'_>, folder: &Path) -> Result<PathBuf, crate::onnx::OnnxError> {
    let file = candidate.file.file();
    let path = file.path();
    if candidate.lowering.precision == Precision::Fp32 {
        return Ok(fs_err::canonicalize(path).unwrap_or_else(|_| path.into()));
    }
    let model = folder.join(GraphDigest::MODEL_PATH);
    lower::lower(file, &candidate.lowering, &model)?;
    Ok(model)
}

/// Returns why a backend has nothing for a target, whatever the graph.
fn unsupported(candidate: &Candidate<'_>, target: &Target) -> Option<Obstacle> {
    let Builds::AheadOfTime(known) = candidate.backend.facts().builds else { return None };
    let missing: Vec<_> = target
        .compute_capabilities
        .iter()
        .copied()
        .filter(|capability| !known.contains(capability))
        .collect();
    (!missing.is_empty()).then(|| obstacles::of_target(&candidate.backend, &missing, known))
}

/// A worker that is replaced when it crashed.
struct Compiler<'a> {
    candidate: &'a Candidate<'a>,
    workspace: &'a Workspace,
    worker: Option<Worker>,
}

impl Compiler<'_> {
    /// Returns what the compiler refuses of a graph; the inner error is that it broke over it.
    fn check(&mut self, model: &Path) -> Result<Result<Vec<Obstacle>, Vec<Obstacle>>, CheckError> {
        let cancel = self.workspace.cancel.clone();
        let request = CheckRequest { graph: model.into() };
        match self.worker()?.check(request, &cancel, &mut |_| {}) {
            Ok(answer) => Ok(Ok(obstacles::of_refusals(self.candidate, &answer.result.refusals))),
            // An older worker, or one of somebody else: building shows it.
            Err(WorkerError::Reported { code: ErrorCode::UnsupportedRequest, .. }) => Ok(Ok(Vec::new())),
            Err(error) => Ok(Err(self.judged(model, error)?)),
        }
    }

    /// Compiles for targets in one plan; if that fails, for each half of them, down to those that can't be compiled for.
    fn build_all(
        &mut self,
        model: &Path,
        targets: &[usize],
        plan: &Path,
    ) -> Result<Vec<(usize, Answer)>, CheckError> {
        let Some(&first) = targets.first() else { return Ok(Vec::new()) };
        let mut all = self.candidate.targets[first].clone();
        for &index in &targets[1..] {
            all.compute_capabilities.extend(&self.candidate.targets[index].compute_capabilities);
        }
        all.compute_capabilities.sort_unstable();
        all.compute_capabilities.dedup();
        match self.build(model, &all, plan)? {
            Answer::No(_) if targets.len() > 1 => {
                let (low, high) = targets.split_at(targets.len() / 2);
                let mut answers = self.build_all(model, low, plan)?;
                answers.extend(self.build_all(model, high, plan)?);
                Ok(answers)
            }
            answer => Ok(targets.iter().map(|&index| (index, answer.clone())).collect()),
        }
    }

    fn build(&mut self, model: &Path, target: &Target, plan: &Path) -> Result<Answer, CheckError> {
        let cancel = self.workspace.cancel.clone();
        let Target { compute_capabilities, shape_ranges, workspace_mib } = target.clone();
        let request = BuildRequest {
            graph: model.into(),
            plan: plan.into(),
            compute_capabilities,
            shape_ranges,
            workspace_mib,
        };
        match self.worker()?.build(request, &cancel, &mut |_| {}) {
            Ok(answer) => {
                let result = answer.result;
                Ok(Answer::Yes { build_ms: Some(result.parse_ms + result.build_ms) })
            }
            Err(error) => Ok(Answer::No(self.judged(model, error)?)),
        }
    }

    /// Returns what stood in the way, unless the error says nothing of the graph.
    fn judged(&self, model: &Path, error: WorkerError) -> Result<Vec<Obstacle>, CheckError> {
        match &error {
            WorkerError::Cancelled { .. } => Err(CheckError::Cancelled),
            WorkerError::Reported {
                code:
                    ErrorCode::InvalidGraph
                    | ErrorCode::BuildFailed
                    | ErrorCode::InvalidRequest
                    | ErrorCode::UnsupportedTarget,
                ..
            }
            | WorkerError::Crashed { .. }
            | WorkerError::DiedMidLine { .. }
            | WorkerError::Hung { .. } => Ok(vec![obstacles::of_error(self.candidate, model, &error)]),
            _ => Err(error.into()),
        }
    }

    fn worker(&mut self) -> Result<&mut Worker, CheckError> {
        if self.worker.as_ref().is_some_and(|worker| !worker.is_healthy()) {
            self.worker = None;
        }
        let limits = Limits { request_timeout: self.workspace.job_timeout, ..Limits::default() };
        match &mut self.worker {
            Some(worker) => Ok(worker),
            none => Ok(none.insert(Worker::spawn(&self.candidate.command, limits)?)),
        }
    }
}

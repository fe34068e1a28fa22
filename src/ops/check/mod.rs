//! `check`: whether a graph can be compiled, for which compute capabilities and in which precision, and what stands in the way.
//!
//! Nobody guesses from tables of operators here: each graph is lowered as `build` would lower it, its compiler names every node
//! that it can't read, and then compiles the graph. A crash of the compiler is an answer too. Nothing of it is kept.

mod error;
mod from_model;
mod from_recipe;
mod obstacles;
mod try_one;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

pub use error::CheckError;
pub use from_model::check_model;
pub use from_recipe::check_recipe;
pub use obstacles::{Obstacle, ObstacleNode};

use super::event::{BuildEvent, OnEvent};
use super::workspace::Workspace;
use crate::backend::Backend;
use crate::compute_capability::ComputeCapability;
use crate::onnx::LoweringOptions;
use crate::ops::to_lower::ToLower;
use crate::profile::ProfilePrecision;
use crate::shape_range::ShapeRange;
use crate::worker::host::BackendCommand;

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct CheckOptions {
    /// For these compute capabilities; if there are none, for all that the backend builds for, or those of the recipe.
    pub capabilities: Vec<ComputeCapability>,
    /// In these precisions; if there are none, in FP32 and FP16, or in those of the recipe.
    pub precisions: Vec<ProfilePrecision>,
}

/// What came of a check.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// The shapes that graphs were compiled in, by graph and input; inputs of fixed shape are left out.
    pub shapes: BTreeMap<String, BTreeMap<String, ShapeRange>>,
    /// What the user should know of it: shapes that were guessed, and so on.
    pub notes: Vec<String>,
    /// An answer for each graph, backend, precision and target.
    pub verdicts: Vec<Verdict>,
}

/// The answer for one graph in one precision for one target.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The graph.
    pub graph: String,
    /// The backend.
    pub backend: Backend,
    /// The precision.
    pub precision: ProfilePrecision,
    /// The compute capabilities of the plan: several for a portable one.
    pub compute_capabilities: Vec<ComputeCapability>,
    /// The answer.
    pub answer: Answer,
}

/// Whether something can be compiled.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was compiled.
    Yes {
        /// How long that took, in milliseconds: one compilation may be for several targets. `None` if the store has the plan
        /// already.
        build_ms: Option<u64>,
    },
    /// It can't be compiled.
    No(Vec<Obstacle>),
    /// It can't be found out on this machine, for this reason.
    Unknown(String),
}

impl CheckReport {
    /// Returns the answer in one word: `no`, `yes`, or `unknown` if nothing could be found out on this machine.
    pub fn word(&self) -> &'static str {
        let is_unknown = |verdict: &Verdict| matches!(verdict.answer, Answer::Unknown(_));
        match self.says_no() {
            true => "no",
            false if !self.verdicts.is_empty() && self.verdicts.iter().all(is_unknown) => "unknown",
            false => "yes",
        }
    }

    /// Returns whether the answer is no: a target that none of the precisions can be built for. In a recipe every profile
    /// counts, since each has one precision.
    pub fn says_no(&self) -> bool {
        let refused = self.verdicts.iter().filter(|verdict| matches!(verdict.answer, Answer::No(_)));
        refused.into_iter().any(|refused| {
            !self.verdicts.iter().any(|other| {
                !matches!(other.answer, Answer::No(_))
                    && other.graph == refused.graph
                    && other.backend == refused.backend
                    && other.compute_capabilities == refused.compute_capabilities
            })
        })
    }
}

/// One graph in one precision, and what it is to be compiled for.
struct Candidate<'a> {
    graph: String,
    file: ToLower<'a>,
    lowering: LoweringOptions,
    backend: Backend,
    command: BackendCommand,
    targets: Vec<Target>,
}

/// What a candidate is to be compiled for.
#[derive(Clone)]
struct Target {
    compute_capabilities: Vec<ComputeCapability>,
    shape_ranges: BTreeMap<String, ShapeRange>,
    workspace_mib: Option<u64>,
}

/// Tries all candidates, several at a time. The answers are in the candidates' order.
fn try_all(
    candidates: Vec<Candidate<'_>>,
    workspace: &Workspace,
    on_event: OnEvent<'_>,
) -> Result<Vec<Verdict>, CheckError> {
    let threads = workspace.parallel_jobs.clamp(1, candidates.len().max(1));
    let waiting: Mutex<VecDeque<(usize, Candidate<'_>)>> =
        Mutex::new(candidates.into_iter().enumerate().collect());
    let done = Mutex::new(BTreeMap::new());
    on_event(BuildEvent::Starting { jobs: threads });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some((index, candidate)) = next() {
                    let answers = try_one::answers(&candidate, workspace, on_event);
                    let is_error = answers.is_err();
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(index, answers);
                    if is_error {
                        waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let verdicts: Result<Vec<Vec<Verdict>>, CheckError> = done.into_values().collect();
    Ok(verdicts?.into_iter().flatten().collect())
}

//! Calibration and search: runs a graph on samples in the `onnxruntime` worker, and finds which nodes must stay in FP32.
//!
//! The lowered graph is emulated ([`emulate`](crate::onnx::lower::emulate)), because ONNX Runtime's CPU provider computes half precision in
//! FP32. Every graph that was run is written into a journal, so that an interrupted search resumes where it stopped.

mod error;
mod measure;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub use error::MixedPrecisionError;

use measure::{Measure, Measured};

use serde::{Deserialize, Serialize};

use crate::mixed_precision::search::{Verdict, smallest_passing};
use crate::mixed_precision::similarity::NOT_FINITE;
use crate::mixed_precision::{KeptForAccuracy, MixedPrecision, MixedPrecisionReport, OutOfRange};
use crate::onnx::lower::{LoweredNode, lowered_nodes};
use crate::onnx::{LoweringOptions, Precision};
use crate::ops::samples::Subject;
use crate::ops::search_journal::Journal;
use crate::worker::host::{BackendCommand, Cancel};

/// Where and how graphs are run.
#[derive(Debug)]
pub struct Runner {
    /// The `onnxruntime` worker.
    pub command: BackendCommand,
    /// An empty folder with room for a copy of the graph.
    pub work_folder: PathBuf,
    /// Where the journal is kept.
    pub journal: PathBuf,
    /// The maximum time for one run.
    pub timeout: Duration,
    /// Set to stop.
    pub cancel: Cancel,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchProgress {
    /// Graphs run so far, those of the journal included.
    pub evaluations: u32,
    /// The maximum number of graphs to run.
    pub most: u32,
    /// The last one's min row cosine; -1 where a row is not finite, or the graph failed.
    pub row_cosine: f64,
    /// Whether the last one failed, so that there was nothing to compare.
    pub failed: bool,
    /// How many nodes it kept.
    pub kept: usize,
}

/// Finds the nodes that must stay in FP32 beyond what `lowering` keeps.
///
/// # Errors
/// Samples or graph can't be used, the worker fails, or the FP32 graph itself gives values that are not finite.
pub fn find(
    subject: &Subject<'_>,
    lowering: &LoweringOptions,
    asked: MixedPrecision,
    runner: &Runner,
    on_progress: &dyn Fn(SearchProgress),
) -> Result<MixedPrecisionReport, MixedPrecisionError> {
    let MixedPrecision { calibrate, search } = asked;
    let mut measure = Measure::start(subject, runner)?;
    let mut report = MixedPrecisionReport {
        largest_allowed: None,
        out_of_range: Vec::new(),
        min_row_cosine: None,
        row_cosine_before: None,
        row_cosine_after: None,
        kept: Vec::new(),
        evaluations: 0,
        complete: true,
    };
    let nodes = lowered_nodes(subject.file, lowering)?;
    let mut kept = BTreeSet::new();
    if let Some(calibrate) = calibrate {
        let allowed = largest(lowering.precision) / calibrate.headroom;
        report.largest_allowed = Some(allowed);
        report.out_of_range = out_of_range(&mut measure, lowering, allowed)?;
        let marked: BTreeSet<&String> = report.out_of_range.iter().flat_map(|value| &value.nodes).collect();
        kept.extend((0..nodes.len()).filter(|&index| marked.contains(&nodes[index].node)));
        report.evaluations += 1;
    }
    let mut costs = BTreeMap::new();
    if let Some(search) = search {
        measure.run_reference()?;
        let mut hunt = Hunt {
            measure,
            nodes: &nodes,
            lowering,
            journal: Journal::open(&runner.journal)?,
            most: search.evaluations,
            on_progress,
        };
        report.min_row_cosine = Some(search.min_row_cosine);
        report.row_cosine_before = Some(hunt.row_cosine(&BTreeSet::new())?);
        let calibrated = kept.clone();
        let together = |more: &BTreeSet<usize>| calibrated.union(more).copied().collect::<BTreeSet<usize>>();
        if hunt.row_cosine(&calibrated)? < search.min_row_cosine {
            let rest = (0..nodes.len()).filter(|index| !calibrated.contains(index)).collect();
            let found =
                smallest_passing(rest, &mut |more| hunt.verdict(&together(more), search.min_row_cosine))?;
            kept = together(&found.items);
            report.complete = found.complete;
        }
        report.row_cosine_after = Some(hunt.row_cosine(&kept)?);
        if report.complete {
            for &index in &kept {
                let mut without = kept.clone();
                without.remove(&index);
                costs.insert(index, hunt.row_cosine(&without)?);
            }
        }
        report.evaluations += hunt.journal.len();
    }
    report.kept = kept
        .into_iter()
        .map(|index| {
            let LoweredNode { node, op_type, weight_bytes } = nodes[index].clone();
            KeptForAccuracy { node, op_type, row_cosine_if_lowered: costs.get(&index).copied(), weight_bytes }
        })
        .collect();
    Ok(report)
}

/// Returns the largest finite number of a precision.
fn largest(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => f64::from(f32::MAX),
        Precision::Fp16 => half::f16::MAX.to_f64(),
        Precision::Bf16 => half::bf16::MAX.to_f64(),
    }
}

fn out_of_range(
    measure: &mut Measure<'_>,
    lowering: &LoweringOptions,
    allowed: f64,
) -> Result<Vec<OutOfRange>, MixedPrecisionError> {
    let magnitudes = measure.magnitudes(lowering)?;
    let too_large = magnitudes.into_iter().filter(|(_, largest)| largest.is_nan() || *largest > allowed);
    let finite = |largest: f64| Some(largest).filter(|largest| largest.is_finite());
    Ok(too_large
        .map(|(value, largest)| OutOfRange {
            value: value.value,
            largest: finite(largest),
            nodes: value.nodes,
        })
        .collect())
}

/// What is known of a graph that was run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct RowCosine {
    row_cosine: f64,
}

/// A search under way.
struct Hunt<'a> {
    measure: Measure<'a>,
    nodes: &'a [LoweredNode],
    lowering: &'a LoweringOptions,
    journal: Journal<RowCosine>,
    most: u32,
    on_progress: &'a dyn Fn(SearchProgress),
}

impl Hunt<'_> {
    fn verdict(&mut self, kept: &BTreeSet<usize>, gate: f64) -> Result<Verdict, MixedPrecisionError> {
        if self.journal.get(&self.names(kept)).is_none() && self.journal.len() >= self.most {
            return Ok(Verdict::OutOfBudget);
        }
        Ok(if self.row_cosine(kept)? >= gate { Verdict::Passes } else { Verdict::Fails })
    }

    /// Returns the min row cosine with some nodes kept, from the journal or by running the graph.
    fn row_cosine(&mut self, kept: &BTreeSet<usize>) -> Result<f64, MixedPrecisionError> {
        let names = self.names(kept);
        let (row_cosine, failed) = match self.journal.get(&names) {
            Some(known) => (known.row_cosine, false),
            // With nothing lowered the graph is what it was.
            None if kept.len() == self.nodes.len() => (1.0, false),
            None => {
                let mut options = self.lowering.clone();
                options.keep_nodes.extend(names.iter().cloned());
                let measured = match self.measure.emulated(&options)? {
                    Measured::RowCosine(row_cosine) => (row_cosine, false),
                    // As bad as one whose rows are not finite.
                    Measured::Unusable => (NOT_FINITE, true),
                };
                self.journal.add(&names, RowCosine { row_cosine: measured.0 })?;
                measured
            }
        };
        let (evaluations, most, kept) = (self.journal.len(), self.most, kept.len());
        (self.on_progress)(SearchProgress { evaluations, most, row_cosine, failed, kept });
        Ok(row_cosine)
    }

    fn names(&self, kept: &BTreeSet<usize>) -> Vec<String> {
        let mut names: Vec<String> = kept.iter().map(|&index| self.nodes[index].node.clone()).collect();
        names.sort_unstable();
        names
    }
}

//! Quantization from end to end: measures a graph's activations on samples, tries the methods, keeps what must be kept, and
//! judges each try by the outputs of the whole graph.
//!
//! Which method is best can't be told from a graph's parts: a method that wins in each layer can lose at the outputs. So a part of the
//! samples judges what comes of the others, one part after the other; the scales of the result are of all of them. What was found is
//! a [`QuantizationChoice`], with which the same graph can be written again without a run.

mod calibration;
mod error;
mod for_profile;
mod measure;
mod rows;
mod to_file;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use calibration::Calibration;
pub use error::QuantizeError;
pub(in crate::ops) use for_profile::for_profile;
use measure::Measure;
use rows::{Row, check_apart, split_all, split_files};
pub use to_file::{QuantizeOptions, QuantizeOutcome, quantize_to};

pub use crate::quantization::{Gate, QuantizationChoice, Trial, TriedMethod, Wanted};

use crate::mixed_precision::search::{Verdict, smallest_passing};
use crate::onnx::quantize::{
    Method, QuantizableNode, QuantizationOptions, QuantizedPrecision, Statistics, Treatment, gptq_obstacle,
    quantizable_nodes,
};
use crate::onnx::{LoweringOptions, OnnxFile, analysis};
use crate::ops::runners::Way;
use crate::ops::search_journal::Journal;
use crate::ops::workspace::Workspace;
use crate::worker::npy::Tensor;

/// Raised whenever equal samples start to lead to another choice.
pub const CALIBRATION_VERSION: u32 = 3;

/// Samples in memory, by input; the first dimension counts rows.
pub type Samples = BTreeMap<String, Tensor>;

/// What is asked for.
#[derive(Debug)]
pub(in crate::ops) struct Request<'a> {
    /// The FP32 graph.
    pub file: &'a OnnxFile,
    /// What to quantize.
    pub options: &'a QuantizationOptions,
    /// How everything else is lowered.
    pub lowering: &'a LoweringOptions,
    /// Which methods are tried.
    pub wanted: Wanted,
    /// What must be reached.
    pub gate: Gate,
    /// What calibrates.
    pub calibration: &'a [Row],
    /// What judges; half of the calibration samples if absent.
    pub judged: Option<&'a [Row]>,
}

/// How far a search is.
#[derive(Clone, Debug, PartialEq)]
pub enum QuantizeProgress {
    /// So many rows were measured.
    Measured {
        /// Rows so far.
        rows: usize,
        /// Of so many.
        of: usize,
    },
    /// A graph was run.
    Tried {
        /// Graphs so far.
        evaluations: u32,
        /// The maximum number of graphs.
        most: u32,
        /// The method.
        method: Method,
        /// How many nodes it kept.
        kept: usize,
        /// What came of it.
        result: Trial,
    },
}

/// Where graphs are run.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Place<'a> {
    pub(in crate::ops) way: &'a Way,
    pub(in crate::ops) workspace: &'a Workspace,
    /// An empty folder with room for two copies of the graph.
    pub(in crate::ops) folder: &'a Path,
    /// Where the journal is kept.
    pub(in crate::ops) journal: PathBuf,
}

/// What was found, and what it stands on.
#[derive(Clone, Debug)]
pub(in crate::ops) struct Found {
    /// The choice.
    pub choice: QuantizationChoice,
    /// The activations on all calibration rows.
    pub statistics: Statistics,
    /// How long the samples took to read and to measure.
    pub statistics_time: Duration,
    /// The peak memory of the worker.
    pub worker_peak_bytes: Option<u64>,
}

/// Finds how a graph is best quantized.
///
/// # Errors
/// Samples or graph can't be used, the worker fails, or the gate can't be reached.
pub(in crate::ops) fn find(
    request: &Request<'_>,
    place: &Place<'_>,
    on_progress: &dyn Fn(QuantizeProgress),
) -> Result<Found, QuantizeError> {
    #[expect(clippy::disallowed_methods, reason = "calibration is timed")]
    let started = Instant::now();
    let Request { file, options, lowering, wanted, gate, calibration, judged } = request;
    let all_nodes = analysis::nodes(file.graph());
    let is_there = |name: &String| all_nodes.iter().any(|node| analysis::label(node) == name);
    if let Some(node) = options.keep_nodes.iter().find(|name| !is_there(name)) {
        return Err(QuantizeError::NoSuchNode { node: node.clone() });
    }
    if options.attention == Treatment::Quantize && !options.precision.has_fixed_scales() {
        return Err(QuantizeError::NoAttention { precision: options.precision.as_str() });
    }
    let nodes = quantizable_nodes(file, options);
    if nodes.is_empty() {
        let (path, precision) = (file.path().into(), options.precision.as_str());
        return Err(QuantizeError::NothingToQuantize { path, precision });
    }
    if let Some(judging) = judged {
        check_apart(calibration, judging)?;
    } else if calibration.len() < 2 {
        return Err(QuantizeError::TooFew { found: calibration.len() });
    }
    let methods = match wanted {
        Wanted::Auto => {
            // Convolutions are neither smoothed nor rounded by tokens.
            let has_products = nodes.iter().any(|node| node.op_type != CONVOLUTION);
            let mut grid = Method::grid(options.precision);
            grid.retain(|method| has_products || method.smoothing_percent == 0);
            if has_products { grid } else { grid.into_iter().map(Method::without_gptq).collect() }
        }
        Wanted::Only(method) => match method.foreign_part(options.precision) {
            None => vec![*method],
            Some((part, formats)) => {
                let precision = options.precision.as_str();
                return Err(QuantizeError::OtherMethod { part, formats, precision });
            }
        },
    };
    let mut measure = Measure::new(file, lowering, place.way, place.workspace, place.folder);
    let (of, keeps_tokens) = (calibration.len(), methods.iter().any(|method| method.gptq));
    let on_row = |rows| on_progress(QuantizeProgress::Measured { rows, of });
    let parts = parts_of(of, if judged.is_some() { 1 } else { fold_count(options.precision) });
    let by_part = measure.statistics(options, calibration, &parts, keeps_tokens, &on_row)?;
    let statistics = Statistics::of_all(&by_part);
    let folds = match judged {
        Some(judging) => vec![Fold { statistics: statistics.clone(), judging: judging.to_vec() }],
        None => folds_of(calibration, &parts, &by_part),
    };
    drop(by_part);
    let statistics_time = started.elapsed();
    if judged.is_some() {
        folds.iter().try_for_each(|fold| measure.run_reference(&fold.judging))?;
    }
    let obstacle = folds.iter().find_map(|fold| gptq_obstacle(&fold.statistics)).filter(|_| keeps_tokens);
    let possible = |method: Method| if obstacle.is_some() { method.without_gptq() } else { method };
    if let (Wanted::Only(method), Some(why)) = (wanted, &obstacle) {
        return Err(QuantizeError::MethodSkipped { method: method.to_string(), why: why.clone() });
    }
    let mut hunt = Hunt {
        measure,
        options,
        nodes: &nodes,
        statistics: &statistics,
        folds: &folds,
        journal: Journal::open(&place.journal)?,
        most: gate.evaluations,
        on_progress,
    };
    let mut tried = Vec::new();
    let mut methods: Vec<Method> = methods.into_iter().map(possible).collect();
    methods.dedup();
    for method in methods {
        tried.push(TriedMethod { method, result: hunt.run(method, &BTreeSet::new())? });
    }
    if *wanted == Wanted::Auto {
        let passes = best_of(&tried).result.min_row_cosine >= gate.min_row_cosine;
        let second = if passes { Vec::new() } else { Method::second_grid(options.precision) };
        for method in second.into_iter().map(possible) {
            tried.push(TriedMethod { method, result: hunt.run(method, &BTreeSet::new())? });
        }
        for method in best_of(&tried).method.with_other_ranges(options.precision) {
            tried.push(TriedMethod { method, result: hunt.run(method, &BTreeSet::new())? });
        }
    }
    let mut best = best_of(&tried);
    let (mut kept, mut complete) = (BTreeSet::new(), true);
    if best.result.min_row_cosine < gate.min_row_cosine {
        let mut aim = with_margin(gate.min_row_cosine);
        (kept, complete) = match hunt.what_to_keep(&best, aim) {
            Err(QuantizeError::BelowGate { .. }) => {
                // Even with nothing quantized but tables there is no room for the margin.
                aim = gate.min_row_cosine;
                hunt.what_to_keep(&best, aim)?
            }
            found => found?,
        };
        // Without what lost most, another method can be better, and keep less.
        let methods: Vec<Method> = tried.iter().map(|tried| tried.method).collect();
        let other = hunt.best_with(&methods, best.method, &kept)?;
        if other != best.method {
            let fewer =
                smallest_passing(kept.iter().copied().collect(), &mut |kept| hunt.verdict(other, kept, aim))?;
            best.method = other;
            (kept, complete) = (fewer.items, complete && fewer.complete);
        }
    }
    let result = hunt.run(best.method, &kept)?;
    let bytes = |indices: &mut dyn Iterator<Item = usize>| -> u64 {
        indices.map(|index| nodes[index].weight_bytes).sum()
    };
    let choice = QuantizationChoice {
        method: best.method,
        kept: hunt.names(&kept),
        kept_share: bytes(&mut kept.iter().copied()) as f64 / bytes(&mut (0..nodes.len())).max(1) as f64,
        result,
        tried,
        no_gptq: obstacle,
        calibration_rows: calibration.len(),
        judged_rows: folds.iter().map(|fold| fold.judging.len()).sum(),
        evaluations: hunt.journal.len(),
        complete,
    };
    let worker_peak_bytes = hunt.measure.peak_bytes;
    Ok(Found { choice, statistics, statistics_time, worker_peak_bytes })
}

/// The operator of convolutions.
const CONVOLUTION: &str = "Conv";

/// Returns into how many parts rows are divided that both calibrate and judge. Ranges of activations want as many rows as can be had;
/// for weights alone, half of them do.
fn fold_count(precision: QuantizedPrecision) -> usize {
    if precision.has_activations() { 4 } else { 2 }
}

/// Divides rows into parts of neighbours: those often come from one source, a page or a picture, and a row that calibrates would know
/// too much of the next.
fn parts_of(rows: usize, count: usize) -> Vec<Range<usize>> {
    let count = count.min(rows);
    (0..count).map(|index| index * rows / count..(index + 1) * rows / count).collect()
}

/// Lets each part judge what the others calibrate.
fn folds_of(rows: &[Row], parts: &[Range<usize>], statistics: &[Statistics]) -> Vec<Fold> {
    let fold = |(index, part): (usize, &Range<usize>)| {
        let (before, after) = (&statistics[..index], &statistics[index + 1..]);
        let statistics = Statistics::of_all(before.iter().chain(after));
        Fold { statistics, judging: rows[part.clone()].to_vec() }
    };
    parts.iter().enumerate().map(fold).collect()
}

/// The part of the loss that a gate allows which a search for nodes to keep leaves to unseen rows. It looks at many sets of nodes on
/// the same rows, and the smallest set that passes there passes in part by chance.
const MARGIN: f64 = 0.2;

/// Returns the min row cosine that a search aims at so that a gate holds on unseen rows.
fn with_margin(min_row_cosine: f64) -> f64 {
    1.0 - (1.0 - min_row_cosine) * (1.0 - MARGIN)
}

/// Differences of less than this factor between the losses of methods are noise of the rows that judge.
const NOISE: f64 = 1.25;

/// Returns the first method that is about as good as the best.
fn best_of(tried: &[TriedMethod]) -> TriedMethod {
    let least = tried.iter().map(|tried| tried.result.loss()).fold(f64::INFINITY, f64::min);
    let best = tried.iter().find(|tried| tried.result.loss() <= least * NOISE);
    best.cloned().unwrap_or(TriedMethod { method: Method::MAX, result: Trial::UNUSABLE })
}

/// Rows that judge, and the activations on rows that they are not among.
struct Fold {
    statistics: Statistics,
    judging: Vec<Row>,
}

/// A search under way.
struct Hunt<'a> {
    measure: Measure<'a>,
    options: &'a QuantizationOptions,
    nodes: &'a [QuantizableNode],
    statistics: &'a Statistics,
    folds: &'a [Fold],
    journal: Journal<Trial>,
    most: u32,
    on_progress: &'a dyn Fn(QuantizeProgress),
}

impl Hunt<'_> {
    /// Returns what came of a graph, from the journal or by running it.
    fn run(&mut self, method: Method, kept: &BTreeSet<usize>) -> Result<Trial, QuantizeError> {
        let key = self.key(method, kept);
        let result = match self.journal.get(&key) {
            Some(known) => known,
            None => {
                let mut options = self.options.clone();
                options.keep_nodes.extend(self.names(kept));
                let mut results = Vec::new();
                for Fold { statistics, judging } in self.folds {
                    let result = self.measure.quantized(&options, method, statistics, judging)?;
                    results.push((result, judging.len()));
                }
                let result = Trial::of_all(&results);
                self.journal.add(&key, result)?;
                result
            }
        };
        let (evaluations, most, kept) = (self.journal.len(), self.most, kept.len());
        (self.on_progress)(QuantizeProgress::Tried { evaluations, most, method, kept, result });
        Ok(result)
    }

    fn verdict(
        &mut self,
        method: Method,
        kept: &BTreeSet<usize>,
        gate: f64,
    ) -> Result<Verdict, QuantizeError> {
        if self.journal.get(&self.key(method, kept)).is_none() && self.journal.len() >= self.most {
            return Ok(Verdict::OutOfBudget);
        }
        let passes = self.run(method, kept)?.min_row_cosine >= gate;
        Ok(if passes { Verdict::Passes } else { Verdict::Fails })
    }

    /// Finds few nodes that must be kept so that the gate holds, and whether none of them can be left out.
    ///
    /// Activations whose largest value stands far above the rest lose most when they share a scale, so nodes are ordered by that
    /// first: a bisection finds how many of the first must be kept, and the search among those few leaves out what need not.
    fn what_to_keep(
        &mut self,
        best: &TriedMethod,
        gate: f64,
    ) -> Result<(BTreeSet<usize>, bool), QuantizeError> {
        let method = best.method;
        let order = self.by_loss();
        let prefix = |count: usize| order[..count].iter().copied().collect::<BTreeSet<usize>>();
        let (mut fails, mut passes) = (0, order.len());
        let refused = |hunt: &Self, result: f64| QuantizeError::BelowGate {
            gate,
            precision: hunt.options.precision.as_str(),
            best: result,
            how: format!("method {method}, with nothing kept"),
        };
        // With nothing quantized but tables.
        match self.verdict(method, &prefix(passes), gate)? {
            Verdict::Passes => {}
            Verdict::Fails => return Err(refused(self, best.result.min_row_cosine)),
            Verdict::OutOfBudget => {
                let (best, evaluations) = (best.result.min_row_cosine, self.most);
                return Err(QuantizeError::OutOfEvaluations { gate, best, evaluations });
            }
        }
        while passes - fails > 1 {
            let middle = if fails == 0 { (passes / 4).max(1) } else { fails.midpoint(passes) };
            match self.verdict(method, &prefix(middle), gate)? {
                Verdict::Passes => passes = middle,
                Verdict::Fails => fails = middle,
                Verdict::OutOfBudget => return Ok((prefix(passes), false)),
            }
        }
        let found = smallest_passing(order[..passes].to_vec(), &mut |kept| self.verdict(method, kept, gate))?;
        Ok((found.items, found.complete))
    }

    /// Returns the method that is best with some nodes kept, as far as there are evaluations left.
    fn best_with(
        &mut self,
        methods: &[Method],
        first: Method,
        kept: &BTreeSet<usize>,
    ) -> Result<Method, QuantizeError> {
        let mut best = (self.run(first, kept)?.loss(), first);
        for &method in methods {
            if self.journal.len() >= self.most {
                break;
            }
            let loss = self.run(method, kept)?.loss();
            if loss < best.0 {
                best = (loss, method);
            }
        }
        Ok(best.1)
    }

    /// Returns the nodes, those first whose activation loses most.
    fn by_loss(&self) -> Vec<usize> {
        let loss = |node: &QuantizableNode| {
            self.statistics.values.get(&node.input).map_or(0.0, |channels| channels.peak_over_mean())
        };
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.sort_by(|&a, &b| loss(&self.nodes[b]).total_cmp(&loss(&self.nodes[a])).then(a.cmp(&b)));
        order
    }

    fn names(&self, kept: &BTreeSet<usize>) -> Vec<String> {
        kept.iter().map(|&index| self.nodes[index].node.clone()).collect()
    }

    fn key(&self, method: Method, kept: &BTreeSet<usize>) -> Vec<String> {
        let mut key = self.names(kept);
        key.sort_unstable();
        key.push(format!("method: {method}"));
        key
    }
}

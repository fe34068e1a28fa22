//! Measurements of a profile's speed, the machine they were made on, and how two measurements compare.
//!
//! A **case** is one graph at one batch and one number of streams. It is measured in **rounds**, each in a worker
//! process of its own; a round ends when its last three windows agree or its time is up. Latencies are those of one run
//! of the graph with the whole batch. Every sample is kept, in an `.npz` file beside the passport; the values here
//! are computed from these samples.

mod compared;
mod comparison;
mod gate;
mod gpu;
mod metric;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compared::{Compared, Uncompared};
pub use comparison::{CONFIDENCE, Comparison, Verdict};
pub use gate::{Gate, InvalidGate};
pub use gpu::{
    GpuRound, MIN_SAMPLES, Reading, Span, Spread, Throttle, is_spoiled, spoiled_spans, spoiled_time,
};
pub use metric::Metric;

use crate::execution::{GraphOptimization, Provider, RuntimeCacheUse};
use crate::profile::ModelRelease;
use crate::stats::{Interval, quantile, quantile_intervals};
use crate::stored_format::{self, Unreadable};

/// The schema name of [`BenchDocument`].
pub const BENCH_SCHEMA: &str = "nimctl.bench/1";
/// The confidence of every interval for a percentile.
pub const PERCENTILE_CONFIDENCE: f64 = 0.95;
/// The percentiles that are given where the samples support them.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];
const NANOSECONDS_IN_MILLISECOND: f64 = 1e6;

/// The measurements of a recipe's profiles: what `nimctl bench --output json` prints, and `--baseline` reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchDocument {
    /// [`BENCH_SCHEMA`].
    pub schema: String,
    /// The model and its release.
    pub model: ModelRelease,
    /// Every profile of the recipe.
    pub profiles: Vec<BenchedProfile>,
}

impl BenchDocument {
    /// Reads a document; `path` is used only in errors.
    ///
    /// # Errors
    /// A document of a newer nimctl, or something else.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, BENCH_SCHEMA, path)
    }
}

/// One profile and its measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchedProfile {
    /// Its id; `None` if it was not built.
    pub profile_id: Option<String>,
    /// Its readable name.
    pub name: String,
    /// The measurements, or why there are none.
    pub bench: BenchStatus,
}

/// The measurements of one profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Benchmark {
    /// The machine at the start of the measurement.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Settings,
    /// Every graph, batch and number of streams.
    pub cases: Vec<Case>,
    /// Conditions that make the numbers worse, and what to do.
    pub warnings: Vec<String>,
}

/// Whether a profile was benchmarked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BenchStatus {
    /// It was measured.
    Measured(Benchmark),
    /// Measuring failed for this reason, before there was any result.
    Failed(String),
    /// It was not measured, for this reason.
    Skipped(String),
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// The processor's name.
    pub cpu: Option<String>,
    /// Processors that this process may use.
    pub logical_cores: usize,
    /// The CPU frequency governor: `performance`.
    pub governor: Option<String>,
    /// The load average over one minute.
    pub load_average_1_min: Option<f64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
}

/// How something is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Number of rounds: processes that measure one after another.
    pub rounds: usize,
    /// Warm-up time of each round, which doesn't count.
    pub warm_up_ms: u64,
    /// Min length of a window.
    pub window_ms: u64,
    /// Max time for the windows of a round.
    pub budget_ms: u64,
    /// Threads of one run; the library's default if absent.
    pub threads: Option<u32>,
    /// The execution provider of ONNX graphs; the CPU if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// How far the library may optimize ONNX graphs before it runs them; its default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_optimization: Option<GraphOptimization>,
    /// Whether plans run as CUDA graphs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cuda_graph: bool,
}

/// One graph at one batch and number of streams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Case {
    /// The graph.
    pub graph: String,
    /// The first dimension of its inputs.
    pub batch: u64,
    /// Concurrent callers.
    pub streams: u32,
    /// What ran it: `ONNX Runtime 1.32.0 on the CPU`.
    pub ran_on: String,
    /// The clock that timed it.
    pub clock: String,
    /// What is timed between the two clock readings.
    pub boundary: String,
    /// Latencies of all rounds together; `None` if it failed.
    pub latency: Option<Latency>,
    /// Items (rows of the batch) per second over all streams, the median of rounds.
    pub items_per_s: Option<f64>,
    /// Every round.
    pub rounds: Vec<Round>,
    /// Why it could not be measured.
    pub failure: Option<String>,
}

/// The distribution of latencies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Number of samples.
    pub count: usize,
    /// The mean.
    pub mean_ms: f64,
    /// The min.
    pub min_ms: f64,
    /// The max.
    pub max_ms: f64,
    /// The standard deviation over the mean.
    pub coefficient_of_variation: f64,
    /// Percentiles that the samples support.
    pub percentiles: Vec<Percentile>,
    /// 101 points of the distribution from min to max, one for each percent, for plots.
    pub curve_ms: Vec<f64>,
}

/// A percentile with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentile {
    /// `p50`, `p99.9`.
    pub name: String,
    /// The estimate.
    pub ms: f64,
    /// The lower end of the interval at [`PERCENTILE_CONFIDENCE`].
    pub low_ms: f64,
    /// The upper end.
    pub high_ms: f64,
}

/// What one process measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Round {
    /// Number of samples.
    pub count: usize,
    /// Percentiles of this round.
    pub p50_ms: f64,
    /// See above.
    pub p90_ms: f64,
    /// See above.
    pub p95_ms: f64,
    /// See above.
    pub p99_ms: f64,
    /// Items per second over all streams.
    pub items_per_s: f64,
    /// Whether its last three windows agreed before its time was up.
    pub settled: bool,
    /// Time to load the graph or plan.
    pub load_ms: f64,
    /// Time from the start of the process to its first result.
    pub first_result_ms: f64,
    /// Peak resident memory of the process.
    pub peak_memory_bytes: Option<u64>,
    /// Device memory that loading and running used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// The median of runs on the device alone, without copies and waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_p50_ms: Option<f64>,
    /// Whether kernels from an earlier round were cached; absent for a library that compiles none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_cache: Option<RuntimeCacheUse>,
    /// What the GPU's driver reported during the round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuRound>,
    /// Samples that don't count because the GPU was slowed down; they are kept with the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discarded: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Round {
    /// Makes a round from the latencies that a process measured in `elapsed_ns`; `None` without latencies.
    pub fn new(latencies_ns: &[u64], batch: u64, elapsed_ns: u64) -> Option<Self> {
        let mut sorted = milliseconds(latencies_ns);
        sorted.sort_by(f64::total_cmp);
        let percentile = |q| quantile(&sorted, q);
        let items = sorted.len() as u64 * batch;
        Some(Self {
            count: sorted.len(),
            p50_ms: percentile(0.5)?,
            p90_ms: percentile(0.9)?,
            p95_ms: percentile(0.95)?,
            p99_ms: percentile(0.99)?,
            items_per_s: items as f64 / (elapsed_ns.max(1) as f64 / 1e9),
            settled: false,
            load_ms: 0.0,
            first_result_ms: 0.0,
            peak_memory_bytes: None,
            device_memory_bytes: None,
            device_p50_ms: None,
            runtime_cache: None,
            gpu: None,
            discarded: 0,
        })
    }
}

impl Latency {
    /// Summarizes the latencies of all rounds, each in time order; `None` without latencies.
    pub fn new(rounds_ns: &[Vec<u64>]) -> Option<Self> {
        let rounds: Vec<Vec<f64>> = rounds_ns.iter().map(|round| milliseconds(round)).collect();
        let mut all = rounds.concat();
        all.sort_by(f64::total_cmp);
        let (min_ms, max_ms) = (*all.first()?, *all.last()?);
        let count = all.len();
        let mean_ms = all.iter().sum::<f64>() / count as f64;
        let squares: f64 = all.iter().map(|value| (value - mean_ms).powi(2)).sum();
        let deviation = (squares / count.saturating_sub(1).max(1) as f64).sqrt();
        let intervals = quantile_intervals(&rounds, &PERCENTILES.map(|(_, q)| q), PERCENTILE_CONFIDENCE);
        let percentiles = PERCENTILES
            .iter()
            .zip(intervals)
            .filter_map(|((name, _), interval)| {
                let Interval { estimate, low, high } = interval?;
                Some(Percentile { name: (*name).into(), ms: estimate, low_ms: low, high_ms: high })
            })
            .collect();
        let curve_ms = (0..=100).filter_map(|percent| quantile(&all, f64::from(percent) / 100.0)).collect();
        Some(Self {
            count,
            mean_ms,
            min_ms,
            max_ms,
            coefficient_of_variation: deviation / mean_ms,
            percentiles,
            curve_ms,
        })
    }

    /// Returns a percentile by its name, if the samples support it.
    pub fn percentile(&self, name: &str) -> Option<&Percentile> {
        self.percentiles.iter().find(|percentile| percentile.name == name)
    }
}

impl Case {
    /// Returns the median time to the first result: without cached kernels, and with them. Both are equal for a library
    /// that compiles none.
    pub fn first_result_ms(&self) -> (Option<f64>, Option<f64>) {
        let median = |wanted: RuntimeCacheUse| {
            let of = |round: &&Round| round.runtime_cache.is_none_or(|found| found == wanted);
            let mut values: Vec<f64> =
                self.rounds.iter().filter(of).map(|round| round.first_result_ms).collect();
            values.sort_by(f64::total_cmp);
            quantile(&values, 0.5)
        };
        (median(RuntimeCacheUse::Cold), median(RuntimeCacheUse::Warm))
    }

    /// Returns the median over rounds.
    pub fn median_of_rounds(&self, value: fn(&Round) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        quantile(&values, 0.5)
    }
}

fn milliseconds(nanoseconds: &[u64]) -> Vec<f64> {
    nanoseconds.iter().map(|&ns| ns as f64 / NANOSECONDS_IN_MILLISECOND).collect()
}

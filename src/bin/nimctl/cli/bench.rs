//! Arguments of `bench`.

use std::path::PathBuf;

use clap::Args;
use nimctl::benchmark::Gate;
use nimctl::recipe::Only;

use super::execution::{Execution, GraphOptimization};
use super::limits;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each case (graph, batch, streams) is measured in rounds. Each round runs in a fresh worker process; the rounds of several
profiles alternate. A round ends when its last three windows agree within 5 % in latency and throughput, or when its time
budget is used up. Latency is the time of one run of the graph with the whole batch. Results are saved in the profiles'
passports, samples in the store.

A difference counts as real at 99 % confidence, with 8 or more rounds. A gate fails if the change exceeds it and is real. A
gate that has no answer for something that was measured has not passed: too few rounds, a case or a profile that the
baseline lacks, a baseline of another machine or other settings.

With a trust policy, it accepts every profile first, or nothing is loaded (docs/trust.md).

Exit codes: 1 the recipe is wrong, or does not allow a batch, or the baseline is missing or of another model; 3 a profile or
a gate failed, a gate has no answer, or the trust policy refuses a profile; 5 none of the profiles runs on
this machine, or the onnxruntime worker or the requested provider is missing.

Examples:
  nimctl bench recipes/nvclip-demo.yaml --batch 1,8 --streams 1,2
  nimctl bench recipes/nvclip-demo.yaml --output json > baseline.json
  nimctl bench recipes/nvclip-demo.yaml --baseline baseline.json --fail-if 'p50 > +3%'
  nimctl bench recipes/minilm.yaml --compare onnx-fp32 onnx-fp16
  nimctl bench recipes/nvclip-demo.yaml --gpu 1 --cuda-graph --provider cuda")]
pub(crate) struct Bench {
    /// The recipe whose profiles were built.
    pub(crate) recipe: PathBuf,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name, where * matches anything.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "compare")]
    pub(crate) only: Option<Only>,
    #[command(flatten)]
    pub(crate) fleet: super::FleetArguments,
    #[command(flatten)]
    pub(crate) trust: super::TrustArgument,
    /// Batch sizes: the first dimension of the inputs [default: those of the recipe's shapes `min` and `opt`].
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(limits::BATCH))]
    pub(crate) batch: Vec<u64>,
    /// Numbers of concurrent streams, at most 128.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(limits::STREAMS))]
    pub(crate) streams: Vec<u32>,
    /// Threads used by one run [default: the library's choice].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(limits::THREADS))]
    pub(crate) threads: Option<u32>,
    #[command(flatten)]
    pub(crate) execution: Execution,
    /// How far ONNX Runtime optimizes a graph before it runs it [default: its own default, all].
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub(crate) graph_optimization: Option<GraphOptimization>,
    /// Capture a run on the GPU as a CUDA graph, and replay that.
    #[arg(long)]
    pub(crate) cuda_graph: bool,
    /// Rounds for each case, each in its own process.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(limits::ROUNDS))]
    pub(crate) rounds: u16,
    /// Warm-up time at the start of each round, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "200", value_parser = clap::value_parser!(u64).range(limits::MILLISECONDS))]
    pub(crate) warm_up_ms: u64,
    /// The minimum length of a window, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = clap::value_parser!(u64).range(limits::MILLISECONDS))]
    pub(crate) window_ms: u64,
    /// The maximum time for all windows of a round, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "2000", value_parser = clap::value_parser!(u64).range(limits::MILLISECONDS))]
    pub(crate) budget_ms: u64,
    /// Measure these two profiles in alternating rounds, and compare B with A.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "baseline")]
    pub(crate) compare: Option<Vec<String>>,
    /// Compare with the saved output of an earlier `nimctl bench --output json`.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Exit with code 3 if a comparison exceeds this bound: `p50 > +3%`, `throughput < -5%`. May be repeated.
    #[arg(long, value_name = "GATE")]
    pub(crate) fail_if: Vec<Gate>,
    /// The maximum time for a round in addition to its warm-up and budget, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub(crate) timeout: u64,
}

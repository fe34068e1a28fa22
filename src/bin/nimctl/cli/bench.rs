//! Arguments of `bench`.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use clap::Args;
use nimctl::benchmark::Gate;
use nimctl::recipe::Only;

use super::execution::{Execution, GraphOptimization};

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each case (graph, batch, streams) is measured in rounds, every one in a fresh worker process, where several profiles take
turns. A round ends when its last three windows agree to 5 % in latency and throughput, or its budget is spent. Latency is
that of one run of the graph with the whole batch. Results go into the profiles' passports, samples into the store.

A difference is called real at 99 % confidence, from 8 rounds on. A gate fails if the ratio is beyond it, and real.

Exit codes: 1 the recipe, or a batch that it does not allow; 3 a profile failed, or a gate says no; 5 nothing of the recipe
runs here, or the onnxruntime worker or the provider that was asked for is missing.

Examples:
  nimctl bench recipes/nvclip-demo.yaml --batch 1,8 --streams 1,2
  nimctl bench recipes/nvclip-demo.yaml --output json > baseline.json
  nimctl bench recipes/nvclip-demo.yaml --baseline baseline.json --fail-if 'p50 > +3%'
  nimctl bench recipes/minilm.yaml --compare onnx-fp32 onnx-fp16
  nimctl bench recipes/nvclip-demo.yaml --gpu 1 --cuda-graph --provider cuda")]
pub(crate) struct Bench {
    /// The recipe whose profiles were built.
    pub(crate) recipe: PathBuf,
    /// Only these profiles: tags (gpu=l4,precision=fp16), or a name in which * stands for anything.
    #[arg(long, value_name = "SELECTOR", conflicts_with = "compare")]
    pub(crate) only: Option<Only>,
    /// First dimensions of inputs [default: the least and the usual of the recipe's shapes].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) batch: Vec<NonZeroU64>,
    /// Callers at a time.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1")]
    pub(crate) streams: Vec<NonZeroU32>,
    /// Threads inside of one run [default: the library's choice].
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroU32>,
    #[command(flatten)]
    pub(crate) execution: Execution,
    /// What ONNX Runtime may do to a graph before it runs it [default: its own choice, all].
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub(crate) graph_optimization: Option<GraphOptimization>,
    /// Capture runs on a GPU in a CUDA graph once, and replay them from it.
    #[arg(long)]
    pub(crate) cuda_graph: bool,
    /// Processes that measure each case, one after the other.
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) rounds: u16,
    /// Time in each round before anything counts, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "200")]
    pub(crate) warm_up_ms: u64,
    /// The least length of a window, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "100")]
    pub(crate) window_ms: u64,
    /// Most time for the windows of a round, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "2000")]
    pub(crate) budget_ms: u64,
    /// Measure these two profiles in turns, and compare the second with the first.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "baseline")]
    pub(crate) compare: Option<Vec<String>>,
    /// Compare with what an earlier `nimctl bench --output json` printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Exit with 3 if a comparison is worse than that: `p50 > +3%`, `throughput < -5%`. May be repeated.
    #[arg(long, value_name = "GATE")]
    pub(crate) fail_if: Vec<Gate>,
    /// Most time for a round beyond its warm-up and budget, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
}

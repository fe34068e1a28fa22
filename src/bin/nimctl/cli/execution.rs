//! Arguments that say where profiles run.

use clap::{Args, ValueEnum};
use nimctl::worker::protocol;

/// Arguments that say where profiles run.
#[derive(Debug, Args)]
pub(crate) struct Execution {
    /// What runs ONNX graphs; plans run on a GPU in any case [default: cpu].
    #[arg(long, value_name = "PROVIDER", value_enum)]
    provider: Option<Provider>,
    /// The number of the GPU to run on, as the CUDA driver counts them [default: the first that fits the profile].
    #[arg(long, value_name = "N")]
    pub(crate) gpu: Option<u32>,
}

impl Execution {
    /// Returns what runs ONNX graphs.
    pub(crate) fn provider(&self) -> Option<protocol::Provider> {
        self.provider.map(|provider| match provider {
            Provider::Cpu => protocol::Provider::Cpu,
            Provider::Cuda => protocol::Provider::Cuda,
        })
    }

    /// Returns what is asked of workers.
    pub(crate) fn wanted(&self) -> protocol::Execution {
        protocol::Execution { provider: self.provider(), device: self.gpu, ..protocol::Execution::default() }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU; needs an ONNX Runtime that was built for CUDA.
    Cuda,
}

/// What ONNX Runtime may do to a graph before it runs it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum GraphOptimization {
    /// Nothing.
    Off,
    /// What keeps the graph's operators.
    Basic,
    /// Operators of its own as well.
    Extended,
    /// Layouts of tensors as well.
    All,
}

impl From<GraphOptimization> for protocol::GraphOptimization {
    fn from(level: GraphOptimization) -> Self {
        match level {
            GraphOptimization::Off => Self::Off,
            GraphOptimization::Basic => Self::Basic,
            GraphOptimization::Extended => Self::Extended,
            GraphOptimization::All => Self::All,
        }
    }
}

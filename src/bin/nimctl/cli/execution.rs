//! Arguments for where profiles run.

use clap::{Args, ValueEnum};
use nimctl::worker::protocol;

/// Arguments for where profiles run.
#[derive(Debug, Args)]
pub(crate) struct Execution {
    /// The provider that runs ONNX graphs; plans always run on a GPU [default: cpu].
    #[arg(long, value_name = "PROVIDER", value_enum)]
    provider: Option<Provider>,
    /// The index of the GPU to run on, in the CUDA driver's order [default: the first GPU that fits the profile].
    #[arg(long, value_name = "N")]
    pub(crate) gpu: Option<u32>,
}

impl Execution {
    /// Returns the provider that runs ONNX graphs.
    pub(crate) fn provider(&self) -> Option<protocol::Provider> {
        self.provider.map(|provider| match provider {
            Provider::Cpu => protocol::Provider::Cpu,
            Provider::Cuda => protocol::Provider::Cuda,
        })
    }

    /// Returns the execution requested from workers.
    pub(crate) fn wanted(&self) -> protocol::Execution {
        protocol::Execution { provider: self.provider(), device: self.gpu, ..protocol::Execution::default() }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU; needs ONNX Runtime built with CUDA.
    Cuda,
}

/// How far ONNX Runtime optimizes a graph before it runs it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum GraphOptimization {
    /// No optimization.
    Off,
    /// Optimizations that keep to standard operators.
    Basic,
    /// Fusions into its own operators as well.
    Extended,
    /// Changes of tensor layout as well.
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

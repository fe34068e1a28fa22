//! Words for how a library runs something: what a worker is asked for, what the user chooses, what a measurement was made with.

use serde::{Deserialize, Serialize};

/// The parts of a library that can run nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, through CUDA. A node that runs on the CPU all the same is an error, unless its outputs are whole numbers.
    Cuda,
}

impl Provider {
    /// Returns the name on the wire and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// What a library may do to a graph before it runs it; ONNX Runtime's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GraphOptimization {
    /// Nothing.
    Off,
    /// What keeps the graph's operators: folding constants, dropping nodes without effect.
    Basic,
    /// Operators of the library's own as well.
    Extended,
    /// Layouts of tensors as well.
    All,
}

impl GraphOptimization {
    /// Returns the name on the wire and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Basic => "basic",
            Self::Extended => "extended",
            Self::All => "all",
        }
    }
}

/// What a runtime cache was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RuntimeCacheUse {
    /// There was no cache, or the library refused it: everything was compiled again.
    Cold,
    /// The library took it.
    Warm,
}

//! How something is to be run, and how it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkerDevice;

/// How a worker is to run what it loads. What is absent is the worker's own choice.
///
/// A worker that can't do what is asked for says so, with `unsupported_request` or `no_driver`; it never does something
/// else in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Execution {
    /// What runs the nodes, for a library that has several such parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The number of the GPU, as the CUDA driver counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// Threads inside of one run, for a library that runs on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// What the library may do to a graph before it runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_optimization: Option<GraphOptimization>,
    /// Whether runs are captured in a CUDA graph once, and replayed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_graph: Option<bool>,
    /// Where a library that compiles at load time keeps what it compiled. The folder exists, the file may; the worker
    /// reads it, and replaces it when there is more to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_cache: Option<PathBuf>,
}

/// The parts of a library that can run nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, through CUDA. A node with numbers in it that runs on the CPU all the same is an error.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Where and how something ran, as the library and the driver say it, not as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RanOn {
    /// The GPU; absent if it was the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<WorkerDevice>,
    /// How many nodes each part of the library ran, by its own name of the part: `CPUExecutionProvider`. Empty for a
    /// library without such parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, u64>,
    /// Whether runs were replayed from a CUDA graph.
    #[serde(default)]
    pub cuda_graph: bool,
    /// What the file of the runtime cache was good for; absent where there is no such cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_cache: Option<RuntimeCacheUse>,
}

/// What a runtime cache was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeCacheUse {
    /// There was none, or the library did not take it: everything was compiled anew.
    Cold,
    /// The library took it.
    Warm,
}

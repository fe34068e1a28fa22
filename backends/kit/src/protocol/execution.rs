//! How something is to be run, and how it was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::WorkerDevice;
use crate::execution::{GraphOptimization, Provider, RuntimeCacheUse};

/// How a worker is to run what it loads. What is absent is the worker's own choice.
///
/// A worker that can't do what is requested says so, with `unsupported_request` or `no_driver`; it never does something
/// else in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// Where and how something ran, as the library and the driver report it, not as it was requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

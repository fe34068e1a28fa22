//! How something is run, as keys hold it: what decides what comes out of a run, and no words for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::runners::Way;
use crate::digest::Sha256;
use crate::execution::{GraphOptimization, Provider};
use crate::toolchain::Located;
use crate::worker::protocol::{Description, Execution, Library, WorkerDevice};

/// What identifies a worker and its library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RuntimeIdentity {
    backend: String,
    /// What the worker says of itself; absent where the bytes of its library are known.
    worker_version: Option<String>,
    /// The library's name and version, as the worker reports them; absent where its bytes are known.
    library: Option<(String, String)>,
    /// The digests of the library's files, by file name.
    files: BTreeMap<String, Sha256>,
}

impl RuntimeIdentity {
    /// Identifies a worker by the bytes of the library that it loads.
    pub(super) fn of_library(backend: &str, located: &Located) -> Self {
        let files = located.files.iter().map(|file| (file.name.clone(), file.sha256)).collect();
        Self { backend: backend.into(), worker_version: None, library: None, files }
    }

    /// Identifies a worker by what it says of itself.
    pub(super) fn of_worker(description: &Description) -> Self {
        // What it can do here decides whether it runs something, not what comes out.
        let Description {
            protocol_version: _,
            backend,
            worker_version,
            library,
            build: _,
            run: _,
            compute_capabilities: _,
            portable_plans: _,
            needs_gpu_to_build: _,
            devices: _,
        } = description;
        // Paths of files differ from machine to machine.
        let library =
            library.as_ref().map(|Library { name, version, files: _ }| (name.clone(), version.clone()));
        Self {
            backend: backend.clone(),
            worker_version: Some(worker_version.clone()),
            library,
            files: BTreeMap::new(),
        }
    }
}

/// A way of running something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RunIdentity {
    runtime: RuntimeIdentity,
    /// The GPU's product name.
    device: Option<String>,
    provider: Option<Provider>,
    device_number: Option<u32>,
    threads: Option<u32>,
    graph_optimization: Option<GraphOptimization>,
    cuda_graph: Option<bool>,
}

impl RunIdentity {
    /// Identifies a way of running something.
    pub(super) fn of(way: &Way) -> Self {
        // The command is a path of this machine.
        let Way { command: _, execution, runtime, device } = way;
        let Execution {
            provider,
            device: device_number,
            threads,
            graph_optimization,
            cuda_graph,
            // A folder of this machine; what is compiled into it decides no number.
            runtime_cache: _,
        } = execution;
        // Two GPUs of one product and driver give the same; the name says the compute capability.
        let device =
            device.as_ref().map(|WorkerDevice { name, compute_capability: _, pci_address: _ }| name.clone());
        Self {
            runtime: runtime.clone(),
            device,
            provider: *provider,
            device_number: *device_number,
            threads: *threads,
            graph_optimization: *graph_optimization,
            cuda_graph: *cuda_graph,
        }
    }
}

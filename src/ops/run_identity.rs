//! How something is run, as keys hold it: what decides what comes out of a run, and no words for people.

use serde::Serialize;

use super::runners::Way;
use super::runtime_identity::RuntimeIdentity;
use crate::execution::{GraphOptimization, Provider};
use crate::worker::protocol::{Execution, WorkerDevice};

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

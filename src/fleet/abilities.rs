//! What a backend can build on a host: this one, or one of a fleet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;
use crate::gpu;
use crate::profile::{Target, ToolIdentity, capability_tag};
use nimctl_backend_kit::protocol::WorkerDevice;

/// What a backend can build on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Abilities {
    /// What goes into build keys.
    pub identity: BTreeMap<String, ToolIdentity>,
    /// The GPUs that it builds on, if it needs one: then one job at a time, and only for these GPUs.
    pub gpus: Option<Vec<WorkerDevice>>,
    /// What it can build for, if it says so.
    pub capabilities: Option<Vec<ComputeCapability>>,
    /// Whether one plan can be for several compute capabilities.
    pub portable_plans: bool,
}

impl Abilities {
    /// Returns why a profile for a target can't be built; `None` if it can.
    pub fn refusal(&self, target: &Target) -> Option<String> {
        let wanted = target.compute_capabilities();
        if let Some(can) = &self.capabilities
            && !wanted.iter().all(|capability| can.contains(capability))
        {
            return Some(format!("it builds for {}", capability_tag(can).replace('+', ", ")));
        }
        if wanted.len() > 1 && !self.portable_plans {
            return Some("it builds one plan for each compute capability".into());
        }
        let gpus = self.gpus.as_ref()?;
        let is_target = |device: &WorkerDevice| match target {
            Target::Gpu { name, compute_capability: _ } => {
                gpu::find(&device.name).is_ok_and(|gpu| gpu.name == *name)
            }
            Target::ComputeCapabilities(_) | Target::Generic => wanted.contains(&device.compute_capability),
        };
        if gpus.iter().any(is_target) {
            return None;
        }
        let names: Vec<String> =
            gpus.iter().map(|gpu| format!("{} ({})", gpu.name, gpu.compute_capability)).collect();
        Some(if names.is_empty() { "no GPU".into() } else { names.join(", ") })
    }
}

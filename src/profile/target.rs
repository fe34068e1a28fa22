//! What a profile is for.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;

/// What a profile is for: one GPU, one or several compute capabilities, or any machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A GPU by its name in the data file, with its compute capability.
    Gpu {
        /// The name.
        name: String,
        /// From the data file.
        compute_capability: ComputeCapability,
    },
    /// Compute capabilities, ascending; more than one means one portable plan for all of them.
    ComputeCapabilities(Vec<ComputeCapability>),
    /// Any machine.
    Generic,
}

impl Target {
    /// Returns the compute capabilities that a plan for this target must be built for; empty for `generic`.
    pub fn compute_capabilities(&self) -> Vec<ComputeCapability> {
        match self {
            Self::Gpu { name: _, compute_capability } => vec![*compute_capability],
            Self::ComputeCapabilities(capabilities) => capabilities.clone(),
            Self::Generic => Vec::new(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu { name, compute_capability: _ } => f.write_str(name),
            Self::ComputeCapabilities(capabilities) => {
                write!(f, "sm{}", joined(capabilities, "-sm", |c| c.sm().to_string()))
            }
            Self::Generic => f.write_str("generic"),
        }
    }
}

/// Returns the value of the tag `compute_capability`: `8.9`, or `8.0+8.6` for a portable plan.
pub fn capability_tag(capabilities: &[ComputeCapability]) -> String {
    joined(capabilities, "+", |capability| capability.to_string())
}

fn joined(
    capabilities: &[ComputeCapability],
    separator: &str,
    word: impl Fn(&ComputeCapability) -> String,
) -> String {
    capabilities.iter().map(word).collect::<Vec<_>>().join(separator)
}

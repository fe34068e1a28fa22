//! The quantities that are compared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Round;

/// A quantity that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The median latency.
    P50,
    /// The 90th percentile.
    P90,
    /// The 95th percentile.
    P95,
    /// The 99th percentile.
    P99,
    /// Items per second.
    Throughput,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 5] = [Self::P50, Self::P90, Self::P95, Self::P99, Self::Throughput];

    /// Returns its name: `p50`.
    pub fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Throughput => "throughput",
        }
    }

    /// Returns whether larger values are worse.
    pub fn more_is_worse(self) -> bool {
        !matches!(self, Self::Throughput)
    }

    pub(super) fn of_round(self) -> fn(&Round) -> f64 {
        match self {
            Self::P50 => |round| round.p50_ms,
            Self::P90 => |round| round.p90_ms,
            Self::P95 => |round| round.p95_ms,
            Self::P99 => |round| round.p99_ms,
            Self::Throughput => |round| round.items_per_s,
        }
    }
}

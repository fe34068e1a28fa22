//! What is remembered of a finished job (`nimctl.build/1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build_key::{BuildKey, BuildKeyDocument};
use crate::digest::{Blake3, Sha256};
use crate::mixed_precision::MixedPrecisionReport;
use crate::onnx::LoweringReport;
use crate::plan::PlanHeader;

/// The schema name inside a record.
pub const BUILD_RECORD_SCHEMA: &str = "nimctl.build/1";

/// A finished job: what went in, what came out, what it took.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct BuildRecord {
    /// [`BUILD_RECORD_SCHEMA`].
    pub schema: String,
    /// The key.
    pub key: BuildKey,
    /// The document behind the key.
    pub document: BuildKeyDocument,
    /// The files that came out, sorted by path; the first is the plan or the model.
    pub outputs: Vec<OutputFile>,
    /// How long it took; absent in a release.
    #[serde(default)]
    pub timings: Timings,
    /// Peak resident memory of the worker process during the job, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// What the plan's header says, for a plan with a header that we can read.
    pub plan: Option<PlanHeader>,
    /// What lowering did, for a lowering.
    pub lowering: Option<LoweringReport>,
    /// Which nodes were found to need FP32 by running the graph, for a lowering that asked for it.
    #[serde(default)]
    pub mixed_precision: Option<MixedPrecisionReport>,
    /// What the compiler warned of.
    pub warnings: Vec<String>,
}

/// One file that came out of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputFile {
    /// Its path inside the graph's folder of a profile: `model.plan`.
    pub path: String,
    /// The digest that names it in the store.
    pub sha256: Sha256,
    /// The digest that manifests carry.
    pub blake3: Blake3,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// How long a job took, by the wall clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// From start to end as the host saw it, in milliseconds.
    pub total_ms: u64,
    /// The worker's reading of the graph, in milliseconds.
    pub parse_ms: Option<u64>,
    /// The compiler's own time, in milliseconds.
    pub build_ms: Option<u64>,
}

//! What is remembered of a finished job (`nimctl.build/1`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build_key::{BUILD_KEY_SCHEMA, BuildKey, BuildKeyDocument};
use crate::digest::{Blake3, Sha256};
use crate::fleet::exchange::Node;
use crate::mixed_precision::MixedPrecisionReport;
use crate::onnx::LoweringReport;
use crate::plan::{PlanHeader, PlanLayers};
use crate::quantization::QuantizationRecord;
use crate::stored_format::{self, Unreadable};

/// The schema name inside a record. A new version of what is in it is a new version of it.
pub const BUILD_RECORD_SCHEMA: &str = "nimctl.build/1";

// The order of the fields is that of released passports, which are the same bytes for the same release.
/// A finished job: what went in, what came out, what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildRecord {
    /// [`BUILD_RECORD_SCHEMA`].
    pub schema: String,
    /// The key.
    pub key: BuildKey,
    /// The document behind the key.
    pub document: BuildKeyDocument,
    /// The files that came out, sorted by path; the first is the plan or the model.
    pub outputs: Vec<OutputFile>,
    /// What it took; absent in a release.
    #[serde(flatten)]
    pub measurements: Option<Measurements>,
    /// What the compiler warned of.
    pub warnings: Vec<String>,
    /// Which nodes were found to need FP32 by running the graph, for a lowering that requested it.
    #[serde(default)]
    pub mixed_precision: Option<MixedPrecisionReport>,
    /// What the plan's header says, for a plan with a header that we can read.
    pub plan: Option<PlanHeader>,
    /// What the compiler made of each layer, for a plan whose text we can read; absent in the records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_layers: Option<PlanLayers>,
    /// What lowering did, for a lowering.
    pub lowering: Option<LoweringReport>,
    /// How the graph was quantized before it was lowered, for a lowering of one that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationRecord>,
}

impl BuildRecord {
    /// Reads a record; `path` is only named in errors.
    ///
    /// # Errors
    /// A record of a newer nimctl, or a damaged one.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        let record: Self = stored_format::from_json(bytes, BUILD_RECORD_SCHEMA, path)?;
        record.check_schemas(path)?;
        Ok(record)
    }

    /// Checks the schemas of the record and of the document in it.
    pub(crate) fn check_schemas(&self, path: &str) -> Result<(), Unreadable> {
        stored_format::check(&self.schema, BUILD_RECORD_SCHEMA, path)?;
        stored_format::check(&self.document.schema, BUILD_KEY_SCHEMA, path)
    }

    /// Returns the blobs that belong to the job: what came out, and the quantized graph that went in, which validation runs.
    pub fn blobs(&self) -> impl Iterator<Item = Sha256> {
        let quantization = self.document.lowering.quantization.as_ref();
        let graph = quantization.and_then(|quantization| quantization.graph.as_ref());
        let went_in = graph.into_iter().flat_map(|graph| &graph.files).map(|file| file.sha256);
        self.outputs.iter().map(|output| output.sha256).chain(went_in)
    }

    /// Returns how long the job took, in milliseconds; 0 where that is not recorded.
    pub fn total_ms(&self) -> u64 {
        self.measurements.as_ref().map_or(0, |measurements| measurements.timings.total_ms)
    }

    /// Returns the record less what no two builds share.
    #[must_use]
    pub fn without_measurements(&self) -> Self {
        Self { measurements: None, ..self.clone() }
    }
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

/// What a job took: no two builds of the same bytes share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measurements {
    /// How long it took.
    pub timings: Timings,
    /// Peak resident memory of the worker process during the job, in bytes, where the system reports it.
    pub peak_memory_bytes: Option<u64>,
    /// The node of a fleet that did it; absent if it was the machine that has the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<BuiltOn>,
}

/// Where a job of a fleet ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuiltOn {
    /// The executor of the fleet file.
    pub executor: String,
    /// The node.
    pub node: Node,
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

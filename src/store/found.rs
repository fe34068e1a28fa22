//! What was found by running graphs, as the store remembers it: which nodes need FP32, how a graph is quantized, and whether a
//! lowered graph keeps the numbers.

use serde::{Deserialize, Serialize};

use crate::mixed_precision::MixedPrecisionReport;
use crate::onnx::GraphDigest;
use crate::precision_check::PrecisionCheck;
use crate::quantization::QuantizationRecord;
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file.
pub(super) const MIXED_PRECISION_SCHEMA: &str = "nimctl.mixed-precision/1";

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    pub(super) schema: String,
    pub(super) report: MixedPrecisionReport,
}

impl Found {
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, MIXED_PRECISION_SCHEMA, path)
    }
}

/// The schema name inside the file of a quantized graph.
pub(super) const QUANTIZED_GRAPH_SCHEMA: &str = "nimctl.quantized-graph/1";

/// How a graph was quantized, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizedGraph {
    pub(super) schema: String,
    /// How it was found, and what was quantized.
    pub record: QuantizationRecord,
    /// The quantized graph; its files are blobs.
    pub graph: GraphDigest,
}

impl QuantizedGraph {
    /// Takes what was found.
    pub fn new(record: QuantizationRecord, graph: GraphDigest) -> Self {
        Self { schema: QUANTIZED_GRAPH_SCHEMA.into(), record, graph }
    }

    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, QUANTIZED_GRAPH_SCHEMA, path)
    }
}

/// The schema name inside the file of a check.
pub(super) const PRECISION_CHECK_SCHEMA: &str = "nimctl.precision-check/1";

/// What a check came to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FoundByCheck {
    pub(super) schema: String,
    pub(super) check: PrecisionCheck,
}

impl FoundByCheck {
    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, PRECISION_CHECK_SCHEMA, path)
    }
}

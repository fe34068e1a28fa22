//! How profiles' graphs are lowered where that is found by running them.

use std::collections::BTreeMap;

use crate::digest::Sha256;
use crate::mixed_precision::MixedPrecisionReport;
use crate::onnx::LoweringOptions;
use crate::ops::error::JobError;
use crate::profile::ProfileSpec;
use crate::quantization::QuantizationRecord;
use crate::store::QuantizedGraph;

/// What was found.
#[derive(Debug, Default)]
pub(in crate::ops) struct FoundLowerings {
    /// How a profile's graph is lowered, by profile and graph.
    pub lowerings: BTreeMap<(String, String), LoweringOptions>,
    /// Which nodes were found to need FP32, by graph and by the options that came of it.
    mixed_precision: BTreeMap<(String, LoweringOptions), MixedPrecisionReport>,
    /// How graphs were quantized, in the same way.
    quantizations: BTreeMap<(String, LoweringOptions), QuantizationRecord>,
    /// Why graphs can't be quantized, by graph and by the options that say how.
    failed: BTreeMap<(String, LoweringOptions), JobError>,
}

/// Something that is to be found before a profile's jobs are final.
#[derive(Clone, Debug)]
pub(in crate::ops) struct PendingSearch {
    /// The profile.
    pub spec: ProfileSpec,
    /// Its graph.
    pub graph: String,
    /// Where the store keeps what is found.
    pub key: Sha256,
}

impl FoundLowerings {
    /// Returns which nodes were found to need FP32, if these options came of it.
    pub(in crate::ops) fn mixed_precision(
        &self,
        graph: &str,
        options: &LoweringOptions,
    ) -> Option<&MixedPrecisionReport> {
        self.mixed_precision.get(&(graph.to_owned(), options.clone()))
    }

    /// Returns how a graph was quantized, if these options came of it.
    pub(in crate::ops) fn quantization(
        &self,
        graph: &str,
        options: &LoweringOptions,
    ) -> Option<&QuantizationRecord> {
        self.quantizations.get(&(graph.to_owned(), options.clone()))
    }

    /// Returns why a graph can't be quantized in this way, if that was found.
    pub(in crate::ops) fn failure(&self, graph: &str, options: &LoweringOptions) -> Option<&JobError> {
        self.failed.get(&(graph.to_owned(), options.clone()))
    }

    /// Keeps the nodes that were found.
    pub(in crate::ops) fn add_kept(&mut self, spec: &ProfileSpec, graph: &str, report: MixedPrecisionReport) {
        let mut lowering = spec.lowering.clone();
        lowering.keep_nodes.extend(report.kept.iter().map(|kept| kept.node.clone()));
        self.lowerings.insert((spec.name(), graph.to_owned()), lowering.clone());
        self.mixed_precision.insert((graph.to_owned(), lowering), report);
    }

    /// Takes the quantized graph that was found.
    pub(in crate::ops) fn add_quantized(&mut self, spec: &ProfileSpec, graph: &str, found: QuantizedGraph) {
        let mut lowering = spec.lowering.clone();
        if let Some(quantization) = &mut lowering.quantization {
            quantization.graph = Some(found.graph);
        }
        self.lowerings.insert((spec.name(), graph.to_owned()), lowering.clone());
        self.quantizations.insert((graph.to_owned(), lowering), found.record);
    }

    /// Remembers that a graph can't be quantized.
    pub(in crate::ops) fn add_failure(&mut self, spec: &ProfileSpec, graph: &str, error: JobError) {
        self.failed.insert((graph.to_owned(), spec.lowering.clone()), error);
    }
}

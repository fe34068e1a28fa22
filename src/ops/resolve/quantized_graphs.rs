//! Quantized graphs: which of them the store has, and which are still to be found. Finding one runs graphs, which is a matter of
//! [`schedule`](crate::ops::schedule).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{FoundLowerings, PendingSearch, Resolved};
use crate::canonical::{self, ExactFloat};
use crate::digest::Sha256;
use crate::onnx::quantize::{Method, QUANTIZATION_VERSION};
use crate::onnx::{GraphDigest, LOWERING_VERSION, LoweringOptions};
use crate::ops::error::PipelineError;
use crate::ops::quantize::CALIBRATION_VERSION;
use crate::ops::runtime_identity::RuntimeIdentity;
use crate::ops::samples::{SampleIdentity, identify, named_files};
use crate::profile::ProfileSpec;
use crate::quantization::{Gate, QuantizationDemands, Wanted};
use crate::recipe::GraphMismatch;
use crate::store::Store;

/// The schema of the key.
const KEY_SCHEMA: &str = "nimctl.quantized-graph-key/1";

/// Everything that decides how a graph is quantized.
#[derive(Serialize)]
struct Key<'a> {
    schema: &'static str,
    graph: &'a GraphDigest,
    /// Holds what is quantized.
    lowering: &'a LoweringOptions,
    lowering_version: u32,
    quantization_version: u32,
    calibration_version: u32,
    /// The one method to use; absent for a choice among all.
    method: Option<Method>,
    min_row_cosine: ExactFloat,
    evaluations: u32,
    calibration: BTreeMap<String, SampleIdentity>,
    runtime: &'a RuntimeIdentity,
}

/// Looks up the quantized graphs of every profile that is quantized. What is not known is returned as a search if its profile is
/// built here.
pub(super) fn look_up(
    resolved: &Resolved,
    store: &Store,
    known: &mut FoundLowerings,
) -> Result<Vec<PendingSearch>, PipelineError> {
    let mut pending = Vec::new();
    let quantized = resolved.recipe().profiles.iter().filter_map(|spec| Some((spec, spec.quantization?)));
    let quantized: Vec<(&ProfileSpec, QuantizationDemands)> = quantized.collect();
    if quantized.is_empty() {
        return Ok(pending);
    }
    named_files::check_calibration(resolved.recipe(), resolved.file().folder())
        .map_err(|error| Box::new(GraphMismatch::from(error)))?;
    let (_, runtime) = resolved.backends.reference()?;
    let here = resolved.here();
    let mut identities: BTreeMap<&String, BTreeMap<String, SampleIdentity>> = BTreeMap::new();
    for (spec, QuantizationDemands { wanted, gate, require: _ }) in quantized {
        let built_here = here.iter().any(|other| other.name() == spec.name());
        for (graph, digest) in &resolved.digests {
            if !identities.contains_key(graph) {
                let samples = identify(&resolved.calibration_subject(graph))
                    .map_err(|source| PipelineError::Calibration { graph: graph.clone(), source })?;
                identities.insert(graph, samples);
            }
            let key = key(spec, digest, (wanted, gate), &identities[graph], &runtime)?;
            match store.quantized_graph(&key)? {
                Some(found) => known.add_quantized(spec, graph, found),
                None if built_here => {
                    pending.push(PendingSearch { spec: spec.clone(), graph: graph.clone(), key });
                }
                None => {}
            }
        }
    }
    Ok(pending)
}

fn key(
    spec: &ProfileSpec,
    graph: &GraphDigest,
    (wanted, gate): (Wanted, Gate),
    calibration: &BTreeMap<String, SampleIdentity>,
    runtime: &RuntimeIdentity,
) -> Result<Sha256, PipelineError> {
    let Gate { min_row_cosine, evaluations } = gate;
    Ok(canonical::digest(&Key {
        schema: KEY_SCHEMA,
        graph,
        lowering: &spec.lowering,
        lowering_version: LOWERING_VERSION,
        quantization_version: QUANTIZATION_VERSION,
        calibration_version: CALIBRATION_VERSION,
        method: match wanted {
            Wanted::Auto => None,
            Wanted::Only(method) => Some(method),
        },
        min_row_cosine: ExactFloat(min_row_cosine),
        evaluations,
        calibration: calibration.clone(),
        runtime,
    })?)
}

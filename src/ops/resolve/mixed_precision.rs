//! Which nodes stay in FP32 because the recipe asked for calibration or search: what the store knows of it, and what is still
//! to be found. Finding it runs graphs, which is a matter of [`schedule`](crate::ops::schedule).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{FoundLowerings, PendingSearch, Resolved};
use crate::canonical::{self, ExactFloat};
use crate::mixed_precision::{Calibrate, MixedPrecision, Search};
use crate::onnx::{GraphDigest, LOWERING_VERSION, LoweringOptions};
use crate::ops::error::PipelineError;
use crate::ops::runtime_identity::RuntimeIdentity;
use crate::ops::samples::{SampleIdentity, identify};
use crate::profile::ProfileSpec;
use crate::store::Store;

/// The schema of the key.
const KEY_SCHEMA: &str = "nimctl.mixed-precision-key/2";

/// Everything that decides what is found.
#[derive(Serialize)]
struct Key<'a> {
    schema: &'static str,
    graph: &'a GraphDigest,
    lowering: &'a LoweringOptions,
    lowering_version: u32,
    calibrate: Option<CalibrateKey>,
    search: Option<SearchKey>,
    samples: BTreeMap<String, SampleIdentity>,
    runtime: &'a RuntimeIdentity,
}

#[derive(Serialize)]
struct CalibrateKey {
    headroom: ExactFloat,
}

impl CalibrateKey {
    fn of(calibrate: Calibrate) -> Self {
        let Calibrate { headroom } = calibrate;
        Self { headroom: ExactFloat(headroom) }
    }
}

#[derive(Serialize)]
struct SearchKey {
    min_row_cosine: ExactFloat,
    evaluations: u32,
}

impl SearchKey {
    fn of(search: Search) -> Self {
        let Search { min_row_cosine, evaluations } = search;
        Self { min_row_cosine: ExactFloat(min_row_cosine), evaluations }
    }
}

/// Looks up the nodes to keep for every profile that asks for it. What is not known is returned as a search if its profile
/// is built here.
pub(super) fn look_up(
    resolved: &Resolved,
    store: &Store,
    known: &mut FoundLowerings,
) -> Result<Vec<PendingSearch>, PipelineError> {
    let mut pending = Vec::new();
    let recipe = resolved.recipe();
    let asking: Vec<&ProfileSpec> =
        recipe.profiles.iter().filter(|spec| !spec.mixed_precision.is_empty()).collect();
    if asking.is_empty() {
        return Ok(pending);
    }
    let (_, runtime) = resolved.backends.reference()?;
    let here = resolved.here();
    for spec in asking {
        let built_here = here.iter().any(|other| other.name() == spec.name());
        for (graph, digest) in &resolved.digests {
            let samples = identify(&resolved.subject_as_given(graph)).map_err(|source| {
                PipelineError::MixedPrecision { graph: graph.clone(), source: source.into() }
            })?;
            let MixedPrecision { calibrate, search } = spec.mixed_precision;
            let key = canonical::digest(&Key {
                schema: KEY_SCHEMA,
                graph: digest,
                lowering: &spec.lowering,
                lowering_version: LOWERING_VERSION,
                calibrate: calibrate.map(CalibrateKey::of),
                search: search.map(SearchKey::of),
                samples,
                runtime: &runtime,
            })?;
            match store.mixed_precision(&key)? {
                Some(report) => known.add_kept(spec, graph, report),
                None if built_here => {
                    pending.push(PendingSearch { spec: spec.clone(), graph: graph.clone(), key });
                }
                None => {}
            }
        }
    }
    Ok(pending)
}

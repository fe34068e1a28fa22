//! The validation key: everything that decides what validating a profile gives. Equal keys, equal results.
//!
//! It is no part of any id. There are no words for people in it: rewording a message makes no result out of date.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inputs::Labelled;
use crate::canonical::{self, ExactFloat};
use crate::digest::Sha256;
use crate::onnx::{GraphDigest, LOWERING_VERSION};
use crate::ops::not_run_here::NotRunHere;
use crate::ops::run_identity::RunIdentity;
use crate::ops::runners::Way;
use crate::profile::ProfileId;
use crate::validation::{Demands, Thresholds, Tolerance};

/// The schema of the key, with the version of the gates: one that computes otherwise raises it.
const SCHEMA: &str = "nimctl.validation-key/4";

#[derive(Serialize)]
struct ValidationKey<'a> {
    schema: &'static str,
    nimctl: &'static str,
    /// Names every byte of the profile.
    profile: &'a ProfileId,
    graphs: BTreeMap<&'a str, &'a GraphDigest>,
    inputs: &'a BTreeMap<String, BTreeMap<String, Sha256>>,
    demands: DemandsKey<'a>,
    labelled: Option<LabelledKey<'a>>,
    reference: &'a RunIdentity,
    runs: Runs,
}

/// How the profile is run.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Runs {
    Itself(RunIdentity),
    /// Its lowered graph is, for the reason that has this tag.
    Emulated {
        because: &'static str,
        lowering_version: u32,
    },
}

#[derive(Serialize)]
struct DemandsKey<'a> {
    row_cosine: ExactFloat,
    norm_ratio: ExactFloat,
    equal: ExactFloat,
    cross_modal: ExactFloat,
    top_1: ExactFloat,
    top_10: ExactFloat,
    batch_invariance: ExactFloat,
    /// Absolute and relative.
    tolerances: BTreeMap<&'a str, (ExactFloat, ExactFloat)>,
}

impl<'a> DemandsKey<'a> {
    fn of(demands: &'a Demands) -> Self {
        // What the labelled set is made of is in `inputs` and in `labelled`.
        // Thresholds are those of the profile's precision already.
        let Demands { thresholds, quantized_thresholds: _, tolerances, zero_shot: _ } = demands;
        let Thresholds { row_cosine, norm_ratio, equal, cross_modal, top_1, top_10, batch_invariance } =
            thresholds;
        let tolerances = tolerances.iter().map(|(output, Tolerance { absolute, relative })| {
            (output.as_str(), (ExactFloat(*absolute), ExactFloat(*relative)))
        });
        Self {
            row_cosine: ExactFloat(*row_cosine),
            norm_ratio: ExactFloat(*norm_ratio),
            equal: ExactFloat(*equal),
            cross_modal: ExactFloat(*cross_modal),
            top_1: ExactFloat(*top_1),
            top_10: ExactFloat(*top_10),
            batch_invariance: ExactFloat(*batch_invariance),
            tolerances: tolerances.collect(),
        }
    }
}

#[derive(Serialize)]
struct LabelledKey<'a> {
    image_graph: &'a str,
    text_graph: &'a str,
    image_output: Option<&'a str>,
    text_output: Option<&'a str>,
    prompts: usize,
    labels: &'a [usize],
    most_loss: ExactFloat,
}

impl<'a> LabelledKey<'a> {
    fn of(labelled: &'a Labelled) -> Self {
        let Labelled { image_graph, text_graph, image_output, text_output, prompts, labels, most_loss } =
            labelled;
        Self {
            image_graph,
            text_graph,
            image_output: image_output.as_deref(),
            text_output: text_output.as_deref(),
            prompts: *prompts,
            labels,
            most_loss: ExactFloat(*most_loss),
        }
    }
}

/// Everything in a key but the profile.
pub(super) struct Given<'a> {
    pub graphs: &'a BTreeMap<&'a str, &'a GraphDigest>,
    pub inputs: &'a BTreeMap<String, BTreeMap<String, Sha256>>,
    pub demands: &'a Demands,
    pub labelled: Option<&'a Labelled>,
    pub reference: &'a RunIdentity,
}

/// Returns the key of a profile that is run in this way, or emulated for this reason.
pub(super) fn key(profile: &ProfileId, way: Result<&Way, &NotRunHere>, given: &Given<'_>) -> Option<Sha256> {
    let Given { graphs, inputs, demands, labelled, reference } = given;
    canonical::digest(&ValidationKey {
        schema: SCHEMA,
        nimctl: env!("CARGO_PKG_VERSION"),
        profile,
        graphs: (*graphs).clone(),
        inputs,
        demands: DemandsKey::of(demands),
        labelled: labelled.map(LabelledKey::of),
        reference,
        runs: match way {
            Ok(way) => Runs::Itself(RunIdentity::of(way)),
            Err(reason) => Runs::Emulated { because: reason.tag(), lowering_version: LOWERING_VERSION },
        },
    })
    .ok()
}

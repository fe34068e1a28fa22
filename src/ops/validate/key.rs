//! The validation key: everything that decides what validating a profile gives. Equal keys, equal results.
//!
//! It is no part of any id. Numbers that are not whole are in texts, since canonical JSON takes none.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inputs::Labelled;
use crate::canonical;
use crate::digest::Sha256;
use crate::onnx::{GraphDigest, LOWERING_VERSION};
use crate::ops::runners::Way;
use crate::profile::ProfileId;
use crate::validation::Demands;
use crate::worker::protocol::Execution;

/// The schema of the key, with the version of the gates: one that computes otherwise raises it.
const SCHEMA: &str = "nimctl.validation-key/1";

#[derive(Serialize)]
struct ValidationKey<'a> {
    schema: &'static str,
    nimctl: &'static str,
    /// Names every byte of the profile.
    profile: &'a ProfileId,
    graphs: BTreeMap<&'a str, &'a GraphDigest>,
    inputs: &'a BTreeMap<String, BTreeMap<String, Sha256>>,
    demands: String,
    labelled: String,
    reference_runtime: &'a str,
    runs: Runs<'a>,
}

/// How the profile is run.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Runs<'a> {
    Itself { runtime: &'a str, device: Option<&'a str>, execution: &'a Execution },
    EmulatedSince { reason: &'a str, lowering_version: u32 },
}

/// Everything in a key but the profile.
pub(super) struct Given<'a> {
    pub graphs: &'a BTreeMap<&'a str, &'a GraphDigest>,
    pub inputs: &'a BTreeMap<String, BTreeMap<String, Sha256>>,
    pub demands: &'a Demands,
    pub labelled: Option<&'a Labelled>,
    pub reference_runtime: &'a str,
}

/// Returns the key of a profile that is run in this way, or emulated for this reason.
pub(super) fn key(profile: &ProfileId, way: Result<&Way, &str>, given: &Given<'_>) -> Option<Sha256> {
    let Given { graphs, inputs, demands, labelled, reference_runtime } = given;
    canonical::digest(&ValidationKey {
        schema: SCHEMA,
        nimctl: env!("CARGO_PKG_VERSION"),
        profile,
        graphs: (*graphs).clone(),
        inputs,
        demands: format!("{demands:?}"),
        labelled: format!("{labelled:?}"),
        reference_runtime,
        runs: match way {
            Ok(Way { command: _, execution, runtime, device }) => Runs::Itself {
                runtime,
                device: device.as_ref().map(|device| device.name.as_str()),
                execution,
            },
            Err(reason) => Runs::EmulatedSince { reason, lowering_version: LOWERING_VERSION },
        },
    })
    .ok()
}

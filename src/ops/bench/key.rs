//! The bench key: everything that decides what a measurement is of. Two of equal keys measured the same thing in the same way
//! on the same kind of machine; what they found still differs, as two measurements do.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::rounds::Inputs;
use crate::benchmark::{Machine, Settings};
use crate::canonical;
use crate::digest::Sha256;
use crate::ops::run_identity::RunIdentity;
use crate::ops::runners::Way;
use crate::profile::ProfileId;

/// The schema of the key, with the version of the summary of samples.
const SCHEMA: &str = "nimctl.bench-key/2";

#[derive(Serialize)]
struct BenchKey<'a> {
    schema: &'static str,
    nimctl: &'static str,
    /// Names every byte of the profile.
    profile: &'a ProfileId,
    cases: &'a BTreeMap<String, Sha256>,
    streams: &'a [u32],
    /// Has no float: one would need an exact text form.
    settings: &'a Settings,
    runs: RunIdentity,
    cpu: Option<&'a str>,
    logical_cores: u64,
}

/// Returns the digest of every input, by graph, batch and name.
pub(super) fn digests(cases: &[Inputs]) -> io::Result<BTreeMap<String, Sha256>> {
    let mut digests = BTreeMap::new();
    for Inputs { graph, batch, files } in cases {
        for (input, path) in files {
            let (digest, _) = Sha256::of_file(path)?;
            digests.insert(format!("{graph}/{batch}/{input}"), digest);
        }
    }
    Ok(digests)
}

/// Returns the key of a profile that is measured in this way.
pub(super) fn key(
    profile: &ProfileId,
    way: &Way,
    cases: &BTreeMap<String, Sha256>,
    streams: &[u32],
    settings: &Settings,
    machine: &Machine,
) -> Option<Sha256> {
    // How busy the machine was, and what it has beside, decides nothing of what was measured.
    let Machine { cpu, logical_cores, governor: _, load_average_1_min: _, memory_bytes: _ } = machine;
    canonical::digest(&BenchKey {
        schema: SCHEMA,
        nimctl: env!("CARGO_PKG_VERSION"),
        profile,
        cases,
        streams,
        settings,
        runs: RunIdentity::of(way),
        cpu: cpu.as_deref(),
        logical_cores: *logical_cores as u64,
    })
    .ok()
}

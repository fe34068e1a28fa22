//! A fleet file for a cluster, from what its engine says of its nodes. What it doesn't say is left to the reader, in comments.

mod kubernetes;
mod slurm;

use std::collections::BTreeSet;

pub use kubernetes::{GpuNode, KubernetesSite, propose_kubernetes};
pub use slurm::{NodeLine, propose_slurm};

use super::FLEET_SCHEMA;
use crate::backend::{Backend, Builds};
use crate::gpu::Gpu;

/// Returns how a proposal begins.
fn begin(from: &str) -> String {
    format!("# Proposed from {from}: docs/fleet.md.\nschema: {FLEET_SCHEMA}\nexecutors:\n")
}

/// Returns the backends that build for all of some GPUs.
fn backends(gpus: &[&Gpu]) -> Vec<String> {
    let (ahead, on_device) = (Backend::ahead_of_time(), Backend::on_the_device());
    let builds_ahead = |gpu: &&Gpu| match ahead.facts().builds {
        Builds::AheadOfTime(capabilities) => capabilities.contains(&gpu.compute_capability),
        _ => false,
    };
    let mut names = vec![on_device.name().to_owned()];
    if !gpus.is_empty() && gpus.iter().all(builds_ahead) {
        names.insert(0, ahead.name().to_owned());
    }
    names
}

/// Returns a name for an executor that no other has.
fn free_name(names: &mut BTreeSet<String>, kind: &str, more: Option<&str>) -> String {
    let plain = |text: &str| {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        text.chars().map(plain).collect::<String>()
    };
    let mut wishes = vec![plain(kind)];
    wishes.extend(more.map(|more| format!("{}-{}", plain(kind), plain(more))));
    let last = wishes.last().cloned().unwrap_or_default();
    let numbered = (2..).map(|number| format!("{last}-{number}"));
    let found = wishes.into_iter().chain(numbered).find(|name| !names.contains(name)).unwrap_or_default();
    names.insert(found.clone());
    found
}

/// Returns a word as YAML reads it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

//! Which profile of a manifest runs on a host, and why the others don't.
//!
//! The rules, in this order:
//!
//! 1. A pin ([`find_pinned`]) names one profile. The answer is that profile or an error, never another profile.
//! 2. A tag selector ([`TagSelector`]) excludes profiles with other tags.
//! 3. Each profile is checked against each kind of GPU in the host. A kind is a product, or a MIG profile of a product.
//!    A profile fits or has one [`Rejection`]: the first rule that it breaks, in the order of that enum.
//! 4. Profiles that fit are ordered ([`Reason`]): by how closely they name the GPU (PCI id, product, compute capability,
//!    no GPU); then ready before built at the start, and plans for an unknown GPU last; then TensorRT, TensorRT-RTX, others, ONNX; then validated before not validated; then the lower precision
//!    among validated profiles, the higher precision among the rest; then latency before throughput, the higher `tp` and
//!    the larger batch; then the id, so that the order in the manifest never matters. A profile with LoRA is chosen only
//!    on request ([`Lora`]).
//!
//! The first profile is the answer for that kind of GPU; a host with several kinds has several answers. Nothing here
//! reads the disk or asks the driver: sizes, plan headers and validation results come as [`Facts`].
//!
//! What tags mean: `gpu` names a product or a family of products (`l4`, `H100`), `gpu_device` a PCI id;
//! `compute_capability` lists one or more; `product_name_regex` is matched anywhere in the driver's product name, with
//! `-` for spaces; and `tp` × `pp` GPUs of one kind are needed. A profile without the first four is generic. If `gpu`
//! and `gpu_device` name different products, `gpu` wins: some published manifests give the PCI id of a related product.

mod fit;
mod order;
mod pin;
mod rejection;
mod tag_meaning;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compute_capability::ComputeCapability;
use crate::device::{Host, Slot};
use crate::manifest::{ManifestProfile, is_set};
use crate::profile::TagSelector;

pub use fit::is_in_use;
pub use order::Reason;
pub use pin::{PinError, find_pinned};
pub use rejection::Rejection;
pub use tag_meaning::{SelectorProblem, selector_problems};

/// What is known about a profile besides its tags, from what was built or fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Size of its files, in bytes: it needs at least that much memory.
    pub files_size_bytes: Option<u64>,
    /// The compute capabilities that its plan has code for, from the plan's header.
    pub plan_capabilities: Option<Vec<ComputeCapability>>,
    /// Whether it passed validation; `None` if it was not validated.
    pub validated: Option<bool>,
}

/// What becomes of profiles that serve LoRA adapters (`feat_lora: true`), as in NIM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lora {
    /// They are not chosen.
    #[default]
    Excluded,
    /// They are as good as others: the user names a profile or its tags, or wants a list.
    Allowed,
    /// They rank first: the user has adapters.
    Preferred,
}

/// How closely a profile names a GPU; the closest sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// By its PCI id.
    PciId,
    /// By its product.
    Product,
    /// By its compute capability.
    ComputeCapability,
    /// Not at all.
    Generic,
}

/// The result of checking a profile against one kind of GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits.
    Fits {
        /// How closely it names the GPU.
        rank: Rank,
        /// What could not be checked, or is worth knowing.
        notes: Vec<String>,
    },
    /// It fits the GPU, but too little memory is free now.
    ShortOfMemory {
        /// How closely it names the GPU.
        rank: Rank,
        /// Why it can't run now.
        message: String,
    },
    /// It doesn't fit.
    Rejected(Rejection),
}

/// GPUs or MIG instances of one kind; an empty group is a host without a GPU.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The GPUs or instances.
    pub slots: Vec<Slot<'a>>,
}

/// The answer for one kind of GPU.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The GPUs that the answer is for.
    pub group: Group<'a>,
    /// Profiles that fit, best first: index in the list of profiles, rank and notes.
    pub fitting: Vec<(usize, Rank, Vec<String>)>,
    /// Profiles that fit, but too little memory is free now; best first.
    pub short_of_memory: Vec<(usize, String)>,
    /// Profiles that don't fit, in the order of the list.
    pub rejected: Vec<(usize, Rejection)>,
}

impl Answer<'_> {
    /// Returns the index of the profile to run, if one fits.
    pub fn chosen(&self) -> Option<usize> {
        self.fitting.first().map(|(place, _, _)| *place)
    }
}

impl<'a> Group<'a> {
    /// Returns the name of the kind: product name and MIG profile, or `no GPU`.
    pub fn name(&self) -> String {
        self.slots.first().map_or_else(|| "no GPU".into(), ToString::to_string)
    }

    /// Groups the slots of a host by kind, in the order of each kind's first slot.
    pub fn of_host(host: &'a Host) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for slot in host.slots() {
            match groups.iter_mut().find(|group| same_kind(&group.slots[0], &slot)) {
                Some(group) => group.slots.push(slot),
                None => groups.push(Self { slots: vec![slot] }),
            }
        }
        if groups.is_empty() {
            groups.push(Self { slots: Vec::new() });
        }
        groups
    }
}

/// Two GPUs are of the same kind if product, PCI id, memory and MIG profile are equal.
fn same_kind(a: &Slot<'_>, b: &Slot<'_>) -> bool {
    let profile = |slot: &Slot<'_>| slot.instance.map(|instance| instance.profile.clone());
    a.device.product_name == b.device.product_name
        && a.device.pci_id == b.device.pci_id
        && a.memory_total_bytes() == b.memory_total_bytes()
        && profile(a) == profile(b)
}

/// Checks profiles against a host: one answer for each kind of GPU, at least one.
///
/// `facts` are keyed by profile id; a profile without facts is judged by its tags alone.
pub fn select<'a>(
    profiles: &[ManifestProfile],
    facts: &BTreeMap<String, Facts>,
    selector: &TagSelector,
    lora: Lora,
    host: &'a Host,
) -> Vec<Answer<'a>> {
    let nothing = Facts::default();
    let facts_of = |profile: &ManifestProfile| facts.get(&profile.id).unwrap_or(&nothing);
    let requirements: Vec<_> = profiles.iter().map(|profile| tag_meaning::of_tags(&profile.tags)).collect();
    let answer = |group: Group<'a>| {
        let mut answer =
            Answer { group, fitting: Vec::new(), short_of_memory: Vec::new(), rejected: Vec::new() };
        let mut short = Vec::new();
        for (place, (profile, requirement)) in profiles.iter().zip(&requirements).enumerate() {
            let verdict = match selector.mismatch(&profile.tags) {
                Some((key, wanted)) => Verdict::Rejected(Rejection::of_tag(key, wanted, &profile.tags)),
                None if lora == Lora::Excluded && is_set(&profile.tags, "feat_lora") => {
                    Verdict::Rejected(Rejection::LoraNotRequested)
                }
                None => fit::verdict(requirement, facts_of(profile), &answer.group, host),
            };
            match verdict {
                Verdict::Fits { rank, notes } => answer.fitting.push((place, rank, notes)),
                Verdict::ShortOfMemory { rank, message } => short.push((place, rank, message)),
                Verdict::Rejected(rejection) => answer.rejected.push((place, rejection)),
            }
        }
        let key =
            |place: usize, rank: Rank| order::key(&profiles[place], facts_of(&profiles[place]), rank, lora);
        answer.fitting.sort_by_cached_key(|(place, rank, _)| key(*place, *rank));
        short.sort_by_cached_key(|(place, rank, _)| key(*place, *rank));
        answer.short_of_memory = short.into_iter().map(|(place, _, message)| (place, message)).collect();
        answer
    };
    Group::of_host(host).into_iter().map(answer).collect()
}

/// Returns why one fitting profile ranks before another: the first rule in which they differ.
pub fn reason(
    lora: Lora,
    (first, first_facts, first_rank): (&ManifestProfile, &Facts, Rank),
    (second, second_facts, second_rank): (&ManifestProfile, &Facts, Rank),
) -> Reason {
    order::reason(
        &order::key(first, first_facts, first_rank, lora),
        &order::key(second, second_facts, second_rank, lora),
    )
}

#[cfg(test)]
mod tests;

//! Which profile of a manifest runs on a host, and why each other one doesn't.
//!
//! The rules, in this order:
//!
//! 1. A pin ([`find_pinned`]) names one profile. It is that one or an error, never another.
//! 2. A tag selector ([`TagSelector`]) leaves out profiles with other tags.
//! 3. Each profile is held against each kind of GPU in the host. A kind is a product, or a MIG profile of one. A profile
//!    fits or has one [`Rejection`]: the first rule it breaks, in the order of that type.
//! 4. Those that fit are ordered ([`Reason`]): by how closely they name the GPU (PCI id, product, compute capability,
//!    nothing); then TensorRT, TensorRT-RTX, others, ONNX; then those that passed their validation; among these the lower
//!    precision, among those that nobody validated the higher one; then the larger batch; then the id, so that the order
//!    of the manifest never matters.
//!
//! The first is the answer for that kind of GPU; a host with several kinds has several answers. Nothing here reads a
//! disk or a driver: sizes, plan headers and validation come as [`Facts`].
//!
//! What tags mean: `gpu` names a product or a family of products (`l4`, `H100`), `gpu_device` a PCI id,
//! `compute_capability` one or several, `product_name_regex` is searched in the driver's name of the product with `-` for
//! spaces, and `tp` times `pp` GPUs of one kind are needed. A profile with none of the first four is generic. If `gpu`
//! and `gpu_device` name different products, `gpu` counts: manifests are known that give the PCI id of a sibling.

mod fit;
mod order;
mod pin;
mod rejection;
mod tag_meaning;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compute_capability::ComputeCapability;
use crate::device::{Host, Slot};
use crate::manifest::ManifestProfile;
use crate::profile::TagSelector;

pub use fit::is_in_use;
pub use order::Reason;
pub use pin::{PinError, find_pinned};
pub use rejection::Rejection;
pub use tag_meaning::{SelectorProblem, selector_problems};

/// What is known of a profile beside its tags, from what was built or fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Size of its files, in bytes: it needs at least that much memory.
    pub files_size_bytes: Option<u64>,
    /// What its plan has code for, as the plan's header says.
    pub plan_capabilities: Option<Vec<ComputeCapability>>,
    /// Whether it passed its validation; nothing if nobody validated it.
    pub validated: Option<bool>,
}

/// How closely a profile names a GPU; closer is less.
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

/// How a profile does on one kind of GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits.
    Fits {
        /// How closely it names the GPU.
        rank: Rank,
        /// What could not be checked, or is worth knowing.
        notes: Vec<String>,
    },
    /// It fits the GPU, and others use the memory just now.
    ShortOfMemory {
        /// How closely it names the GPU.
        rank: Rank,
        /// What is short.
        message: String,
    },
    /// It doesn't fit.
    Rejected(Rejection),
}

/// GPUs or MIG instances of one kind; none stands for a host without a GPU.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// The GPUs or instances.
    pub slots: Vec<Slot<'a>>,
}

/// The answer for one kind of GPU.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The GPUs that it is for.
    pub group: Group<'a>,
    /// Profiles that fit, the best one first: place in the list of profiles, and how it fits.
    pub fitting: Vec<(usize, Rank, Vec<String>)>,
    /// Profiles that fit but for memory that others use just now, the best one first.
    pub short_of_memory: Vec<(usize, String)>,
    /// Profiles that don't fit, in the order of the list.
    pub rejected: Vec<(usize, Rejection)>,
}

impl Answer<'_> {
    /// Returns the place of the profile to run, if one fits.
    pub fn chosen(&self) -> Option<usize> {
        self.fitting.first().map(|(place, _, _)| *place)
    }
}

impl<'a> Group<'a> {
    /// Returns what the kind is called: the product's name and its MIG profile, or `no GPU`.
    pub fn name(&self) -> String {
        self.slots.first().map_or_else(|| "no GPU".into(), ToString::to_string)
    }

    /// Sorts the slots of a host into kinds, in the order of their first slot.
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

/// Two GPUs are of one kind if product, PCI id, memory and MIG profile are the same.
fn same_kind(a: &Slot<'_>, b: &Slot<'_>) -> bool {
    let profile = |slot: &Slot<'_>| slot.instance.map(|instance| instance.profile.clone());
    a.device.product_name == b.device.product_name
        && a.device.pci_id == b.device.pci_id
        && a.memory_total_bytes() == b.memory_total_bytes()
        && profile(a) == profile(b)
}

/// Holds profiles against a host: one answer for each kind of GPU, at least one.
///
/// `facts` are by profile id; a profile without any is judged by its tags alone.
pub fn select<'a>(
    profiles: &[ManifestProfile],
    facts: &BTreeMap<String, Facts>,
    selector: &TagSelector,
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
                None => fit::verdict(requirement, facts_of(profile), &answer.group, host),
            };
            match verdict {
                Verdict::Fits { rank, notes } => answer.fitting.push((place, rank, notes)),
                Verdict::ShortOfMemory { rank, message } => short.push((place, rank, message)),
                Verdict::Rejected(rejection) => answer.rejected.push((place, rejection)),
            }
        }
        let key = |place: usize, rank: Rank| order::key(&profiles[place], facts_of(&profiles[place]), rank);
        answer.fitting.sort_by_cached_key(|(place, rank, _)| key(*place, *rank));
        short.sort_by_cached_key(|(place, rank, _)| key(*place, *rank));
        answer.short_of_memory = short.into_iter().map(|(place, _, message)| (place, message)).collect();
        answer
    };
    Group::of_host(host).into_iter().map(answer).collect()
}

/// Says why one fitting profile stands before another: the first rule that tells them apart.
pub fn reason(
    (first, first_facts, first_rank): (&ManifestProfile, &Facts, Rank),
    (second, second_facts, second_rank): (&ManifestProfile, &Facts, Rank),
) -> Reason {
    order::reason(&order::key(first, first_facts, first_rank), &order::key(second, second_facts, second_rank))
}

#[cfg(test)]
mod tests;

//! One profile against one kind of GPU.

use super::rejection::gibibytes;
use super::tag_meaning::Requirement;
use super::{Facts, Group, Rank, Rejection, Verdict};
use crate::backend::{self, Builds};
use crate::device::{Device, Host, Slot};
use crate::gpu::{self, Gpu};

/// A GPU is in use if compute programs hold more than this share of its memory. A desktop doesn't count.
const MAX_SHARE_IN_USE: f64 = 0.1;

/// Returns whether compute programs use a GPU: they hold more than a tenth of its memory.
pub fn is_in_use(slot: &Slot<'_>) -> bool {
    let total = slot.device.memory_total_bytes.unwrap_or(u64::MAX);
    slot.instance.is_none() && slot.device.compute_memory_bytes() as f64 > total as f64 * MAX_SHARE_IN_USE
}

pub(super) fn verdict(
    requirement: &Requirement<'_>,
    facts: &Facts,
    group: &Group<'_>,
    host: &Host,
) -> Verdict {
    match try_fit(requirement, facts, group, host) {
        Ok(verdict) => verdict,
        Err(rejection) => Verdict::Rejected(rejection),
    }
}

fn try_fit(
    requirement: &Requirement<'_>,
    facts: &Facts,
    group: &Group<'_>,
    host: &Host,
) -> Result<Verdict, Rejection> {
    let gpus = match &requirement.gpus {
        Ok(gpus) => *gpus,
        Err(text) => return Err(Rejection::UnreadableTag(format!("tag {text} is not a number of GPUs"))),
    };
    let runs_anywhere = requirement.runtime.builds == Builds::Nothing && requirement.is_generic();
    let Some(slot) = group.slots.first() else {
        if !runs_anywhere {
            return Err(Rejection::NoGpu);
        }
        if gpus > 1 {
            return Err(Rejection::TooFewGpus { wanted: gpus, is: 0 });
        }
        validated(facts)?;
        return Ok(Verdict::Fits { rank: Rank::Generic, notes: Vec::new() });
    };
    let mut rank = Rank::Generic;
    let mut notes = Vec::new();
    if let Some(found) = product(requirement, slot)? {
        rank = found;
    }
    if let Some(found) = capability(requirement, facts, slot)? {
        rank = rank.min(found);
    }
    let is_tuned = requirement.runtime.builds == Builds::OnTheDevice && !requirement.is_built_at_start;
    if slot.instance.is_some() && is_tuned {
        return Err(Rejection::TunedForWholeGpu);
    }
    // CUDA shows a program one MIG instance at a time.
    let usable = if slot.instance.is_some() { 1 } else { group.slots.len() };
    if usable < gpus as usize {
        return Err(Rejection::TooFewGpus { wanted: gpus, is: usable });
    }
    driver(requirement, host)?;
    let short = if runs_anywhere { None } else { memory(facts, gpus, group, &mut notes)? };
    validated(facts)?;
    if is_tuned && rank <= Rank::Product && gpu::is_virtual_name(&slot.device.product_name) {
        notes.push(
            "a vGPU with all of the GPU's memory: plans that were tuned on the GPU itself run on it".into(),
        );
    }
    if requirement.is_for_unknown_gpu() {
        notes.push("its tags don't say which GPU its plan was built on".into());
    }
    if requirement.is_built_at_start {
        notes.push("its engine is built when the container first starts, which can take an hour".into());
    }
    Ok(match short {
        Some(message) => Verdict::ShortOfMemory { rank, message },
        None => Verdict::Fits { rank, notes },
    })
}

/// Checks the tags that name products: `gpu`, `gpu_device` and `product_name_regex`.
fn product(requirement: &Requirement<'_>, slot: &Slot<'_>) -> Result<Option<Rank>, Rejection> {
    let device = slot.device;
    let unknown = || {
        let kind = if gpu::is_virtual_name(&device.product_name) { "a vGPU, " } else { "" };
        format!("{kind}{}", device.product_name)
    };
    let is = || device.known_as.clone().unwrap_or_else(unknown);
    let mut rank = None;
    if let Some((name, named)) = &requirement.gpu {
        let by_list = is_one_of(device, named, requirement.runtime);
        let by_name = named.is_empty() && gpu::same_name(name, &device.product_name);
        if !by_list && !by_name {
            return Err(Rejection::OtherGpu { wanted: (*name).into(), is: is() });
        }
        rank = Some(Rank::Product);
    }
    if let Some(pci_id) = &requirement.pci_id {
        if device.pci_id.as_ref().is_some_and(|id| gpu::full_pci_id(id) == *pci_id) {
            rank = Some(Rank::PciId);
        } else {
            // Another id of the same product: an A100 with less memory, say.
            let product = gpu::by_pci_id(pci_id);
            if product.is_none_or(|product| Some(&product.name) != device.known_as.as_ref()) {
                let wanted = product.map_or_else(String::new, |product| format!(" ({})", product.name));
                return Err(Rejection::OtherGpu { wanted: format!("PCI id {pci_id}{wanted}"), is: is() });
            }
            rank = Some(Rank::Product);
        }
    }
    if let Some((pattern, regex)) = &requirement.product_name_regex {
        let unreadable = |problem: String| {
            Rejection::UnreadableTag(format!("tag product_name_regex={pattern} can't be used: {problem}"))
        };
        let regex = regex.as_ref().map_err(|problem| unreadable(problem.clone()))?;
        let names = names_to_match(device, requirement.runtime);
        let mut matches = false;
        for name in &names {
            matches |= regex.is_match(name).map_err(|error| unreadable(error.to_string()))?;
        }
        if !matches {
            let name = gpu::node_label(&device.product_name);
            return Err(Rejection::ProductPattern { pattern: (*pattern).into(), name });
        }
        rank = rank.or(Some(Rank::Product));
    }
    Ok(rank)
}

/// Returns whether a GPU is one of these products. A GPU whose driver says only its family is each product of that family.
fn is_one_of(device: &Device, products: &[&Gpu], runtime: &backend::Facts) -> bool {
    let is_listed = |name: &String| products.iter().any(|gpu| gpu.name == *name);
    if let Some(name) = &device.known_as {
        return is_listed(name);
    }
    if let Some(physical) = physical(device, runtime) {
        return is_listed(&physical.name);
    }
    let family = gpu::named(&device.product_name);
    !family.is_empty() && family.iter().all(|gpu| is_listed(&gpu.name))
}

/// Returns the physical GPU whose plans run on a vGPU: any, if they depend on the compute capability only; the one that it is all
/// of, if they were tuned.
fn physical(device: &Device, runtime: &backend::Facts) -> Option<&'static Gpu> {
    let name = &device.product_name;
    let pci_id = device.pci_id.as_deref().filter(|_| gpu::is_virtual_name(name))?;
    match runtime.builds {
        Builds::AheadOfTime(_) => gpu::by_pci_id(pci_id),
        Builds::OnTheDevice => gpu::whole_of_virtual(name, pci_id),
        Builds::Nothing | Builds::AsItsWorkerSays => None,
    }
}

/// Returns the names that a pattern for products may match: the GPU's own and, where that isn't one of the names of the product
/// that it is known as, or that it is a part of, the product's.
fn names_to_match(device: &Device, runtime: &backend::Facts) -> Vec<String> {
    let mut names = vec![gpu::node_label(&device.product_name)];
    let product = device.known().or_else(|| physical(device, runtime));
    names.extend(
        product.map(Gpu::node_labels).filter(|labels| !labels.contains(&names[0])).unwrap_or_default(),
    );
    names
}

/// Checks the compute capabilities in the tags and in the plan's header.
fn capability(
    requirement: &Requirement<'_>,
    facts: &Facts,
    slot: &Slot<'_>,
) -> Result<Option<Rank>, Rejection> {
    let tagged = match &requirement.compute_capabilities {
        Some(Err(text)) => {
            let message = format!(
                "tag compute_capability={text} can't be read: expected values such as 8.9, joined by +"
            );
            return Err(Rejection::UnreadableTag(message));
        }
        Some(Ok(list)) => Some(list),
        None => None,
    };
    for list in tagged.into_iter().chain(&facts.plan_capabilities) {
        let is = slot.device.compute_capability.ok_or(Rejection::UnknownComputeCapability)?;
        let from = requirement.runtime.runs_on_later_from;
        let last = list.iter().max().copied().filter(|last| from.is_some_and(|from| *last >= from));
        if !list.contains(&is) && last.is_none_or(|last| is < last) {
            return Err(Rejection::ComputeCapability { wanted: list.clone(), and_later: last.is_some(), is });
        }
    }
    if let Some(from) = requirement.from_capability {
        let is = slot.device.compute_capability.ok_or(Rejection::UnknownComputeCapability)?;
        if is < from {
            return Err(Rejection::ComputeCapability { wanted: vec![from], and_later: true, is });
        }
    }
    Ok((tagged.is_some() || requirement.from_capability.is_some()).then_some(Rank::ComputeCapability))
}

/// Checks that the driver supports the CUDA that the tags name, else the one that the backend's library was built with.
fn driver(requirement: &Requirement<'_>, host: &Host) -> Result<(), Rejection> {
    let by_library = || requirement.runtime.cuda_major.for_library(requirement.trt_major);
    let Some(wanted_cuda_major) = requirement.cuda_major.or_else(by_library) else {
        return Ok(());
    };
    let Some(is) = &host.cuda_version else { return Ok(()) };
    match is.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major < wanted_cuda_major => {
            Err(Rejection::Driver { wanted_cuda_major, is: is.clone() })
        }
        _ => Ok(()),
    }
}

/// Checks the needed memory against the GPU's total, then against its free memory; returns a message if only free
/// memory is short.
fn memory(
    facts: &Facts,
    gpus: u32,
    group: &Group<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<String>, Rejection> {
    let Some(slot) = group.slots.first() else { return Ok(None) };
    if slot.device.unified_memory {
        notes.push("CPU and GPU share their memory, so its size was not checked".into());
        return Ok(None);
    }
    let gpus = gpus as usize;
    let Some(files_size_bytes) = facts.files_size_bytes else {
        let idle = group.slots.iter().filter(|slot| !is_in_use(slot)).count();
        return Ok((idle < gpus).then(|| {
            format!(
                "compute programs use {} of {} GPUs of this kind",
                group.slots.len() - idle,
                group.slots.len()
            )
        }));
    };
    let wanted_bytes = files_size_bytes / gpus as u64;
    if let Some(is_bytes) = slot.memory_total_bytes().filter(|total| *total < wanted_bytes) {
        return Err(Rejection::Memory { wanted_bytes, is_bytes });
    }
    let mut free: Vec<u64> =
        group.slots.iter().map(|slot| slot.memory_free_bytes().unwrap_or(u64::MAX)).collect();
    free.sort_unstable_by(|a, b| b.cmp(a));
    Ok(free.get(gpus - 1).filter(|free| **free < wanted_bytes).map(|free| {
        format!("its files alone take {}, and only {} is free", gibibytes(wanted_bytes), gibibytes(*free))
    }))
}

fn validated(facts: &Facts) -> Result<(), Rejection> {
    if facts.validated == Some(false) { Err(Rejection::FailedValidation) } else { Ok(()) }
}

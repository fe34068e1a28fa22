//! The facts of one GPU.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::GpuVirtualizationMode;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::answers::{Answers, Weight};
use crate::compute_capability::ComputeCapability;
use crate::device::{Device, GpuProcess, MigInstance, ProcessKind};
use crate::gpu::{Gpu, identified, is_virtual_name, named};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Max bytes of a program's name.
const MAX_NAME_BYTES: usize = 1024;

type Handle<'a> = nvml_wrapper::Device<'a>;

/// Asks for everything, one fact at a time.
pub(super) fn ask(nvml: &Nvml, handle: &Handle<'_>, index: u32) -> Device {
    let mut answers = Answers::default();
    let asked = &mut answers;
    let name = asked.ask("name", Weight::Needed, || handle.name());
    // GPUs on a board with the CPU have no PCI address.
    let pci = asked.ask("PCI address", Weight::Optional, || handle.pci_info());
    let uuid = asked.ask("uuid", Weight::Optional, || handle.uuid());
    let compute_capability =
        asked.ask("compute capability", Weight::Needed, || handle.cuda_compute_capability()).and_then(
            |found| Some(ComputeCapability::new(found.major.try_into().ok()?, found.minor.try_into().ok()?)),
        );
    let mode = asked.ask("virtualization", Weight::Slight, || handle.virtualization_mode());
    let is_virtual =
        mode == Some(GpuVirtualizationMode::Vgpu) || name.as_deref().is_some_and(is_virtual_name);
    let pci_id = pci.as_ref().map(|pci| pci_id(pci.pci_device_id));
    let known = known(name.as_deref(), pci_id.as_deref(), is_virtual);
    // A Jetson's driver names the family only.
    let family = || name.as_deref().map(named).unwrap_or_default();
    let candidates = known.map_or_else(family, |known| vec![known]);
    let unified_memory = !candidates.is_empty() && candidates.iter().all(|gpu| gpu.unified_memory);
    let weight = if unified_memory { Weight::Optional } else { Weight::Needed };
    let memory = asked.ask("memory", weight, || handle.memory_info());
    let utilization = asked.ask("utilization", Weight::Optional, || handle.utilization_rates());
    let ecc = asked.ask("ECC", Weight::Optional, || handle.is_ecc_enabled());
    // Not `is_display_connected`, which is true for GPUs without any connector.
    let display_active = asked.ask("display", Weight::Optional, || handle.is_display_active());
    let mig_mode = asked.ask("MIG mode", Weight::Optional, || handle.mig_mode());
    let mig_enabled = mig_mode.map(|mode| mode.current == 1);
    let mig_instances = if mig_enabled == Some(true) { instances(handle, asked) } else { Vec::new() };
    let processes = processes(nvml, handle, asked);
    let data_sheet = known.filter(|_| unified_memory).map(|known| u64::from(known.memory_gib) * GIB);
    let product_name =
        name.as_deref().or(known.and_then(|known| known.product_names.first()?.as_str().into()));
    Device {
        uuid,
        known_as: known.map(|known| known.name.clone()),
        pci_id,
        pci_address: pci.map(|pci| pci.bus_id),
        compute_capability,
        memory_total_bytes: memory.as_ref().map(|memory| memory.total).or(data_sheet),
        memory_free_bytes: memory.map(|memory| memory.free),
        unified_memory,
        utilization_percent: utilization.map(|utilization| utilization.gpu),
        ecc_enabled: ecc.map(|ecc| ecc.currently_enabled),
        display_active,
        mig_enabled,
        mig_instances,
        processes,
        problems: answers.into_problems(),
        ..Device::new(index, product_name.unwrap_or("unknown"))
    }
}

/// Writes NVML's number, the device in the high half and the vendor in the low one, as `device:vendor`.
fn pci_id(both: u32) -> String {
    format!("{:04x}:{:04x}", both >> 16, both & 0xffff)
}

/// Finds the GPU in the list of known GPUs.
fn known(name: Option<&str>, pci_id: Option<&str>, is_virtual: bool) -> Option<&'static Gpu> {
    identified(name, pci_id).filter(|_| !is_virtual)
}

fn instances(handle: &Handle<'_>, asked: &mut Answers) -> Vec<MigInstance> {
    let count = asked.ask("number of MIG instances", Weight::Needed, || handle.mig_device_count());
    let mut found = Vec::new();
    for index in 0..count.unwrap_or_default() {
        // NVML counts all possible places; most are empty.
        let place = asked.ask("MIG instances", Weight::Needed, || match handle.mig_device_by_index(index) {
            Err(NvmlError::NotFound) => Ok(None),
            place => place.map(Some),
        });
        let Some(instance) = place.flatten() else { continue };
        let name = asked.ask("names of MIG instances", Weight::Optional, || instance.name());
        let uuid = asked.ask("uuids of MIG instances", Weight::Optional, || instance.uuid());
        let memory = asked.ask("memory of MIG instances", Weight::Needed, || instance.memory_info());
        let attributes = match memory {
            Some(_) => None,
            None => asked.ask("attributes of MIG instances", Weight::Slight, || instance.attributes()),
        };
        let total = memory.as_ref().map(|memory| memory.total);
        found.push(MigInstance {
            index,
            uuid,
            profile: name.as_deref().and_then(mig_profile).map(Into::into),
            memory_total_bytes: total.or(attributes.map(|attributes| attributes.memory_size_mb * MIB)),
            memory_free_bytes: memory.map(|memory| memory.free),
            hidden_by: None,
        });
    }
    found
}

/// Reads the profile out of an instance's name, `NVIDIA A100-SXM4-80GB MIG 1g.10gb`.
fn mig_profile(name: &str) -> Option<&str> {
    let (_, profile) = name.rsplit_once(" MIG ")?;
    Some(profile.trim()).filter(|profile| !profile.is_empty())
}

fn processes(nvml: &Nvml, handle: &Handle<'_>, asked: &mut Answers) -> Vec<GpuProcess> {
    let computing = asked.ask("compute programs", Weight::Needed, || handle.running_compute_processes());
    let drawing = asked.ask("graphics programs", Weight::Optional, || handle.running_graphics_processes());
    let mut processes: Vec<GpuProcess> = Vec::new();
    let kinds = [(computing, ProcessKind::Compute), (drawing, ProcessKind::Graphics)];
    for (found, kind) in kinds.into_iter().filter_map(|(found, kind)| Some((found?, kind))) {
        for ProcessInfo { pid, used_gpu_memory, .. } in found {
            // A program that does both is listed twice, with the same memory.
            if kind == ProcessKind::Graphics && processes.iter().any(|known| known.pid == pid) {
                continue;
            }
            let name = nvml.sys_process_name(pid, MAX_NAME_BYTES).ok().filter(|name| !name.is_empty());
            let memory_bytes = match used_gpu_memory {
                UsedGpuMemory::Used(used) => Some(used),
                UsedGpuMemory::Unavailable => None,
            };
            processes.push(GpuProcess { pid, name, kind, memory_bytes });
        }
    }
    processes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        assert_eq!(pci_id(0x2330_10de), "2330:10de");
        assert_eq!(pci_id(0x0fb0_10de), "0fb0:10de");
    }

    #[test]
    fn parts_of_a_gpu_are_no_known_gpu() {
        for name in [
            "GRID A100-10C",
            "NVIDIA A100-40C",
            "NVIDIA A10-24Q",
            "GRID T4-1B4",
            "NVIDIA A100-1-5CME",
            "GRID P100X",
            "NVIDIA RTX5000-Ada-32Q",
        ] {
            assert!(is_virtual_name(name), "{name}");
        }
        for gpu in crate::gpu::known() {
            for name in &gpu.product_names {
                assert!(!is_virtual_name(name), "{name}");
                assert!(known(Some(name), None, true).is_none());
            }
        }
        assert!(!is_virtual_name("40C"));
        assert!(!is_virtual_name(""));
    }

    #[test]
    fn the_name_goes_before_the_id() {
        let name = |name, id| known(name, id, false).map(|known| known.name.as_str());
        assert_eq!(name(Some("a new name"), Some("2330:10de")), Some("h100-sxm"));
        assert_eq!(name(Some("NVIDIA L4"), Some("ffff:10de")), Some("l4"));
        // An id that several laptop GPUs have.
        let laptop = Some("NVIDIA GeForce RTX 3060 Laptop GPU");
        assert_eq!(name(laptop, Some("24a0:10de")), Some("rtx-3060-laptop"));
        assert_eq!(name(Some("NVIDIA A100-SXM4-80GB MIG 1g.10gb"), None), None);
        assert_eq!(name(None, None), None);
    }

    #[test]
    fn profiles_of_instances() {
        assert_eq!(mig_profile("NVIDIA A100-SXM4-80GB MIG 1g.10gb"), Some("1g.10gb"));
        assert_eq!(mig_profile("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb+me"), Some("1c.3g.40gb+me"));
        assert_eq!(mig_profile("NVIDIA A100-SXM4-80GB"), None);
    }
}

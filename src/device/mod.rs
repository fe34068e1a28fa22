//! The GPUs of a host (`nimctl.devices/1`): as a probe saw them (module `nvml`), as a user states them
//! ([`Host::stated`]), or from a file of an earlier probe.
//!
//! A probe asks for one fact at a time, and drivers refuse some facts in containers, on vGPUs and in MIG mode. So most
//! facts are optional, and `problems` lists what was refused.

mod file;
mod stated;
mod visible;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;
use crate::gpu::{self, Gpu};

pub use file::InvalidDeviceFile;
pub use stated::InvalidDevice;
pub use visible::VisibleDevices;

/// The schema name in a device file.
pub const DEVICES_SCHEMA: &str = "nimctl.devices/1";

/// What a desktop holds on its GPU at most, where the driver doesn't report it.
const MAX_DESKTOP_BYTES: u64 = 2 << 30;

/// A host and its GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// [`DEVICES_SCHEMA`].
    pub schema: String,
    /// Where the facts are from.
    pub origin: Origin,
    /// Version of the NVIDIA driver: `570.124.06`.
    #[serde(default)]
    pub driver_version: Option<String>,
    /// The newest CUDA that the driver supports: `12.8`.
    #[serde(default)]
    pub cuda_version: Option<String>,
    /// Version of the NVML library.
    #[serde(default)]
    pub nvml_version: Option<String>,
    /// The GPUs by index, including those hidden from programs.
    pub devices: Vec<Device>,
    /// Facts about the host that could not be read, and GPUs that could not be opened.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Where the facts about a host are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The driver reported them, through NVML.
    Nvml,
    /// The user stated them; free memory, driver and processes are unknown.
    Stated,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// Its place in NVML's order, which is the order of PCI addresses.
    pub index: u32,
    /// `GPU-…`.
    #[serde(default)]
    pub uuid: Option<String>,
    /// What the driver calls it: `NVIDIA H100 80GB HBM3`.
    pub product_name: String,
    /// Its name in the list of known GPUs: `h100-sxm`.
    #[serde(default)]
    pub known_as: Option<String>,
    /// PCI ids as `device:vendor`, in lower-case hexadecimal: `2330:10de`.
    #[serde(default)]
    pub pci_id: Option<String>,
    /// PCI address: `00000000:18:00.0`.
    #[serde(default)]
    pub pci_address: Option<String>,
    /// Its compute capability.
    #[serde(default)]
    pub compute_capability: Option<ComputeCapability>,
    /// Its total memory, in bytes.
    #[serde(default)]
    pub memory_total_bytes: Option<u64>,
    /// Its free memory, in bytes.
    #[serde(default)]
    pub memory_free_bytes: Option<u64>,
    /// Whether it shares its memory with the CPU.
    #[serde(default)]
    pub unified_memory: bool,
    /// How busy it was in the last sample period, in percent.
    #[serde(default)]
    pub utilization_percent: Option<u32>,
    /// Whether error correction is on.
    #[serde(default)]
    pub ecc_enabled: Option<bool>,
    /// Whether it keeps memory for a screen, as for a desktop.
    #[serde(default)]
    pub display_active: Option<bool>,
    /// Whether MIG mode is on; absent if the GPU doesn't support MIG.
    #[serde(default)]
    pub mig_enabled: Option<bool>,
    /// Its MIG instances.
    #[serde(default)]
    pub mig_instances: Vec<MigInstance>,
    /// Programs that have memory on it.
    #[serde(default)]
    pub processes: Vec<GpuProcess>,
    /// The variable that hides it from programs, if one does.
    #[serde(default)]
    pub hidden_by: Option<String>,
    /// Facts that could not be read.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// A part of a GPU that programs see as a separate GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigInstance {
    /// Its index on its GPU.
    pub index: u32,
    /// `MIG-…`.
    #[serde(default)]
    pub uuid: Option<String>,
    /// The profile's name: `1g.10gb`.
    #[serde(default)]
    pub profile: Option<String>,
    /// Its total memory, in bytes.
    #[serde(default)]
    pub memory_total_bytes: Option<u64>,
    /// Its free memory, in bytes.
    #[serde(default)]
    pub memory_free_bytes: Option<u64>,
    /// The variable that hides it from programs, if one does.
    #[serde(default)]
    pub hidden_by: Option<String>,
}

/// A program that has memory on a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuProcess {
    /// Its process id, as the driver sees it.
    pub pid: u32,
    /// The program's name, if the driver reports it.
    #[serde(default)]
    pub name: Option<String>,
    /// What it does there.
    pub kind: ProcessKind,
    /// Its memory there, in bytes; some hosts don't report it.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// What a program does on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessKind {
    /// It computes.
    Compute,
    /// It draws.
    Graphics,
}

/// A fact that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// Which fact, and why it could not be read.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub hint: Option<String>,
}

/// The kinds of problems of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// There is no NVIDIA GPU, which is not an error.
    NoGpu,
    /// A library of the driver is missing: no NVIDIA driver, or a container without access to it.
    NoLibrary,
    /// The library exists, but the driver doesn't answer.
    NoDriver,
    /// The library or the driver is too old for the query.
    TooOld,
    /// The user has no permission.
    NotPermitted,
    /// The GPU stopped answering.
    DeviceLost,
    /// This GPU or kind of host doesn't support the query.
    NotSupported,
    /// Something else.
    Other,
}

/// What a profile can run on: a whole GPU, or one MIG instance.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The GPU.
    pub device: &'a Device,
    /// The instance; `None` for the whole GPU.
    pub instance: Option<&'a MigInstance>,
}

impl Host {
    /// Makes a host with these GPUs.
    pub fn new(origin: Origin, devices: Vec<Device>) -> Self {
        Self {
            schema: DEVICES_SCHEMA.into(),
            origin,
            driver_version: None,
            cuda_version: None,
            nvml_version: None,
            devices,
            problems: Vec::new(),
        }
    }

    /// Returns what profiles can run on: GPUs and MIG instances that answer and that no variable hides.
    pub fn slots(&self) -> Vec<Slot<'_>> {
        let mut slots = Vec::new();
        for device in self.devices.iter().filter(|device| device.hidden_by.is_none() && !device.is_lost()) {
            if device.mig_enabled == Some(true) {
                let instances = device.mig_instances.iter().filter(|instance| instance.hidden_by.is_none());
                slots.extend(instances.map(|instance| Slot { device, instance: Some(instance) }));
            } else {
                slots.push(Slot { device, instance: None });
            }
        }
        slots
    }
}

impl Device {
    /// Makes a GPU from its index and product name, with its name in the list of known GPUs.
    pub fn new(index: u32, product_name: &str) -> Self {
        Self {
            index,
            uuid: None,
            product_name: product_name.into(),
            known_as: gpu::find(product_name).ok().map(|known| known.name.clone()),
            pci_id: None,
            pci_address: None,
            compute_capability: None,
            memory_total_bytes: None,
            memory_free_bytes: None,
            unified_memory: false,
            utilization_percent: None,
            ecc_enabled: None,
            display_active: None,
            mig_enabled: None,
            mig_instances: Vec::new(),
            processes: Vec::new(),
            hidden_by: None,
            problems: Vec::new(),
        }
    }

    /// Returns its entry in the list of known GPUs.
    pub fn known(&self) -> Option<&'static Gpu> {
        self.known_as.as_deref().and_then(gpu::by_name)
    }

    /// Returns whether it stopped answering.
    pub fn is_lost(&self) -> bool {
        self.problems.iter().any(|problem| problem.kind == ProblemKind::DeviceLost)
    }

    /// Returns the memory that compute programs hold on it, in bytes. A desktop doesn't count.
    ///
    /// Where the driver doesn't report programs, or not their memory (WSL, vGPUs, other containers' programs), it is what is
    /// not free, less the desktop's share.
    pub fn compute_memory_bytes(&self) -> u64 {
        let held_by = |kind: ProcessKind| -> u64 {
            let of_kind = self.processes.iter().filter(|process| process.kind == kind);
            of_kind.filter_map(|process| process.memory_bytes).sum()
        };
        let reported = held_by(ProcessKind::Compute);
        let is_known =
            !self.processes.is_empty() && self.processes.iter().all(|process| process.memory_bytes.is_some());
        if is_known {
            return reported;
        }
        let (Some(total), Some(free)) = (self.memory_total_bytes, self.memory_free_bytes) else {
            return reported;
        };
        let screen = if self.display_active == Some(true) { MAX_DESKTOP_BYTES } else { 0 };
        let desktop = held_by(ProcessKind::Graphics).max(screen);
        reported.max(total.saturating_sub(free).saturating_sub(desktop))
    }
}

impl Slot<'_> {
    /// Returns its total memory, in bytes.
    pub fn memory_total_bytes(&self) -> Option<u64> {
        self.instance.map_or(self.device.memory_total_bytes, |instance| instance.memory_total_bytes)
    }

    /// Returns its free memory, in bytes.
    pub fn memory_free_bytes(&self) -> Option<u64> {
        self.instance.map_or(self.device.memory_free_bytes, |instance| instance.memory_free_bytes)
    }
}

impl fmt::Display for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.device.product_name)?;
        match self.instance {
            Some(MigInstance { profile: Some(profile), .. }) => write!(f, " MIG {profile}"),
            Some(MigInstance { index, .. }) => write!(f, " MIG instance {index}"),
            None => Ok(()),
        }
    }
}

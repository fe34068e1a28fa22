//! Hosts that a user states: `h100-sxm`, `a100-sxm/1g.10gb`, `l40s:8`, `none`.

use super::{Device, Host, MigInstance, Origin};
use crate::gpu::{self, Gpu, UnknownGpu};

const GIB: u64 = 1 << 30;

/// An invalid statement.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDevice {
    /// No such GPU.
    #[error(transparent)]
    Unknown(#[from] UnknownGpu),
    /// A name of several GPUs.
    #[error("`{name}` names several GPUs: choose one of {}", .members.join(", "))]
    Family {
        /// What was asked for.
        name: String,
        /// The GPUs with that name.
        members: Vec<String>,
    },
    /// A virtual GPU.
    #[error(
        "`{0}` is a vGPU, a part of a GPU that its host shares: probe it there with `nimctl doctor --output json`, and give the result as --device-file"
    )]
    Virtual(String),
    /// An invalid number of GPUs.
    #[error("`{0}`: give the number of GPUs after `:`, from 1 to 64")]
    Count(String),
    /// An invalid MIG profile.
    #[error("`{0}`: give a MIG profile such as 1g.10gb after `/`")]
    Mig(String),
    /// `none` together with GPUs.
    #[error("`none` means a host without a GPU and can't be combined with other names")]
    None,
}

impl Host {
    /// Makes a host from statements: `NAME` or `NAME/MIG-PROFILE`, with `:COUNT` for several; `none` alone is a host without
    /// a GPU. Each MIG instance is on a GPU of its own.
    ///
    /// # Errors
    /// Unknown names, with the nearest known names; names of several GPUs, with these GPUs.
    pub fn stated<'a>(statements: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidDevice> {
        let statements: Vec<&str> = statements.into_iter().map(str::trim).collect();
        if statements == ["none"] {
            return Ok(Self::new(Origin::Stated, Vec::new()));
        }
        let mut devices = Vec::new();
        for statement in statements {
            if statement == "none" {
                return Err(InvalidDevice::None);
            }
            let (kind, count) = match statement.rsplit_once(':') {
                Some((kind, count)) => (kind, count.parse().unwrap_or(0)),
                None => (statement, 1_u32),
            };
            if !(1..=64).contains(&count) {
                return Err(InvalidDevice::Count(statement.into()));
            }
            let (name, mig) = parts(kind);
            let known = one(name)?;
            for _ in 0..count {
                let mut device = of_known(devices.len() as u32, known, name);
                if let Some(profile) = mig {
                    let instance = instance(profile).ok_or_else(|| InvalidDevice::Mig(statement.into()))?;
                    device.mig_enabled = Some(true);
                    device.mig_instances = vec![instance];
                }
                devices.push(device);
            }
        }
        Ok(Self::new(Origin::Stated, devices))
    }
}

/// Splits a GPU's name from its MIG profile: `a100-sxm/1g.10gb`; `NVIDIA A100-SXM4-80GB MIG 1g.10gb`, as nimctl and the driver
/// print it; and GPU feature discovery's labels `NVIDIA-A100-SXM4-80GB-MIG-1g.10gb` and `…-SHARED`.
fn parts(kind: &str) -> (&str, Option<&str>) {
    let kind = kind.strip_suffix("-SHARED").unwrap_or(kind);
    let separated = ["/", " MIG ", "-MIG-"].into_iter().find_map(|between| kind.split_once(between));
    separated.map_or((kind, None), |(name, mig)| (name, Some(mig)))
}

/// Returns the GPU with a name.
fn one(name: &str) -> Result<&'static Gpu, InvalidDevice> {
    let unknown = match gpu::find(name) {
        Ok(known) => return Ok(known),
        Err(unknown) => unknown,
    };
    match gpu::named(name).as_slice() {
        [] if gpu::is_virtual_name(name) => Err(InvalidDevice::Virtual(name.into())),
        [] => Err(unknown.into()),
        [known] => Ok(known),
        several => Err(InvalidDevice::Family {
            name: name.into(),
            members: several.iter().map(|gpu| gpu.name.clone()).collect(),
        }),
    }
}

/// Makes the GPU that was stated. A driver's name is kept, with its size and its PCI id, if these are known.
fn of_known(index: u32, known: &'static Gpu, stated: &str) -> Device {
    // `t4` is the product; `NVIDIA T4` is one of its names.
    let is_short = gpu::same_name(&known.name, stated) && !stated.to_lowercase().starts_with("nvidia");
    let named = known.product_names.iter().find(|name| !is_short && gpu::same_name(name, stated));
    let name = named.or(known.product_names.first()).unwrap_or(&known.name);
    let is_ambiguous = named.is_some() && known.product_names.len() > 1 && known.pci_ids.len() > 1;
    let any_id = known.pci_ids.first().filter(|_| !is_ambiguous);
    let size_gib = named.map_or(known.memory_gib, |name| known.size_of_name_gib(name));
    Device {
        known_as: Some(known.name.clone()),
        pci_id: named.and_then(|name| known.ids_of_names.get(name)).or(any_id).cloned(),
        compute_capability: Some(known.compute_capability),
        memory_total_bytes: Some(u64::from(size_gib) * GIB),
        unified_memory: known.unified_memory,
        ..Device::new(index, name)
    }
}

/// Reads a MIG profile's name: `1g.10gb`, `3g.40gb`, `1g.10gb+me`; a compute instance, `1c.3g.40gb`, shares the memory of its
/// GPU instance.
fn instance(profile: &str) -> Option<MigInstance> {
    let whole = match profile.split_once("c.") {
        Some((compute_slices, whole)) => compute_slices.parse::<u8>().ok().map(|_| whole)?,
        None => profile,
    };
    let (slices, memory) = whole.split_once("g.")?;
    let (memory_gb, attributes) = memory.split_once("gb")?;
    let plain =
        slices.parse::<u8>().is_ok() && (attributes.is_empty() || attributes.starts_with(['+', '-', '.']));
    let memory_gb: u64 = memory_gb.parse().ok().filter(|size| plain && (1..=1024).contains(size))?;
    Some(MigInstance {
        index: 0,
        uuid: None,
        profile: Some(profile.into()),
        memory_total_bytes: Some(memory_gb * GIB),
        memory_free_bytes: None,
        hidden_by: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements() {
        let host = Host::stated(["h100-sxm:2", "a100-sxm/1g.10gb", "L4"]).unwrap();
        let shown: Vec<String> = host.slots().iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "NVIDIA H100 80GB HBM3",
                "NVIDIA H100 80GB HBM3",
                "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
                "NVIDIA L4"
            ]
        );
        assert_eq!(host.slots()[2].memory_total_bytes(), Some(10 * GIB));
        assert!(Host::stated(["none"]).unwrap().slots().is_empty());
        // What nimctl prints and what nodes are labelled with is understood.
        for (statement, profile, size_gib) in [
            ("NVIDIA A100-SXM4-80GB MIG 2g.20gb", "2g.20gb", 20),
            ("NVIDIA-A100-SXM4-80GB-MIG-2g.20gb", "2g.20gb", 20),
            ("NVIDIA-A100-SXM4-80GB-MIG-2g.20gb-SHARED", "2g.20gb", 20),
            ("a100-sxm/1c.3g.40gb", "1c.3g.40gb", 40),
            ("a100-sxm/1g.24gb+me.all", "1g.24gb+me.all", 24),
            ("a100-sxm/1g.24gb-me", "1g.24gb-me", 24),
        ] {
            let host = Host::stated([statement]).unwrap();
            let instance = host.slots()[0].instance.unwrap();
            assert_eq!(instance.profile.as_deref(), Some(profile), "{statement}");
            assert_eq!(instance.memory_total_bytes, Some(size_gib * GIB), "{statement}");
        }
        // So are a name's size and PCI id.
        for (statement, id, size_gib) in [
            ("NVIDIA A100-SXM4-40GB", "20b0:10de", 40),
            ("NVIDIA A100-SXM4-80GB", "20b2:10de", 80),
            ("NVIDIA A100-PG509-200", "20b0:10de", 40),
            ("NVIDIA H100", "2339:10de", 94),
            ("Tesla V100-PCIE-16GB", "1db4:10de", 16),
            ("NVIDIA GH200 480GB", "2342:10de", 96),
        ] {
            let host = Host::stated([statement]).unwrap();
            let device = &host.devices[0];
            assert_eq!((device.product_name.as_str(), device.pci_id.as_deref()), (statement, Some(id)));
            assert_eq!(device.memory_total_bytes, Some(size_gib * GIB), "{statement}");
        }
        let shared = Host::stated(["NVIDIA-L40S-SHARED:2"]).unwrap();
        assert_eq!(shared.slots()[1].device.known_as.as_deref(), Some("l40s"));
    }

    #[test]
    fn what_is_no_statement_is_refused() {
        for (statement, part) in [
            ("h100", "names several GPUs: choose one of h100-sxm, h100-pcie, h100-nvl, h100-sxm-94gb"),
            ("h100-sx", "unknown GPU `h100-sx`; the nearest known names are h100-sxm"),
            ("GRID T4-16Q", "is a vGPU"),
            ("NVIDIA L40S-48Q", "is a vGPU"),
            ("a100-sxm/xc.1g.10gb", "a MIG profile such as"),
            ("l4:0", "1 to 64"),
            ("l4:many", "1 to 64"),
            ("a100-sxm/1g", "a MIG profile such as"),
            ("a100-sxm/1g.10gbx", "a MIG profile such as"),
            ("", "unknown GPU"),
        ] {
            let error = Host::stated([statement]).unwrap_err().to_string();
            assert!(error.contains(part), "{statement}: {error}");
        }
        assert!(Host::stated(["l4", "none"]).is_err());
    }

    /// Every name that a driver reports may be stated, as it is or as nodes are labelled, and nimctl's own output is understood.
    #[test]
    fn every_product_name_is_understood() {
        for gpu in gpu::known() {
            for name in &gpu.product_names {
                for stated in [name.clone(), format!("{}-SHARED", gpu::node_label(name))] {
                    let host =
                        Host::stated([stated.as_str()]).unwrap_or_else(|error| panic!("{stated}: {error}"));
                    let device = &host.devices[0];
                    assert_eq!(device.known_as.as_ref(), Some(&gpu.name), "{stated}");
                    assert_eq!(device.product_name, *name);
                    assert_eq!(device.compute_capability, Some(gpu.compute_capability), "{stated}");
                    assert!(device.pci_id.as_ref().is_none_or(|id| gpu.pci_ids.contains(id)), "{stated}");
                    let printed = host.slots()[0].to_string();
                    assert_eq!(Host::stated([printed.as_str()]).unwrap().devices[0].product_name, *name);
                }
            }
        }
    }
}

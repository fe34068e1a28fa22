//! `NVIDIA_VISIBLE_DEVICES` and `CUDA_VISIBLE_DEVICES`: which GPUs programs are allowed to see.

use super::{Device, Host, MigInstance};

const CONTAINER: &str = "NVIDIA_VISIBLE_DEVICES";
const CUDA: &str = "CUDA_VISIBLE_DEVICES";

/// The values of both variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VisibleDevices {
    /// `NVIDIA_VISIBLE_DEVICES`, which container runtimes obey before a program starts.
    pub container: Option<String>,
    /// `CUDA_VISIBLE_DEVICES`, which CUDA obeys inside a program.
    pub cuda: Option<String>,
}

impl VisibleDevices {
    /// Marks the devices and instances of a host that programs can't see.
    ///
    /// Inside a container, the runtime has already applied `NVIDIA_VISIBLE_DEVICES`, and what NVML lists is what there is:
    /// `void`, CDI names, paths and items that name nothing here hide nothing, nor do as many indices as there are GPUs or
    /// MIG instances, since indices are the host's. Only `none` hides everything. Indices in
    /// `CUDA_VISIBLE_DEVICES` count the remaining devices, and an index that doesn't exist hides everything after it, as in
    /// CUDA; what follows an index in an item is ignored, and an item that is there twice hides everything (measured with
    /// driver 580.159.04). Indices follow the order of PCI addresses, as in CUDA if `CUDA_DEVICE_ORDER` says so or all GPUs are of one
    /// kind.
    pub fn apply(&self, host: &mut Host) {
        if let Some(value) = &self.container {
            match value.trim() {
                "" | "all" => {}
                "none" => hide(host, CONTAINER, &[]),
                list => {
                    let wanted: Vec<&str> = list.split(',').map(str::trim).collect();
                    let instances: usize = host.devices.iter().map(|device| device.mig_instances.len()).sum();
                    let all = |count: usize, has_form: fn(&str) -> bool| {
                        wanted.len() == count && wanted.iter().all(|item| has_form(item))
                    };
                    let applied = all(host.devices.len(), is_index) || all(instances, is_mig_index);
                    let names_any = || wanted.iter().any(|item| names_part(item, host));
                    if !applied && names_any() {
                        hide(host, CONTAINER, &wanted);
                    }
                }
            }
        }
        if let Some(value) = &self.cuda {
            let left = host.devices.iter().filter(|device| device.hidden_by.is_none());
            let order: Vec<u32> = left.map(|device| device.index).collect();
            let mut wanted = Vec::new();
            for item in value.split(',').map(str::trim) {
                if is_uuid(item) {
                    wanted.push(item.to_owned());
                    continue;
                }
                let place = leading_number(item).and_then(|place| usize::try_from(place).ok());
                let Some(index) = place.and_then(|place| order.get(place)) else { break };
                wanted.push(index.to_string());
            }
            if has_duplicates(&wanted) {
                wanted.clear();
            }
            let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
            hide(host, CUDA, &wanted);
        }
    }
}

fn is_index(item: &str) -> bool {
    !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns the number that an item begins with, as C's `atoi` does.
fn leading_number(item: &str) -> Option<i64> {
    let digits = item.strip_prefix(['-', '+']).unwrap_or(item);
    let end = digits.bytes().take_while(u8::is_ascii_digit).count() + item.len() - digits.len();
    item[..end].parse().ok()
}

fn is_uuid(item: &str) -> bool {
    ["GPU-", "MIG-"].iter().any(|kind| begins_with(item, kind))
}

fn has_duplicates(items: &[String]) -> bool {
    let is_same =
        |(index, item): (usize, &String)| items[..index].iter().any(|other| other.eq_ignore_ascii_case(item));
    items.iter().enumerate().any(is_same)
}

/// Returns whether an item is a MIG instance by its GPU's index and its own: `1:2`.
fn is_mig_index(item: &str) -> bool {
    item.split_once(':').is_some_and(|(device, instance)| is_index(device) && is_index(instance))
}

/// Returns whether an item names a GPU or an instance that is listed.
fn names_part(item: &str, host: &Host) -> bool {
    let names = |device: &Device| {
        let mut instances = device.mig_instances.iter();
        names_device(item, device) || instances.any(|instance| names_instance(item, device, instance))
    };
    host.devices.iter().any(names)
}

/// Hides every device and instance that is neither wanted nor hidden already.
fn hide(host: &mut Host, variable: &str, wanted: &[&str]) {
    for device in host.devices.iter_mut().filter(|device| device.hidden_by.is_none()) {
        let whole = wanted.iter().any(|item| names_device(item, device));
        let mut instances = std::mem::take(&mut device.mig_instances);
        for instance in instances.iter_mut().filter(|instance| instance.hidden_by.is_none()) {
            if !whole && !wanted.iter().any(|item| names_instance(item, device, instance)) {
                instance.hidden_by = Some(variable.into());
            }
        }
        device.mig_instances = instances;
        let part = device.mig_instances.iter().any(|instance| instance.hidden_by.is_none());
        if !whole && !part {
            device.hidden_by = Some(variable.into());
        }
    }
}

fn names_device(item: &str, device: &Device) -> bool {
    if is_index(item) {
        return item.parse() == Ok(device.index);
    }
    starts(device.uuid.as_deref(), item, "GPU-")
}

fn names_instance(item: &str, device: &Device, instance: &MigInstance) -> bool {
    item == format!("{}:{}", device.index, instance.index) || starts(instance.uuid.as_deref(), item, "MIG-")
}

/// Returns whether an item is a uuid or a prefix of one, as CUDA accepts it: in upper or lower case.
fn starts(uuid: Option<&str>, item: &str, kind: &str) -> bool {
    item.len() > kind.len() && begins_with(item, kind) && uuid.is_some_and(|uuid| begins_with(uuid, item))
}

fn begins_with(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::super::Origin;
    use super::*;

    fn host() -> Host {
        let mut devices: Vec<Device> = (0..3).map(|index| Device::new(index, "NVIDIA L4")).collect();
        for (device, uuid) in devices.iter_mut().zip(["GPU-aa11", "GPU-aa22", "GPU-bb33"]) {
            device.uuid = Some(uuid.into());
        }
        devices[2].mig_enabled = Some(true);
        devices[2].mig_instances = (0..2)
            .map(|index| MigInstance {
                index,
                uuid: Some(format!("MIG-c{index}")),
                profile: None,
                memory_total_bytes: None,
                memory_free_bytes: None,
                hidden_by: None,
            })
            .collect();
        Host::new(Origin::Nvml, devices)
    }

    #[track_caller]
    fn check(container: Option<&str>, cuda: Option<&str>, expected: &str) {
        let mut host = host();
        let variables = VisibleDevices { container: container.map(Into::into), cuda: cuda.map(Into::into) };
        variables.apply(&mut host);
        let shown = |slot: super::super::Slot<'_>| match slot.instance {
            Some(instance) => format!("{}:{}", slot.device.index, instance.index),
            None => slot.device.index.to_string(),
        };
        let slots: Vec<String> = host.slots().into_iter().map(shown).collect();
        assert_eq!(slots.join(" "), expected, "{container:?} {cuda:?}");
    }

    #[test]
    fn of_containers() {
        check(None, None, "0 1 2:0 2:1");
        check(Some("all"), None, "0 1 2:0 2:1");
        check(Some("none"), None, "");
        // The runtime has applied these, and what is listed is what there is.
        for applied in
            ["void", "nvidia.com/gpu=all", "/var/run/nvidia-container-devices", "7", "GPU-ff", "4:1"]
        {
            check(Some(applied), None, "0 1 2:0 2:1");
        }
        check(Some("MIG-GPU-0a0a/7/0"), None, "0 1 2:0 2:1");
        check(Some("4:1,4:3"), None, "0 1 2:0 2:1");
        check(Some("void"), Some("0"), "0");
        check(Some("1"), None, "1");
        check(Some("GPU-aa22, 0"), None, "0 1");
        check(Some("2:1"), None, "2:1");
        check(Some("MIG-c0"), None, "2:0");
        // As many indices as GPUs: the runtime has applied them, and they are the host's.
        check(Some("4,5,6"), None, "0 1 2:0 2:1");
    }

    #[test]
    fn of_cuda() {
        check(None, Some(""), "");
        check(None, Some("-1"), "");
        check(None, Some("1,0"), "0 1");
        check(None, Some("0,7,1"), "0");
        check(None, Some("GPU-bb"), "2:0 2:1");
        check(None, Some("MIG-c1"), "2:1");
        check(None, Some("GPU-"), "");
        // What an H200's driver did (580.159.04).
        check(None, Some("GPU-AA22"), "1");
        check(None, Some(" 0"), "0");
        check(None, Some("00000000:00:06.0"), "0");
        for nothing in ["0,0", "GPU-aa11,gpu-AA11", "NoDevFiles", "GPU-deadbeef", "MIG-GPU-aa11/0/0", "7"] {
            check(None, Some(nothing), "");
        }
    }

    #[test]
    fn of_both() {
        check(Some("1,2"), Some("0"), "1");
        check(Some("1"), Some("1"), "");
    }
}

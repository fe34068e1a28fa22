//! The PCI bus.

use std::path::Path;

/// Where Linux lists the devices on the bus, in containers too.
pub(crate) const DEVICES: &str = "/sys/bus/pci/devices";

/// Returns the number of NVIDIA display controllers in a folder like [`DEVICES`].
pub(crate) fn nvidia_gpus(devices: &Path) -> usize {
    let Ok(entries) = fs_err::read_dir(devices) else { return 0 };
    let says = |device: &Path, file: &str, starts: &[&str]| {
        fs_err::read_to_string(device.join(file))
            .is_ok_and(|text| starts.iter().any(|start| text.starts_with(start)))
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|device| says(device, "vendor", &["0x10de"]) && says(device, "class", &["0x0300", "0x0302"]))
        .count()
}

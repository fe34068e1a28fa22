//! A second source for compute capabilities: NVIDIA gives each chip a block of PCI ids.

use super::known;
use crate::compute_capability::ComputeCapability;

/// The first and last id of a block, its chips, and their compute capability.
const BLOCKS: [(u16, u16, &str, &str); 30] = [
    (0x15f0, 0x15ff, "GP100", "6.0"),
    (0x1b00, 0x1bff, "GP102, GP104", "6.1"),
    (0x1d80, 0x1dff, "GV100", "7.0"),
    (0x1e00, 0x1e7f, "TU102", "7.5"),
    (0x1e80, 0x1eff, "TU104", "7.5"),
    (0x1f00, 0x1f7f, "TU106", "7.5"),
    (0x1f80, 0x1fff, "TU117", "7.5"),
    (0x2080, 0x20ff, "GA100", "8.0"),
    (0x2180, 0x21ff, "TU116", "7.5"),
    (0x2200, 0x227f, "GA102", "8.6"),
    (0x2300, 0x237f, "GH100", "9.0"),
    (0x2400, 0x247f, "GA103", "8.6"),
    (0x2480, 0x24ff, "GA104", "8.6"),
    (0x2500, 0x257f, "GA106", "8.6"),
    (0x2580, 0x25ff, "GA107", "8.6"),
    (0x2680, 0x26ff, "AD102", "8.9"),
    (0x2700, 0x277f, "AD103", "8.9"),
    (0x2780, 0x27ff, "AD104", "8.9"),
    (0x2800, 0x287f, "AD106", "8.9"),
    (0x2880, 0x28ff, "AD107", "8.9"),
    (0x2900, 0x297f, "GB100", "10.0"),
    (0x2980, 0x29ff, "GB102", "10.0"),
    (0x2b00, 0x2b7f, "GB10B", "11.0"),
    (0x2b80, 0x2bff, "GB202", "12.0"),
    (0x2c00, 0x2c7f, "GB203", "12.0"),
    (0x2d00, 0x2dff, "GB206, GB207", "12.0"),
    (0x2e00, 0x2e7f, "GB20B", "12.1"),
    (0x2f00, 0x2f7f, "GB205", "12.0"),
    (0x3180, 0x31bf, "GB110", "10.3"),
    (0x31c0, 0x31ff, "GB110 with a CPU", "10.3"),
];

#[test]
fn compute_capabilities_are_those_of_the_chips() {
    for gpu in known() {
        for id in &gpu.pci_ids {
            let number = u16::from_str_radix(&id[..4], 16).unwrap();
            let block = BLOCKS.iter().find(|(first, last, ..)| (*first..=*last).contains(&number));
            let (.., chip, capability) =
                block.unwrap_or_else(|| panic!("{id} of {} is in no block", gpu.name));
            let capability: ComputeCapability = capability.parse().unwrap();
            assert_eq!(gpu.compute_capability, capability, "{} with {chip}", gpu.name);
        }
    }
}

//! What the system says about itself and about processes, in `/proc` and `/sys`: nothing else in nimctl reads there.
//! What it doesn't say is `None`.
//!
//! * [`look`]: the machine, and how busy it is, for measurements.
//! * `memory`: how much is available, and how much a process took.
//! * `pci`: what is on the bus.

pub(crate) mod memory;
pub(crate) mod pci;
mod proc_file;

use crate::benchmark::Machine;

/// Looks at this machine.
pub fn look() -> Machine {
    Machine {
        cpu: proc_file::value("/proc/cpuinfo", "model name"),
        logical_cores: std::thread::available_parallelism().map_or(1, usize::from),
        governor: fs_err::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|text| text.trim().to_owned()),
        load_average_1_min: fs_err::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok()),
        memory_bytes: memory::total_bytes(),
    }
}

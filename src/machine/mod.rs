//! What the system reports about itself and its processes in `/proc` and `/sys`: no other module of nimctl reads there.
//! What it doesn't report is `None`.
//!
//! * [`look`]: the machine and its load, for measurements.
//! * `memory`: how much is available, and how much a process used.
//! * `pci`: the GPUs on the bus.

pub(crate) mod memory;
pub(crate) mod pci;
mod proc_file;

use crate::benchmark::Machine;

/// Reads the facts of this machine.
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

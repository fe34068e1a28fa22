//! What the machine is and how busy it is, for measurements: read from `/proc` and `/sys`, nothing is written.

use crate::benchmark::Machine;

/// Looks at this machine; what it doesn't tell is absent.
pub fn look() -> Machine {
    let value_of = |path: &str, key: &str| -> Option<String> {
        let text = fs_err::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kib = value_of("/proc/meminfo", "MemTotal")
        .and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok());
    Machine {
        cpu: value_of("/proc/cpuinfo", "model name"),
        logical_cores: std::thread::available_parallelism().map_or(1, usize::from),
        governor: fs_err::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
            .ok()
            .map(|text| text.trim().to_owned()),
        load_average_1_min: fs_err::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split(' ').next()?.parse().ok()),
        memory_bytes: kib.and_then(|kib| kib.checked_mul(1024)),
    }
}

//! Memory of the machine and of processes.

use std::io::Write as _;

use super::proc_file;

/// Returns the machine's total memory.
pub(super) fn total_bytes() -> Option<u64> {
    proc_file::size_bytes("/proc/meminfo", "MemTotal")
}

/// Returns how much memory is available without swapping.
pub(crate) fn available_bytes() -> Option<u64> {
    proc_file::size_bytes("/proc/meminfo", "MemAvailable")
}

/// Returns the peak resident size of this process.
pub(crate) fn own_peak_bytes() -> Option<u64> {
    peak_of("self")
}

/// Returns the peak resident size of a process since [`reset_peak`].
pub(crate) fn peak_bytes(process_id: u32) -> Option<u64> {
    peak_of(&process_id.to_string())
}

/// Resets the peak resident size of a process. If that fails, [`peak_bytes`] counts from its start.
pub(crate) fn reset_peak(process_id: u32) {
    if let Ok(mut file) =
        fs_err::OpenOptions::new().write(true).open(format!("/proc/{process_id}/clear_refs"))
    {
        // The number of the command, from proc(5).
        let _ = file.write_all(b"5");
    }
}

fn peak_of(process: &str) -> Option<u64> {
    proc_file::size_bytes(&format!("/proc/{process}/status"), "VmHWM")
}

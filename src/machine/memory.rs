//! Memory: what the machine has, and what processes take.

use std::io::Write as _;

use super::proc_file;

/// Returns how much memory the machine has.
pub(super) fn total_bytes() -> Option<u64> {
    proc_file::size_bytes("/proc/meminfo", "MemTotal")
}

/// Returns how much memory can be taken without swapping.
pub(crate) fn available_bytes() -> Option<u64> {
    proc_file::size_bytes("/proc/meminfo", "MemAvailable")
}

/// Returns the largest resident size of this process.
pub(crate) fn own_peak_bytes() -> Option<u64> {
    peak_of("self")
}

/// Returns the largest resident size of a process, since [`reset_peak`].
pub(crate) fn peak_bytes(process_id: u32) -> Option<u64> {
    peak_of(&process_id.to_string())
}

/// Forgets the largest resident size of a process so far. Where that fails, [`peak_bytes`] is since its start.
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

//! Wall time and peak memory of a command with all its children.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xshell::{Cmd, Shell};

/// How often memory is looked at, at most and at least; in between, after each 32nd part of the time so far.
const PERIODS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) wall: Duration,
    /// The sum of each process's own peak: what the run needs at most.
    pub(super) peak_kib: u64,
}

/// Runs a command with its output on stderr, and measures it.
pub(super) fn timed(shell: &Shell, command: Cmd<'_>) -> Result<Run> {
    let text = command.to_string();
    let mut command = Command::from(command);
    command.stdin(Stdio::null()).stdout(std::io::stderr());
    #[expect(clippy::disallowed_methods, reason = "the command is timed")]
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("`{text}` can't be started"))?;
    let mut peaks = BTreeMap::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        look(shell, child.id(), &mut peaks);
        std::thread::sleep((start.elapsed() / 32).clamp(PERIODS[0], PERIODS[1]));
    };
    let wall = start.elapsed();
    ensure!(status.success(), "`{text}` failed ({status})");
    Ok(Run { wall, peak_kib: peaks.values().sum() })
}

/// Notes the peak of a process and of all below it. A process that ends meanwhile keeps what was seen before.
fn look(shell: &Shell, process: u32, peaks: &mut BTreeMap<u32, u64>) {
    if let Some(peak) = shell.read_file(format!("/proc/{process}/status")).ok().and_then(|s| peak_kib(&s)) {
        peaks.insert(process, peak);
    }
    for thread in shell.read_dir(format!("/proc/{process}/task")).unwrap_or_default() {
        let children = shell.read_file(thread.join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            look(shell, child, peaks);
        }
    }
}

/// Returns the peak resident memory in a `/proc/<process>/status`.
fn peak_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::peak_kib;

    #[test]
    fn the_peak_is_read() {
        assert_eq!(peak_kib("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 7 kB\n"), Some(1234));
        assert_eq!(peak_kib("Name:\tx\n"), None);
    }
}

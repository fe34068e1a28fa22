//! Runs a program to its end, with a time limit.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{ChildGroup, LogTail};

/// How much of the end of stderr is kept.
const TAIL_BYTES: usize = 32 * 1024;
const POLL: Duration = Duration::from_millis(50);
/// How long to wait for stderr's end once the program has ended: something it left behind may hold it open.
const DRAIN: Duration = Duration::from_secs(2);

/// How a run ended.
pub(crate) enum Ended {
    /// By itself.
    Exited { status: ExitStatus, stderr_tail: String },
    /// The limit passed.
    TimedOut,
    /// `keep_going` returned `false`.
    Stopped,
}

/// Runs a program without stdin and stdout; `keep_going` is asked about twenty times a second. A run that doesn't end by
/// itself is killed with its whole group.
///
/// # Errors
/// The program can't be started or waited for.
pub(crate) fn run(
    mut command: Command,
    limit: Duration,
    mut keep_going: impl FnMut() -> bool,
) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut group = ChildGroup::spawn(command)?;
    let tail = LogTail::of(group.take_stderr()?, TAIL_BYTES)?;
    #[expect(clippy::disallowed_methods, reason = "a run has a time limit")]
    let start = Instant::now();
    let mut nap = Duration::from_millis(2);
    loop {
        if group.has_ended() {
            return Ok(Ended::Exited { status: group.wait()?, stderr_tail: tail.text(DRAIN) });
        }
        if !keep_going() {
            return Ok(Ended::Stopped);
        }
        if start.elapsed() >= limit {
            return Ok(Ended::TimedOut);
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(POLL);
    }
}

//! Runs a program to its end, with a time limit.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{ChildGroup, LogTail};

/// How much of the end of stderr is kept.
const TAIL_BYTES: usize = 32 * 1024;
/// How much of what a program prints is read.
const MAX_PRINTED_BYTES: u64 = 64 << 20;
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
pub(crate) fn run(command: Command, limit: Duration, keep_going: impl FnMut() -> bool) -> io::Result<Ended> {
    run_with((Stdio::null(), Stdio::null()), command, limit, keep_going)
}

/// Runs a program on a text, and returns what it printed, too.
///
/// # Errors
/// As [`run`]; a file for what it reads or prints can't be made.
pub(crate) fn run_on(
    input: &str,
    command: Command,
    limit: Duration,
    keep_going: impl FnMut() -> bool,
) -> io::Result<(Ended, String)> {
    // Files, unlike pipes, need nobody at the other end while it runs.
    let (mut given, mut printed) = (tempfile::tempfile()?, tempfile::tempfile()?);
    given.write_all(input.as_bytes())?;
    given.rewind()?;
    let ended = run_with((given.into(), printed.try_clone()?.into()), command, limit, keep_going)?;
    printed.rewind()?;
    let mut bytes = Vec::new();
    printed.take(MAX_PRINTED_BYTES).read_to_end(&mut bytes)?;
    Ok((ended, String::from_utf8_lossy(&bytes).into_owned()))
}

fn run_with(
    (stdin, stdout): (Stdio, Stdio),
    mut command: Command,
    limit: Duration,
    mut keep_going: impl FnMut() -> bool,
) -> io::Result<Ended> {
    command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
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

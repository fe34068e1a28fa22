//! Runs a program in a process group of its own, with a time limit, and ends the whole group when told to.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How much of the end of stderr is kept.
const TAIL_BYTES: usize = 32 * 1024;
const POLL: Duration = Duration::from_millis(50);
/// How long to wait for stderr's end once the program has ended: something it left behind may hold it open.
const DRAIN: Duration = Duration::from_secs(2);

/// How a run ended.
pub(super) enum Ended {
    /// By itself.
    Exited { status: ExitStatus, stderr_tail: String },
    /// The limit passed.
    TimedOut,
    /// `keep_going` said no.
    Stopped,
}

/// Runs a program without stdin and stdout; `keep_going` is asked about twenty times a second.
///
/// # Errors
/// The program can't be started or waited for.
pub(super) fn run(
    mut command: Command,
    limit: Duration,
    mut keep_going: impl FnMut() -> bool,
) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group { child: command.spawn()?, ended: false };
    let tail = group.child.stderr.take().map(keep_tail);
    let start = Instant::now();
    let mut nap = Duration::from_millis(2);
    loop {
        if let Some(status) = group.child.try_wait()? {
            group.ended = true;
            let stderr_tail = tail.and_then(|tail| tail.recv_timeout(DRAIN).ok()).unwrap_or_default();
            return Ok(Ended::Exited { status, stderr_tail });
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

/// Ends the group when dropped, whatever the reason; a process that has ended is left alone, for its number may be
/// another's by now.
struct Group {
    child: Child,
    ended: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            if let Some(leader) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(leader, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

fn keep_tail(mut stderr: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut tail = VecDeque::with_capacity(TAIL_BYTES);
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut chunk) {
            let excess = (tail.len() + count).saturating_sub(TAIL_BYTES);
            tail.drain(..excess);
            tail.extend(&chunk[..count]);
        }
        let _ = sender.send(String::from_utf8_lossy(tail.make_contiguous()).into_owned());
    });
    receiver
}

//! A child process and the group that it leads.

#![expect(clippy::disallowed_methods, reason = "a grace period has an end")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

const POLL: Duration = Duration::from_millis(5);

/// A child process that leads a group of its own. Dropping it kills the group, unless the child was reaped.
#[derive(Debug)]
pub(crate) struct ChildGroup {
    child: Child,
    /// Present once the child is reaped: its number may be another's by then.
    status: Option<ExitStatus>,
}

impl ChildGroup {
    /// Starts a program.
    ///
    /// # Errors
    /// It can't be started.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        Ok(Self { child: command.process_group(0).spawn()?, status: None })
    }

    /// Returns the number of the process and of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its standard input, once.
    pub(crate) fn take_stdin(&mut self) -> io::Result<ChildStdin> {
        self.child.stdin.take().ok_or_else(missing_pipe)
    }

    /// Returns its standard output, once.
    pub(crate) fn take_stdout(&mut self) -> io::Result<ChildStdout> {
        self.child.stdout.take().ok_or_else(missing_pipe)
    }

    /// Returns its standard error, once.
    pub(crate) fn take_stderr(&mut self) -> io::Result<ChildStderr> {
        self.child.stderr.take().ok_or_else(missing_pipe)
    }

    /// Whether the child itself has ended (its group may live on). Doesn't reap it, so that its number stays taken.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.status.is_some() || !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    /// Waits for the child's end, and leaves the rest of its group alone.
    ///
    /// # Errors
    /// It can't be waited for.
    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }

    /// Asks the whole group to end, and gives the child `grace` to do so.
    pub(crate) fn terminate(&mut self, grace: Duration) {
        if self.status.is_none() && !self.has_ended() {
            let _ = kill_process_group(self.pid(), Signal::TERM);
            self.wait_for(grace);
        }
    }

    /// Waits at most so long for the child's end.
    pub(crate) fn wait_for(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }

    /// Gives the child `grace` to end by itself, then kills its whole group. Returns its status if it ended by itself.
    pub(crate) fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.wait_for(grace);
        let ended_itself = self.has_ended();
        if self.status.is_none() {
            // The leader is not reaped yet, so the group's number can't have been given to another.
            let _ = kill_process_group(self.pid(), Signal::KILL);
            self.status = self.child.wait().ok();
        }
        self.status.filter(|_| ended_itself)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn missing_pipe() -> io::Error {
    io::Error::other("a pipe of the child is missing")
}

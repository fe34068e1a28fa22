//! A child process in a group of its own, its three channels served by threads.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::host::BackendCommand;
use super::lines::{Line, read_line};
use super::protocol::MAX_LINE_BYTES;

/// How much of a worker's log is kept.
const LOG_TAIL_BYTES: usize = 8 * 1024;
const LOG_TAIL_LINES: usize = 40;
/// How long the log may take to arrive once its writer is dead.
const LOG_DRAIN: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(5);

pub(crate) struct WorkerProcess {
    child: Child,
    /// Present until standard input is closed.
    stdin: Option<mpsc::Sender<Vec<u8>>>,
    lines: mpsc::Receiver<io::Result<Line>>,
    log: Arc<LogTail>,
    status: Option<ExitStatus>,
}

impl WorkerProcess {
    pub(crate) fn spawn(command: &BackendCommand) -> io::Result<Self> {
        let mut child = Command::new(&command.path)
            .envs(&command.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let missing = || io::Error::other("a pipe of the child is missing");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let log = Arc::new(LogTail::default());
        // The threads are never joined: a process that left the group could hold the pipes open for ever.
        let (stdin_sender, stdin_receiver) = mpsc::channel();
        let (line_sender, lines) = mpsc::sync_channel(64);
        let worker = Self { child, stdin: Some(stdin_sender), lines, log: Arc::clone(&log), status: None };
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(format!("worker-{name}")).spawn(work)
        };
        spawn("stdin", Box::new(move || write_all(stdin, &stdin_receiver)))?;
        spawn("stdout", Box::new(move || read_lines(stdout, &line_sender)))?;
        spawn("stderr", Box::new(move || log.fill(stderr)))?;
        Ok(worker)
    }

    /// Returns the number of the process and of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Hands bytes to the worker without waiting for it to read them.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        if let Some(stdin) = &self.stdin {
            // The writing thread ends when the worker does, which the reader of the answer notices.
            let _ = stdin.send(bytes);
        }
    }

    /// Waits for the next line; `None` if none came in time.
    pub(crate) fn next_line(&self, timeout: Duration) -> Option<io::Result<Line>> {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Ok(Line::End)),
        }
    }

    /// Whether the worker itself has ended (its group may live on). Doesn't reap it, so that its number stays taken.
    pub(crate) fn has_ended(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.status.is_some() || !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    /// Closes standard input, gives the worker `grace` to end, then kills its whole group. Says how it ended.
    pub(crate) fn end(&mut self, grace: Duration) -> String {
        self.stdin = None;
        let deadline = Instant::now() + grace;
        while !self.has_ended() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let ended_itself = self.has_ended();
        if self.status.is_none() {
            // The leader is not reaped yet, so the group's number can't have been given to another.
            let _ = rustix::process::kill_process_group(self.pid(), rustix::process::Signal::KILL);
            self.status = self.child.wait().ok();
        }
        match self.status {
            Some(status) if ended_itself => describe_status(status),
            _ => "its output closed, though it was still running".into(),
        }
    }

    /// Returns the end of the worker's log; waits a little for what a dead worker wrote last.
    pub(crate) fn log_tail(&self) -> String {
        self.log.text(if self.has_ended() { LOG_DRAIN } else { Duration::ZERO })
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn write_all(mut stdin: ChildStdin, bytes: &mpsc::Receiver<Vec<u8>>) {
    while let Ok(bytes) = bytes.recv() {
        if stdin.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, lines: &mpsc::SyncSender<io::Result<Line>>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let line = read_line(&mut reader, MAX_LINE_BYTES);
        let go_on = matches!(line, Ok(Line::Whole(_)));
        if lines.send(line).is_err() || !go_on {
            return;
        }
    }
}

fn describe_status(status: ExitStatus) -> String {
    const NAMES: [(i32, &str); 12] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
    ];
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match NAMES.iter().find(|(number, _)| *number == signal) {
            // The kernel does this when memory runs out, and it is the commonest death of a builder.
            Some((9, name)) => format!("signal 9 ({name}; the system may have run out of memory)"),
            Some((_, name)) => format!("signal {signal} ({name})"),
            None => format!("signal {signal}"),
        },
        (None, None) => "an unknown status".into(),
    }
}

/// The end of what a worker wrote to standard error.
#[derive(Default)]
struct LogTail {
    state: Mutex<LogState>,
    ended: Condvar,
}

#[derive(Default)]
struct LogState {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl LogTail {
    fn fill(&self, mut stderr: ChildStderr) {
        let mut buffer = [0; 4096];
        loop {
            let count = match stderr.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.bytes.extend(&buffer[..count]);
            let excess = state.bytes.len().saturating_sub(LOG_TAIL_BYTES);
            state.bytes.drain(..excess);
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.ended.notify_all();
    }

    fn text(&self, wait: Duration) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .ended
            .wait_timeout_while(state, wait, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = state.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

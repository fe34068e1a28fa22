//! A worker's process: its group, and its three channels served by threads.

use std::io::{self, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::command::BackendCommand;
use super::lines::{Line, read_line};
use super::protocol::MAX_LINE_BYTES;
use crate::process::{ChildGroup, LogTail};

/// How much of a worker's log is kept.
const LOG_TAIL_BYTES: usize = 8 * 1024;
const LOG_TAIL_LINES: usize = 40;
/// How long what stands for a process on another machine may take to end after its input is closed, and after it was asked to.
const REMOTE_GRACE: Duration = Duration::from_secs(3);
/// How long the log may take to arrive once its writer is dead.
const LOG_DRAIN: Duration = Duration::from_millis(300);

pub(crate) struct WorkerProcess {
    group: ChildGroup,
    /// Present until standard input is closed.
    stdin: Option<mpsc::Sender<Vec<u8>>>,
    lines: mpsc::Receiver<io::Result<Line>>,
    log: LogTail,
    /// Whether the process stands for one on another machine: killed, it would leave that one there.
    stands_for_another: bool,
}

/// How a worker ended.
pub(crate) struct Ending {
    /// In words.
    pub(crate) how: String,
    /// Whether something else ended it: a signal that no program gets for what it does.
    pub(crate) from_outside: bool,
}

impl WorkerProcess {
    pub(crate) fn spawn(command: &BackendCommand) -> io::Result<Self> {
        let mut program = command_of(command);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut group = ChildGroup::spawn(program)?;
        let (stdin, stdout) = (group.take_stdin()?, group.take_stdout()?);
        let log = LogTail::of(group.take_stderr()?, LOG_TAIL_BYTES)?;
        // The threads are never joined: a process that left the group could hold the pipes open for ever.
        let (stdin_sender, stdin_receiver) = mpsc::channel();
        let (line_sender, lines) = mpsc::sync_channel(64);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(format!("worker-{name}")).spawn(work)
        };
        spawn("stdin", Box::new(move || write_all(stdin, &stdin_receiver)))?;
        spawn("stdout", Box::new(move || read_lines(stdout, &line_sender)))?;
        let stands_for_another = command.through.is_some();
        Ok(Self { group, stdin: Some(stdin_sender), lines, log, stands_for_another })
    }

    /// Returns the number of the process and of its group.
    pub(crate) fn id(&self) -> u32 {
        self.group.id()
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

    /// Whether the worker itself has ended (its group may live on).
    pub(crate) fn has_ended(&self) -> bool {
        self.group.has_ended()
    }

    /// Closes standard input, gives the worker `grace` to end, then kills its whole group. Says how it ended.
    pub(crate) fn end(&mut self, grace: Duration) -> Ending {
        self.stdin = None;
        if self.stands_for_another {
            // Whoever ends it at once is in a hurry: a signal is passed on faster than the end of input.
            if !grace.is_zero() {
                self.group.wait_for(REMOTE_GRACE);
            }
            self.group.terminate(REMOTE_GRACE);
        }
        match self.group.end(grace) {
            Some(status) => Ending { how: describe_status(status), from_outside: is_from_outside(status) },
            None => {
                Ending { how: "its output closed while it was still running".into(), from_outside: false }
            }
        }
    }

    /// Returns the end of the worker's log; waits a little for what a dead worker wrote last.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log.text(if self.has_ended() { LOG_DRAIN } else { Duration::ZERO });
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

#[expect(clippy::disallowed_methods, reason = "a ChildGroup starts it")]
fn command_of(command: &BackendCommand) -> Command {
    match command.through.as_ref().and_then(|launch| Some((launch, launch.program.split_first()?))) {
        None => {
            let mut program = Command::new(&command.path);
            program.envs(&command.environment);
            command.withheld.iter().for_each(|name| {
                program.env_remove(name);
            });
            program
        }
        Some((launch, (first, arguments))) => {
            let mut program = Command::new(first);
            program.args(arguments).env_clear().envs(&launch.environment);
            program
        }
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

/// Returns whether a worker was ended by something else: the user, the system's memory or limits, a file that was cut off.
fn is_from_outside(status: ExitStatus) -> bool {
    /// Of an illegal instruction, a trap, an abort, a wrong calculation, a wrong address, a wrong system call.
    const OWN: [i32; 6] = [4, 5, 6, 8, 11, 31];
    status.signal().is_some_and(|signal| !OWN.contains(&signal))
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

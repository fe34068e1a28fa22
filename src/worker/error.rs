//! What can go wrong with a worker.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::{ErrorCode, MAX_LINE_BYTES, PROTOCOL_VERSION, Problem};
use crate::error_kind::ErrorKind;

/// What went wrong with a worker. After each but [`WorkerError::Reported`] and [`WorkerError::Unsendable`] the worker
/// is gone, with every process it started.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// No executable of that name.
    #[error(
        "no worker for backend `{name}`: nimctl-backend-{name} is not in {}; build it, or name its folder in NIMCTL_BACKENDS",
        searched_text(searched)
    )]
    NotFound {
        /// The backend.
        name: String,
        /// The folders that were searched.
        searched: Vec<PathBuf>,
    },
    /// The executable could not be started.
    #[error("cannot start the worker {}", path.display())]
    CannotStart {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Host and worker have no protocol version in common.
    #[error(
        "the {backend} worker speaks protocol version {offered}, nimctl speaks {PROTOCOL_VERSION}: upgrade {}",
        if *offered > u64::from(PROTOCOL_VERSION) { "nimctl" } else { "the worker" }
    )]
    Handshake {
        /// The backend.
        backend: String,
        /// What the worker offered.
        offered: u64,
        /// What we speak.
        expected: Vec<u32>,
    },
    /// The worker ended without an answer.
    #[error("the {backend} worker ended during `{request}` with {how}{}", last_words(stderr_tail))]
    Crashed {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
        /// `signal 11 (SIGSEGV)` or `exit status 3`.
        how: String,
        /// Whether something else ended it: the user, the system.
        from_outside: bool,
        /// The end of its log.
        stderr_tail: String,
    },
    /// The worker ended inside a line of its answer.
    #[error(
        "the {backend} worker ended in the middle of a line during `{request}` with {how}, after \"{excerpt}\"{}",
        last_words(stderr_tail)
    )]
    DiedMidLine {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
        /// As in [`WorkerError::Crashed`].
        how: String,
        /// As in [`WorkerError::Crashed`].
        from_outside: bool,
        /// The beginning of the line.
        excerpt: String,
        /// The end of its log.
        stderr_tail: String,
    },
    /// The worker took longer than allowed.
    #[error(
        "the {backend} worker did not finish `{request}` within {} s and was stopped; allow more time, or see its log{}",
        timeout.as_secs_f64(),
        last_words(stderr_tail)
    )]
    Hung {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
        /// The time it had.
        timeout: Duration,
        /// The end of its log.
        stderr_tail: String,
    },
    /// The worker sent something that is not in the protocol.
    #[error("the {backend} worker broke the protocol during `{request}`: {reason}, in \"{excerpt}\"")]
    Nonsense {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
        /// What is wrong with the line.
        reason: String,
        /// The beginning of the line.
        excerpt: String,
        /// The end of its log.
        stderr_tail: String,
    },
    /// The worker sent a line beyond the limit.
    #[error(
        "the {backend} worker broke the protocol during `{request}`: a line of more than {MAX_LINE_BYTES} bytes"
    )]
    LineTooLong {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
    },
    /// The caller cancelled the request.
    #[error("`{request}` by the {backend} worker was cancelled")]
    Cancelled {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
    },
    /// The request can't be sent: a path that is not UTF-8, or a line that is too long.
    #[error("cannot send `{request}` to the {backend} worker: {reason}")]
    Unsendable {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
        /// Why.
        reason: String,
    },
    /// An earlier failure ended this worker.
    #[error("the {backend} worker has ended; start another one")]
    Ended {
        /// The backend.
        backend: String,
    },
    /// The worker works and reported a failure.
    #[error("{message} (`{request}` by the {backend} worker: {code}){}", needs_text(needs))]
    Reported {
        /// The backend.
        backend: String,
        /// The request.
        request: &'static str,
        /// The worker's code.
        code: ErrorCode,
        /// The worker's words.
        message: String,
        /// What the machine would need.
        needs: Vec<String>,
    },
}

impl WorkerError {
    /// Returns what the error means to the user.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. }
            | Self::CannotStart { .. }
            | Self::Handshake { .. }
            | Self::Crashed { .. }
            | Self::DiedMidLine { .. }
            | Self::Hung { .. }
            | Self::Nonsense { .. }
            | Self::LineTooLong { .. } => ErrorKind::Unavailable,
            Self::Cancelled { .. } => ErrorKind::Interrupted,
            Self::Unsendable { .. } => ErrorKind::Input,
            Self::Ended { .. } => ErrorKind::Bug,
            Self::Reported { code, .. } => match code {
                ErrorCode::UnsupportedTarget
                | ErrorCode::InvalidGraph
                | ErrorCode::InvalidRequest
                | ErrorCode::BuildFailed
                | ErrorCode::Io => ErrorKind::Input,
                ErrorCode::NoDriver
                | ErrorCode::LibraryMissing
                | ErrorCode::RunFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::UnsupportedRequest
                | ErrorCode::Other(_) => ErrorKind::Unavailable,
                ErrorCode::DamagedFile => ErrorKind::Refused,
                ErrorCode::WorkerBug => ErrorKind::Bug,
            },
        }
    }

    /// Returns whether this says something about the graph or plan that was run: it could not be loaded or run, took
    /// too long, or the worker crashed over it. Everything else is about what is around it: the user, the machine, the library, the worker.
    pub fn is_about_what_ran(&self) -> bool {
        match self {
            Self::Reported { code, .. } => match code {
                ErrorCode::InvalidGraph
                | ErrorCode::InvalidRequest
                | ErrorCode::BuildFailed
                | ErrorCode::UnsupportedTarget
                | ErrorCode::RunFailed => true,
                ErrorCode::NoDriver
                | ErrorCode::LibraryMissing
                | ErrorCode::OutOfMemory
                | ErrorCode::Io
                | ErrorCode::DamagedFile
                | ErrorCode::UnsupportedRequest
                | ErrorCode::WorkerBug
                | ErrorCode::Other(_) => false,
            },
            Self::Crashed { from_outside, .. } | Self::DiedMidLine { from_outside, .. } => !from_outside,
            // A time limit is one of what is run, and a worker that is sound with others says nonsense because of it.
            Self::Hung { .. } | Self::Nonsense { .. } | Self::LineTooLong { .. } => true,
            Self::NotFound { .. }
            | Self::CannotStart { .. }
            | Self::Handshake { .. }
            | Self::Cancelled { .. }
            | Self::Unsendable { .. }
            | Self::Ended { .. } => false,
        }
    }

    /// Returns the end of the worker's log (at most 40 lines and 8 KiB), where the failure has one.
    pub fn stderr_tail(&self) -> Option<&str> {
        match self {
            Self::Crashed { stderr_tail, .. }
            | Self::DiedMidLine { stderr_tail, .. }
            | Self::Hung { stderr_tail, .. }
            | Self::Nonsense { stderr_tail, .. } => {
                Some(stderr_tail.as_str()).filter(|tail| !tail.is_empty())
            }
            _ => None,
        }
    }

    /// Returns the worker's own report, if it did as it should and reported a failure.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            Self::Reported { code, message, needs, .. } => {
                Some(Problem { code: code.clone(), message: message.clone(), needs: needs.clone() })
            }
            _ => None,
        }
    }
}

fn searched_text(searched: &[PathBuf]) -> String {
    if searched.is_empty() {
        return "any folder (none was searched)".into();
    }
    searched.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn last_words(stderr_tail: &str) -> String {
    match stderr_tail.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("; its log ends with \"{}\"", super::lines::excerpt(line.trim().as_bytes())),
        None => String::new(),
    }
}

fn needs_text(needs: &[String]) -> String {
    if needs.is_empty() { String::new() } else { format!("; needs: {}", needs.join(", ")) }
}

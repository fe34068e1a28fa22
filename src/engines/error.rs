//! What can go wrong with an engine.

use std::io;
use std::time::Duration;

use crate::error_kind::ErrorKind;

/// What the commands say when the engine is away, or has too much to do: Slurm's, then `kubectl`.
const OUTAGES: [&str; 14] = [
    "Unable to contact slurm controller",
    "Socket timed out on send/recv operation",
    "Zero Bytes were transmitted or received",
    "Resource temporarily unavailable",
    "Slurm backup controller in standby mode",
    "The connection to the server",
    "connection refused",
    "connection reset by peer",
    "i/o timeout",
    "TLS handshake timeout",
    "etcdserver:",
    "(ServiceUnavailable)",
    "(TooManyRequests)",
    "(Timeout)",
];
/// What `kubectl` says beside that when waiting doesn't help.
const NO_OUTAGES: [&str; 3] = ["x509:", "no such host", "getting credentials"];

/// What went wrong with a command of an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can't be started.
    #[error("cannot run `{program}`: is it installed on this machine?")]
    CannotRun {
        /// The command.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It failed.
    #[error("`{program}` failed: {message}")]
    Failed {
        /// The command.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// It didn't end.
    #[error("`{program}` did not answer within {} s: is the cluster up?", limit.as_secs())]
    TimedOut {
        /// The command.
        program: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It printed something else.
    #[error("`{program}` printed `{printed}`, which nimctl cannot read")]
    Unreadable {
        /// The command.
        program: &'static str,
        /// What it printed.
        printed: String,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Cancelled,
}

impl EngineError {
    /// Returns whether the engine could not be reached: it may be being restarted.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Failed { message, .. } => {
                OUTAGES.iter().any(|words| message.contains(words))
                    && !NO_OUTAGES.iter().any(|words| message.contains(words))
            }
            Self::CannotRun { .. } | Self::Unreadable { .. } | Self::Cancelled => false,
        }
    }

    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CannotRun { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Unreadable { .. } => ErrorKind::Unavailable,
            Self::Cancelled => ErrorKind::Interrupted,
        }
    }
}

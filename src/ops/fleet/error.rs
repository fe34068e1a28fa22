//! Why a request of a fleet has no result.

use crate::engines::EngineError;
use crate::error_kind::ErrorKind;
use crate::exchange::ExchangeError;
use crate::ops::error::JobError;

/// Why a request has no result: the engine, the shared folder, or the node.
#[derive(Clone, Debug, thiserror::Error)]
#[error("executor {executor}: {message}")]
pub struct FleetFailure {
    /// The executor.
    pub executor: String,
    /// What it means for the exit code.
    pub kind: ErrorKind,
    /// What went wrong, and what to do.
    pub message: String,
    /// Whether a registry is away, which may be back soon.
    pub(in crate::ops) is_outage: bool,
}

impl FleetFailure {
    pub(in crate::ops) fn new(executor: &str, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { executor: executor.into(), kind, message: message.into(), is_outage: false }
    }

    pub(in crate::ops) fn of_exchange(executor: &str) -> impl Fn(ExchangeError) -> Self {
        move |error| {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            let is_outage = error.is_outage();
            let JobError { kind, message, .. } = JobError::new(error.kind(), error);
            Self { is_outage, ..Self::new(executor, kind, format!("{message}{hint}")) }
        }
    }

    pub(in crate::ops) fn of_engine(executor: &str) -> impl Fn(EngineError) -> Self {
        move |error| Self::new(executor, error.kind(), JobError::new(error.kind(), error).message)
    }
}

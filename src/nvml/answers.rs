//! Queries to NVML, and what it means if one fails.

use nvml_wrapper::error::NvmlError;

use crate::device::{Problem, ProblemKind};

/// How important a fact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Every GPU should report it.
    Needed,
    /// Many GPUs don't have it and older drivers don't report it: that is not a problem.
    Optional,
    /// It may be absent for any reason.
    Slight,
}

/// The facts that NVML did not report, grouped by its answer.
#[derive(Debug, Default)]
pub(super) struct Answers {
    refused: Vec<(ProblemKind, String, Vec<&'static str>)>,
    lost: Option<Problem>,
}

impl Answers {
    /// Asks for one fact; a lost GPU is not asked again.
    pub(super) fn ask<T>(
        &mut self,
        what: &'static str,
        weight: Weight,
        question: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Option<T> {
        if self.lost.is_some() {
            return None;
        }
        let error = match question() {
            Ok(answer) => return Some(answer),
            Err(error) => error,
        };
        match (kind_of(&error), weight) {
            (ProblemKind::DeviceLost, _) => {
                self.lost = Some(lost(&format!("could not report {what}"), &words(&error)));
            }
            (_, Weight::Slight) => {}
            (ProblemKind::NotSupported | ProblemKind::TooOld, Weight::Optional) => {}
            (kind, _) => self.note(kind, words(&error), what),
        }
        None
    }

    fn note(&mut self, kind: ProblemKind, answer: String, what: &'static str) {
        match self.refused.iter_mut().find(|known| (known.0, &known.1) == (kind, &answer)) {
            Some((_, _, whats)) if whats.contains(&what) => {}
            Some((_, _, whats)) => whats.push(what),
            None => self.refused.push((kind, answer, vec![what])),
        }
    }

    /// Returns the problems, each with the facts that are missing because of it.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let Self { refused, lost } = self;
        let refused = refused.into_iter().map(|(kind, answer, whats)| Problem {
            kind,
            message: format!("NVML could not report {}: {answer}", list(&whats)),
            hint: hint(kind).map(Into::into),
        });
        refused.chain(lost).collect()
    }
}

/// The problem of a GPU that stopped answering; `what` is what NVML could not do.
pub(super) fn lost(what: &str, answer: &str) -> Problem {
    Problem {
        kind: ProblemKind::DeviceLost,
        message: format!("NVML {what}: {answer}; no other facts were read"),
        hint: Some(
            "look for its PCI address and Xid lines in `dmesg`; a reset (`nvidia-smi --gpu-reset`) or a reboot may bring it back".into(),
        ),
    }
}

/// Returns what an error means.
pub(super) fn kind_of(error: &NvmlError) -> ProblemKind {
    match error {
        // 25: a structure of a version that the library doesn't know.
        NvmlError::FailedToLoadSymbol(_)
        | NvmlError::FunctionNotFound
        | NvmlError::LibRmVersionMismatch
        | NvmlError::UnexpectedVariant(25) => ProblemKind::TooOld,
        NvmlError::NoPermission | NvmlError::OperatingSystem => ProblemKind::NotPermitted,
        NvmlError::GpuLost | NvmlError::ResetRequired => ProblemKind::DeviceLost,
        // 26: deprecated and removed.
        NvmlError::NotSupported | NvmlError::UnexpectedVariant(26) => ProblemKind::NotSupported,
        NvmlError::DriverNotLoaded => ProblemKind::NoDriver,
        // 28: the driver has no GPU.
        NvmlError::UnexpectedVariant(28) => ProblemKind::NoGpu,
        _ => ProblemKind::Other,
    }
}

/// Returns NVML's answer in words.
pub(super) fn words(error: &NvmlError) -> String {
    match error {
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "no such function".into(),
        NvmlError::NoPermission => "no permission".into(),
        NvmlError::OperatingSystem => "blocked by the operating system".into(),
        NvmlError::NotSupported => "not supported".into(),
        NvmlError::GpuLost => "the GPU is lost: it fell off the bus or can't be reached".into(),
        NvmlError::ResetRequired => "the GPU must be reset".into(),
        NvmlError::Unknown => "internal driver error".into(),
        NvmlError::UnexpectedVariant(code) => format!("error {code}"),
        other => other.to_string(),
    }
}

/// Returns what to do about facts that were not reported.
fn hint(kind: ProblemKind) -> Option<&'static str> {
    match kind {
        ProblemKind::TooOld => Some("the driver is too old to report this: update it to 525 or later"),
        ProblemKind::NotPermitted => {
            Some("run as a user with permission; in a container, the runtime decides what is allowed")
        }
        ProblemKind::NotSupported => None,
        _ => Some("check whether `nvidia-smi -q` says more, and look for NVRM and Xid lines in `dmesg`"),
    }
}

/// Joins words: `a`, `a and b`, `a, b and c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

//! Questions to NVML, and what it means when one is not answered.

use nvml_wrapper::error::NvmlError;

use crate::device::{Problem, ProblemKind};

/// How much a fact is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Every GPU should tell.
    Needed,
    /// Many kinds of GPU have no such thing, and older drivers don't know of it: that is an answer.
    Optional,
    /// Nobody misses it.
    Slight,
}

/// What was not answered, those of one answer together.
#[derive(Debug, Default)]
pub(super) struct Answers {
    refused: Vec<(ProblemKind, String, Vec<&'static str>)>,
    lost: Option<Problem>,
}

impl Answers {
    /// Asks for one fact; a lost GPU is not asked any more.
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
                self.lost = Some(lost(&format!("asked for {what}"), &words(&error)));
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

    /// Returns the problems, each with the facts that it keeps back.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let Self { refused, lost } = self;
        let refused = refused.into_iter().map(|(kind, answer, whats)| Problem {
            kind,
            message: format!("asked for {}, NVML answered: {answer}", list(&whats)),
            hint: hint(kind).map(Into::into),
        });
        refused.chain(lost).collect()
    }
}

/// The problem of a GPU that stopped answering when it was asked for something.
pub(super) fn lost(asked: &str, answer: &str) -> Problem {
    Problem {
        kind: ProblemKind::DeviceLost,
        message: format!("{asked}, NVML answered: {answer}; it was asked no further"),
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
        // 26: deprecated, and taken away.
        NvmlError::NotSupported | NvmlError::UnexpectedVariant(26) => ProblemKind::NotSupported,
        NvmlError::DriverNotLoaded => ProblemKind::NoDriver,
        // 28: the driver has no GPU.
        NvmlError::UnexpectedVariant(28) => ProblemKind::NoGpu,
        _ => ProblemKind::Other,
    }
}

/// Returns an error in words that say what NVML said.
pub(super) fn words(error: &NvmlError) -> String {
    match error {
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "no such function".into(),
        NvmlError::NoPermission => "no permission".into(),
        NvmlError::OperatingSystem => "blocked by the operating system".into(),
        NvmlError::NotSupported => "not supported".into(),
        NvmlError::GpuLost => "the GPU is lost: it fell off the bus or can't be reached".into(),
        NvmlError::ResetRequired => "the GPU must be reset".into(),
        NvmlError::Unknown => "an internal error of the driver".into(),
        NvmlError::UnexpectedVariant(code) => format!("error {code}"),
        other => other.to_string(),
    }
}

/// Returns what to do about facts that were not told.
fn hint(kind: ProblemKind) -> Option<&'static str> {
    match kind {
        ProblemKind::TooOld => Some("the driver is older than these questions: update it to 525 or later"),
        ProblemKind::NotPermitted => {
            Some("ask as a user who may; in a container, its runtime decides what may be asked")
        }
        ProblemKind::NotSupported => None,
        _ => Some("see whether `nvidia-smi -q` says more, and look for NVRM and Xid lines in `dmesg`"),
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

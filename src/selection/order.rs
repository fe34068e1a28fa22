//! The order of profiles that fit.

use std::cmp::Reverse;

use serde::Serialize;

use super::tag_meaning::{Requirement, of_tags};
use super::{Facts, Lora, Rank};
use crate::manifest::{ManifestProfile, is_set};

/// The sort key of profiles; lower is better.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Whether LoRA was requested and it has none.
    lacks_lora: bool,
    rank: Rank,
    readiness: Readiness,
    preference: u8,
    is_not_validated: bool,
    /// Bits of its precision, negated if it is not validated: then more bits are better.
    precision_bits: i32,
    goal: Goal,
    tensor_parallelism: Reverse<u64>,
    batch_size: Reverse<u64>,
    id: String,
}

/// What a profile is tuned for, in NIM's order (the tag `profile`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Goal {
    Latency,
    Other,
    Throughput,
}

/// What stands between a profile and its first answer; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    /// Nothing.
    Ready,
    /// Its engine must be built first.
    BuiltAtStart,
    /// It is a plan for a GPU that no tag names, so that it may not load.
    MayNotLoad,
}

impl Readiness {
    fn of(requirement: &Requirement<'_>) -> Self {
        if requirement.is_built_at_start {
            Self::BuiltAtStart
        } else if requirement.is_for_unknown_gpu() {
            Self::MayNotLoad
        } else {
            Self::Ready
        }
    }
}

/// Why one profile ranks before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It serves LoRA adapters, and these were requested.
    Lora,
    /// It names the GPU more closely.
    Rank,
    /// It needs no build at the start, or it is not a plan for an unknown GPU.
    Ready,
    /// TensorRT before TensorRT-RTX before others before ONNX.
    Backend,
    /// It passed validation, and the other was not validated.
    Validated,
    /// Both passed validation, and it has the lower precision.
    LowerPrecision,
    /// Neither was validated, and it has the higher precision.
    HigherPrecision,
    /// It is tuned for latency, or the other for throughput.
    Latency,
    /// It uses more GPUs.
    MoreGpus,
    /// It takes larger batches.
    LargerBatch,
    /// Only their ids differ.
    Id,
}

pub(super) fn key(profile: &ManifestProfile, facts: &Facts, rank: Rank, lora: Lora) -> Key {
    let tag = |key: &str| profile.tags.get(key).map(|value| value.to_lowercase());
    let is_validated = facts.validated == Some(true);
    let requirement = of_tags(&profile.tags);
    let bits = tag("precision").map_or(0, |precision| precision_bits(&precision));
    let number = |key: &str| Reverse(tag(key).and_then(|number| number.parse().ok()).unwrap_or(0));
    Key {
        lacks_lora: lora == Lora::Preferred && !is_set(&profile.tags, "feat_lora"),
        rank,
        readiness: Readiness::of(&requirement),
        preference: requirement.runtime.preference,
        is_not_validated: !is_validated,
        precision_bits: if is_validated { bits } else { -bits },
        goal: match tag("profile").as_deref() {
            Some("latency") => Goal::Latency,
            Some("throughput") => Goal::Throughput,
            _ => Goal::Other,
        },
        tensor_parallelism: number("tp"),
        batch_size: number("batch_size"),
        id: profile.id.clone(),
    }
}

/// Returns the bits of a precision: `fp16` has 16, `nvfp4` 4; unknown names count as 32.
fn precision_bits(precision: &str) -> i32 {
    let digits = precision.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = digits.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().ok().filter(|bits| (1..=64).contains(bits)).unwrap_or(32)
}

/// Returns the first rule that puts one key before another.
pub(super) fn reason(first: &Key, second: &Key) -> Reason {
    let Key {
        lacks_lora,
        rank,
        readiness,
        preference,
        is_not_validated,
        precision_bits,
        goal,
        tensor_parallelism,
        batch_size,
        id: _,
    } = first;
    if *lacks_lora != second.lacks_lora {
        Reason::Lora
    } else if *rank != second.rank {
        Reason::Rank
    } else if *readiness != second.readiness {
        Reason::Ready
    } else if *preference != second.preference {
        Reason::Backend
    } else if *is_not_validated != second.is_not_validated {
        Reason::Validated
    } else if *precision_bits != second.precision_bits {
        if *is_not_validated { Reason::HigherPrecision } else { Reason::LowerPrecision }
    } else if *goal != second.goal {
        Reason::Latency
    } else if *tensor_parallelism != second.tensor_parallelism {
        Reason::MoreGpus
    } else if *batch_size != second.batch_size {
        Reason::LargerBatch
    } else {
        Reason::Id
    }
}

impl Reason {
    /// Returns the reason as a phrase that follows "preferred because".
    pub fn text(self) -> &'static str {
        match self {
            Self::Lora => "it serves LoRA adapters, as NIM_PEFT_SOURCE requests",
            Self::Rank => "it names the GPU more closely",
            Self::Ready => "the other is built when it starts, or was built on an unknown GPU",
            Self::Backend => {
                "TensorRT ranks above TensorRT-RTX, which ranks above other backends, and ONNX ranks last"
            }
            Self::Validated => "it passed validation",
            Self::LowerPrecision => "both passed validation, and its precision is lower",
            Self::HigherPrecision => "neither was validated, and its precision is higher",
            Self::Latency => "latency ranks above throughput",
            Self::MoreGpus => "it uses more GPUs",
            Self::LargerBatch => "it takes larger batches",
            Self::Id => "only their ids differ",
        }
    }
}

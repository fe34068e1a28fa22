//! Why a profile doesn't fit a kind of GPU.

use std::fmt;

use crate::compute_capability::ComputeCapability;
use crate::profile::Tags;

/// Why a profile doesn't fit. Rules are checked in this order; the first broken rule is reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The user requested other tags.
    TagSelector {
        /// The requested tag.
        wanted: String,
        /// Its value in the profile.
        is: Option<String>,
    },
    /// It serves LoRA adapters, and the user requested none.
    LoraNotRequested,
    /// A tag that selection needs can't be read.
    UnreadableTag(String),
    /// It needs a GPU, and the host has none.
    NoGpu,
    /// It is for another GPU.
    OtherGpu {
        /// The GPU that it is for.
        wanted: String,
        /// The GPU here.
        is: String,
    },
    /// Its pattern doesn't match the product's name.
    ProductPattern {
        /// The pattern.
        pattern: String,
        /// The name that it was matched against.
        name: String,
    },
    /// Its plan has no code for this GPU.
    ComputeCapability {
        /// The compute capabilities that it is for.
        wanted: Vec<ComputeCapability>,
        /// Whether the plan also runs on later compute capabilities.
        and_later: bool,
        /// The GPU's compute capability.
        is: ComputeCapability,
    },
    /// The compute capability of the GPU isn't known.
    UnknownComputeCapability,
    /// It was tuned on a whole GPU, and this is a MIG instance.
    TunedForWholeGpu,
    /// It needs several GPUs of one kind, and fewer are usable.
    TooFewGpus {
        /// How many it needs.
        wanted: u32,
        /// How many are usable.
        is: usize,
    },
    /// The driver is too old.
    Driver {
        /// The CUDA major version that it needs.
        wanted_cuda_major: u32,
        /// The newest CUDA version that the driver supports.
        is: String,
    },
    /// It is larger than the GPU's memory.
    Memory {
        /// The memory that its files need on one GPU, in bytes.
        wanted_bytes: u64,
        /// The GPU's total memory, in bytes.
        is_bytes: u64,
    },
    /// It failed validation.
    FailedValidation,
}

impl Rejection {
    /// Makes the rejection of a profile that lacks a requested tag.
    pub(super) fn of_tag(key: &str, wanted: &str, tags: &Tags) -> Self {
        Self::TagSelector {
            wanted: format!("{key}={wanted}"),
            is: tags.get(key).map(|value| format!("{key}={value}")),
        }
    }

    /// Returns its name in JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TagSelector { .. } => "tag_selector",
            Self::LoraNotRequested => "lora_not_requested",
            Self::UnreadableTag(_) => "unreadable_tag",
            Self::NoGpu => "no_gpu",
            Self::OtherGpu { .. } => "other_gpu",
            Self::ProductPattern { .. } => "product_pattern",
            Self::ComputeCapability { .. } => "compute_capability",
            Self::UnknownComputeCapability => "unknown_compute_capability",
            Self::TunedForWholeGpu => "tuned_for_whole_gpu",
            Self::TooFewGpus { .. } => "too_few_gpus",
            Self::Driver { .. } => "driver",
            Self::Memory { .. } => "memory",
            Self::FailedValidation => "failed_validation",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TagSelector { wanted, is: Some(is) } => {
                write!(f, "{wanted} was requested, but this profile has {is}")
            }
            Self::TagSelector { wanted, is: None } => {
                write!(f, "{wanted} was requested, but this profile has no such tag")
            }
            Self::LoraNotRequested => f.write_str(
                "it serves LoRA adapters, and none were requested: set NIM_PEFT_SOURCE, or request feat_lora=true or the profile",
            ),
            Self::UnreadableTag(problem) => f.write_str(problem),
            Self::NoGpu => f.write_str("needs a GPU, but this host has none"),
            Self::OtherGpu { wanted, is } => write!(f, "built for {wanted}, but this GPU is {is}"),
            Self::ProductPattern { pattern, name } => {
                write!(f, "its product_name_regex {pattern} doesn't match {name}")
            }
            Self::ComputeCapability { wanted, and_later, is } => {
                let list = wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let later = if *and_later { " and later" } else { "" };
                write!(f, "built for compute capability {list}{later}, but this GPU has {is}")
            }
            Self::UnknownComputeCapability => {
                f.write_str("built for a specific compute capability, but this GPU's is unknown")
            }
            Self::TunedForWholeGpu => f.write_str("tuned on a whole GPU, but this is a MIG instance"),
            Self::TooFewGpus { wanted, is } => {
                write!(f, "needs {wanted} GPUs of one kind; usable here: {is}")
            }
            Self::Driver { wanted_cuda_major, is } => write!(
                f,
                "needs a driver for CUDA {wanted_cuda_major}, but this one supports CUDA up to {is}: update the driver"
            ),
            Self::Memory { wanted_bytes, is_bytes } => write!(
                f,
                "its files alone take {}, and this GPU has {}",
                gibibytes(*wanted_bytes),
                gibibytes(*is_bytes)
            ),
            Self::FailedValidation => f.write_str("it failed validation"),
        }
    }
}

/// Formats a memory size in GiB.
pub(super) fn gibibytes(size_bytes: u64) -> String {
    format!("{:.1} GiB", size_bytes as f64 / f64::from(1 << 30))
}

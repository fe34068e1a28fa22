//! Why a profile doesn't fit a kind of GPU.

use std::fmt;

use crate::compute_capability::ComputeCapability;
use crate::profile::Tags;

/// Why a profile doesn't fit; the rules are tried in this order, and the first one that is broken is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The user asked for other tags.
    TagSelector {
        /// The tag that was asked for.
        wanted: String,
        /// Its value in the profile.
        is: Option<String>,
    },
    /// A tag that selection needs can't be read.
    UnreadableTag(String),
    /// It needs a GPU, and there is none.
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
        /// The name that it was held against.
        name: String,
    },
    /// Its plan has no code for this GPU.
    ComputeCapability {
        /// What it is for.
        wanted: Vec<ComputeCapability>,
        /// Whether the plan also runs on what comes after.
        and_later: bool,
        /// The GPU's.
        is: ComputeCapability,
    },
    /// The compute capability of the GPU isn't known.
    UnknownComputeCapability,
    /// It is tuned for a whole GPU.
    TunedForWholeGpu,
    /// It runs on several GPUs of one kind, and there are fewer.
    TooFewGpus {
        /// How many it runs on.
        wanted: u32,
        /// How many there are.
        is: usize,
    },
    /// The driver is too old.
    Driver {
        /// The CUDA that it needs.
        wanted_cuda_major: u32,
        /// The newest CUDA that the driver runs.
        is: String,
    },
    /// It is larger than the GPU's memory.
    Memory {
        /// The least it needs on one GPU, in bytes.
        wanted_bytes: u64,
        /// All memory of the GPU, in bytes.
        is_bytes: u64,
    },
    /// It didn't pass its validation.
    FailedValidation,
}

impl Rejection {
    /// Makes the rejection of a profile with other tags than the one asked for.
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
            Self::TagSelector { wanted, is: Some(is) } => write!(f, "asked for {wanted}, and it has {is}"),
            Self::TagSelector { wanted, is: None } => write!(f, "asked for {wanted}, and it has no such tag"),
            Self::UnreadableTag(problem) => f.write_str(problem),
            Self::NoGpu => f.write_str("needs a GPU, and there is none"),
            Self::OtherGpu { wanted, is } => write!(f, "built for {wanted}, and this is {is}"),
            Self::ProductPattern { pattern, name } => write!(f, "its pattern {pattern} doesn't match {name}"),
            Self::ComputeCapability { wanted, and_later, is } => {
                let list = wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let later = if *and_later { " and later" } else { "" };
                write!(f, "built for compute capability {list}{later}, and this GPU has {is}")
            }
            Self::UnknownComputeCapability => {
                f.write_str("built for a compute capability, and this GPU's isn't known")
            }
            Self::TunedForWholeGpu => f.write_str("tuned on a whole GPU, and this is a MIG instance"),
            Self::TooFewGpus { wanted, is } => {
                write!(f, "runs on {wanted} GPUs of one kind, and there are {is}")
            }
            Self::Driver { wanted_cuda_major, is } => write!(
                f,
                "needs a driver for CUDA {wanted_cuda_major}, and this one runs CUDA {is} at most: update the driver"
            ),
            Self::Memory { wanted_bytes, is_bytes } => write!(
                f,
                "its files alone are {}, and this GPU has {}",
                gibibytes(*wanted_bytes),
                gibibytes(*is_bytes)
            ),
            Self::FailedValidation => f.write_str("it didn't pass its validation"),
        }
    }
}

/// Returns a size of memory for people, in units of 1024³ bytes.
pub(super) fn gibibytes(size_bytes: u64) -> String {
    format!("{:.1} GiB", size_bytes as f64 / f64::from(1 << 30))
}

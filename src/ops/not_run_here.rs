//! Why a profile is not run on this machine.

use std::fmt;
use std::path::PathBuf;

use crate::backend::Backend;
use crate::compute_capability::ComputeCapability;
use crate::profile::capability_tag;
use crate::worker::protocol::{Problem, WorkerDevice};

/// Why a profile is not run on this machine. People get the words; keys have the tag, so that rewording a reason makes no
/// result out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotRunHere {
    /// The backend's worker or library isn't there, or does not start.
    NoWorker {
        /// The backend.
        backend: Backend,
        /// What went wrong.
        why: String,
    },
    /// The worker says that it can't run anything here.
    Unavailable {
        /// The backend.
        backend: Backend,
        /// What it says.
        problem: Problem,
    },
    /// The GPU that was asked for does not exist.
    NoSuchGpu {
        /// The backend.
        backend: Backend,
        /// The number that was asked for.
        number: u32,
        /// How many GPUs the worker sees.
        count: usize,
    },
    /// The store is not in the folder that the nodes of an executor see.
    StoreNotShared {
        /// The backend.
        backend: Backend,
        /// The executor.
        executor: String,
        /// The folder.
        shared: PathBuf,
    },
    /// The executor that offers it runs jobs of Kubernetes, which only build.
    OnlyBuilds {
        /// The backend.
        backend: Backend,
        /// The executor.
        executor: String,
    },
    /// No GPU here, or not the one that was asked for, is of a compute capability that the profile has code for.
    NoGpuFits {
        /// The backend.
        backend: Backend,
        /// What the profile needs.
        needs: Vec<ComputeCapability>,
        /// What is here.
        devices: Vec<WorkerDevice>,
    },
}

impl NotRunHere {
    /// Returns what stands for the reason in keys. A tag never changes.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::NoWorker { backend: _, why: _ } => "no-worker",
            Self::Unavailable { backend: _, problem: _ } => "unavailable",
            Self::NoSuchGpu { backend: _, number: _, count: _ } => "no-such-gpu",
            Self::NoGpuFits { backend: _, needs: _, devices: _ } => "no-gpu-fits",
            Self::StoreNotShared { backend: _, executor: _, shared: _ } => "store-not-shared",
            Self::OnlyBuilds { backend: _, executor: _ } => "only-builds",
        }
    }
}

impl fmt::Display for NotRunHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorker { backend, why } => write!(f, "{backend} cannot run it here: {why}"),
            Self::Unavailable { backend, problem } => {
                write!(f, "{backend} cannot run it here: {}", problem.message)
            }
            Self::NoSuchGpu { backend, number, count } => {
                write!(
                    f,
                    "{backend} cannot run it here: GPU {number} does not exist (GPUs found by the worker: {count})"
                )
            }
            Self::StoreNotShared { backend, executor, shared } => {
                write!(
                    f,
                    "{backend} cannot run it on executor {executor}: the store must be inside {}, which its nodes see (--store)",
                    shared.display()
                )
            }
            Self::OnlyBuilds { backend, executor } => {
                write!(
                    f,
                    "{backend} cannot run it on executor {executor}: through Kubernetes, nimctl only builds; publish the release, and run this \
                     command on a node"
                )
            }
            Self::NoGpuFits { backend, needs, devices } => {
                let needs = capability_tag(needs).replace('+', " or ");
                let here: Vec<String> = devices
                    .iter()
                    .map(|device| format!("{} is {}", device.name, device.compute_capability))
                    .collect();
                let here = here.join(", ");
                write!(f, "{backend} cannot run it here: it needs compute capability {needs}, but {here}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::protocol::ErrorCode;

    /// Validation keys hold these: one that changes makes every emulated result out of date.
    #[test]
    fn tags_never_change() {
        let backend = || Backend::new("tensorrt").unwrap();
        let problem = Problem::new(ErrorCode::NoDriver, "no driver");
        for (reason, tag, words) in [
            (NotRunHere::NoWorker { backend: backend(), why: "gone".into() }, "no-worker", "gone"),
            (NotRunHere::Unavailable { backend: backend(), problem }, "unavailable", "no driver"),
            (
                NotRunHere::NoSuchGpu { backend: backend(), number: 3, count: 1 },
                "no-such-gpu",
                "GPU 3 does not exist (GPUs found by the worker: 1)",
            ),
            (
                NotRunHere::NoGpuFits {
                    backend: backend(),
                    needs: vec![ComputeCapability::new(8, 0), ComputeCapability::new(9, 0)],
                    devices: vec![WorkerDevice {
                        name: "NVIDIA L4".into(),
                        compute_capability: ComputeCapability::new(8, 9),
                        pci_address: None,
                    }],
                },
                "no-gpu-fits",
                "it needs compute capability 8.0 or 9.0, but NVIDIA L4 is 8.9",
            ),
        ] {
            assert_eq!(reason.tag(), tag);
            assert_eq!(reason.to_string(), format!("tensorrt cannot run it here: {words}"));
        }
    }
}

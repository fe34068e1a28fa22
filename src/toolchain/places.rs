//! Where things are and who is told: what the binary knows and this library doesn't ask for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Lock, Tool};

/// Folders that a system's loader usually searches, for [`Places::loader_folders`].
pub const STANDARD_LIBRARY_FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/cuda/lib64",
    "/usr/local/tensorrt/lib",
];

/// Where tools are kept, looked for and pinned.
#[derive(Clone, Debug)]
pub struct Places {
    /// The folder that holds `toolchains/` and `sources/`; made where absent.
    pub data_folder: PathBuf,
    /// The pins: [`Lock::embedded`], or a file's.
    pub lock: Lock,
    /// The user's own copies, each a library file or the folder that holds it; they win over installed ones.
    pub overrides: BTreeMap<Tool, PathBuf>,
    /// Searched in this order for a tool that no wheel holds (`LD_LIBRARY_PATH`, then [`STANDARD_LIBRARY_FOLDERS`]).
    pub loader_folders: Vec<PathBuf>,
    /// The machine to install for, as the lock names it: [`current_host`].
    pub host: String,
}

impl Places {
    /// Makes one with the embedded pins, this host, and nothing overridden.
    pub fn new(data_folder: impl Into<PathBuf>) -> Self {
        Self {
            data_folder: data_folder.into(),
            lock: Lock::embedded(),
            overrides: BTreeMap::new(),
            loader_folders: Vec::new(),
            host: current_host(),
        }
    }

    pub(crate) fn toolchains(&self) -> PathBuf {
        self.data_folder.join("toolchains")
    }

    pub(crate) fn tool_folder(&self, tool: Tool) -> PathBuf {
        self.toolchains().join(tool.name())
    }

    pub(crate) fn digest_cache(&self) -> PathBuf {
        self.toolchains().join("digest-cache.json")
    }

    pub(crate) fn sources(&self, kind: &str) -> PathBuf {
        self.data_folder.join("sources").join(kind)
    }
}

/// Returns this machine's name in the lock file: `x86_64-linux`.
pub fn current_host() -> String {
    format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another process is at the same thing; no bytes to count.
    Waiting,
    /// Bytes arrive.
    Downloading,
    /// What arrived is hashed.
    Verifying,
    /// Files are unpacked, and hashed on the way.
    Unpacking,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done of this stage.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
}

/// The caller's ear and hand: told of progress, asked whether to stop.
pub struct Watch<'a> {
    /// Called a few times a second, and at the end of each stage.
    pub progress: &'a mut dyn FnMut(Progress),
    /// Asked a few times a second; `true` ends the work with an error and leaves nothing half done.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Watch<'_> {
    pub(crate) fn tell(&mut self, stage: Stage, done_bytes: u64, total_bytes: Option<u64>) {
        let done_bytes = total_bytes.map_or(done_bytes, |total| done_bytes.min(total));
        (self.progress)(Progress { stage, done_bytes, total_bytes });
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        (self.cancelled)()
    }
}

/// Returns the size of the largest file below a folder: while something is fetched, that is the thing.
pub(crate) fn largest_file_bytes(folder: &Path) -> u64 {
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.len())
        .max()
        .unwrap_or(0)
}

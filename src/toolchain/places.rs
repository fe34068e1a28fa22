//! Where things are: what the binary knows and this library doesn't ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::lock::Lock;
use crate::backend::Tool;

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
    /// Searched in this order for a tool that no wheel contains (`LD_LIBRARY_PATH`, then [`STANDARD_LIBRARY_FOLDERS`]).
    pub loader_folders: Vec<PathBuf>,
    /// The machine to install for, as the lock names it: [`current_host`].
    pub host: String,
}

impl Places {
    /// Returns one with the embedded pins, this host, and no overrides.
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

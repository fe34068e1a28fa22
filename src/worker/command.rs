//! How to start a worker.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::discover;

/// How to start a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendCommand {
    /// The executable, named `nimctl-backend-<name>`.
    pub path: PathBuf,
    /// What is added to the environment that the worker inherits.
    pub environment: BTreeMap<String, OsString>,
}

impl BackendCommand {
    /// Returns a command that adds nothing to the environment.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), environment: BTreeMap::new() }
    }

    /// Returns the name of the backend, from the executable's.
    pub fn name(&self) -> String {
        discover::backend_name(&self.path)
    }
}

//! How to start a worker.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::discover;

/// How to start a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendCommand {
    /// The executable, named `nimctl-backend-<name>`.
    pub path: PathBuf,
    /// What is added to the environment that the worker inherits.
    pub environment: BTreeMap<String, OsString>,
    /// Variables of the environment that it does not inherit.
    pub withheld: Vec<String>,
    /// What starts it on another machine, if it does not run on this one.
    pub through: Option<Launch>,
}

/// A program that starts a worker on another machine, and passes on what it reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program with its arguments; it is told what to start.
    pub program: Vec<OsString>,
    /// The whole environment of the program.
    pub environment: BTreeMap<String, OsString>,
    /// How long it may take until a machine is free.
    pub wait: Duration,
}

impl BackendCommand {
    /// Returns a command that adds nothing to the environment.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), environment: BTreeMap::new(), withheld: Vec::new(), through: None }
    }

    /// Returns the name of the backend, from the executable's.
    pub fn name(&self) -> String {
        discover::backend_name(&self.path)
    }
}

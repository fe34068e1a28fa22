//! What every operation needs from outside: made once by a command, handed on to everything that it does.

use std::path::PathBuf;
use std::time::Duration;

use crate::ops::fleet::UsedFleet;
use crate::toolchain::{Pip, Places};
use crate::worker::discover::SearchPath;
use crate::worker::host::Cancel;

/// Where everything is, and how much may be used.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The store's folder.
    pub store: PathBuf,
    /// Where toolchains and fetched sources are.
    pub places: Places,
    /// How pip is run, for sources that are Python packages.
    pub pip: Pip,
    /// Where workers are.
    pub search_path: SearchPath,
    /// At most this many jobs run at a time.
    pub parallel_jobs: usize,
    /// A job of a worker may take at most this long.
    pub job_timeout: Duration,
    /// Variables of the environment that no worker gets: those with secrets.
    pub secrets: Vec<String>,
    /// The machines that jobs may run on beside this one.
    pub fleet: Option<UsedFleet>,
    /// Set to stop.
    pub cancel: Cancel,
}

//! The bindings of TensorRT, which cargo would compile again in the second build of every machine.
//!
//! The build script of `trtx-sys` 0.9 writes headers into its own output folder, and asks cargo to run it again when they
//! change. Cargo compares their times with the instant at which the script was started, so that they count as changed
//! once: the second build runs the script again, and compiles everything that depends on it.

use std::fs::{File, FileTimes};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::project::Project;

/// The file whose time is that of the script's start.
const STARTED: &str = "invoked.timestamp";
/// The folder of the headers.
const HEADERS: &str = "out/trtx_transformed_headers";

/// Gives the headers that the build script wrote the time at which it was started.
pub(crate) fn settle(project: &Project) -> Result<()> {
    settle_in(project, &project.executables)
}

/// Does so for the executables in another folder of the build folder.
pub(crate) fn settle_in(project: &Project, executables: &Path) -> Result<()> {
    for build in project.shell.read_dir(executables.join("build"))? {
        let name = build.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("trtx-sys-") && build.join(HEADERS).is_dir() {
            settle_headers(project, &build)
                .with_context(|| format!("the times of the headers in {} cannot be set", build.display()))?;
        }
    }
    Ok(())
}

fn settle_headers(project: &Project, build: &Path) -> Result<()> {
    let started = build.join(STARTED).metadata()?.modified()?;
    for header in project.shell.read_dir(build.join(HEADERS))? {
        if header.metadata()?.modified()? > started {
            File::options().write(true).open(header)?.set_times(FileTimes::new().set_modified(started))?;
        }
    }
    Ok(())
}

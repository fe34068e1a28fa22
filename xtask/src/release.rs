//! `release`: from a fresh clone to the folder and the tar of a release.

use std::process::{ExitCode, ExitStatus};

use anyhow::Result;

use crate::build_engines::{DEMO_RECIPE, take_release};
use crate::project::{Project, Stdout, status};
use crate::set_up::set_up;

/// Where the demo's release goes without another place being named.
const DEMO_RELEASE: &str = "target/release-of-nvclip-demo";

/// Sets everything up, then has `nimctl` make a release; its exit code is this task's.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<ExitCode> {
    let code = make(project, arguments)?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Sets everything up, has `nimctl` make a release, and returns how it ended.
pub(crate) fn make(project: &Project, arguments: &[String]) -> Result<ExitStatus> {
    let (is_release, arguments) = take_release(arguments);
    let release = project.in_release();
    let project = if is_release { &release } else { project };
    set_up(project)?;
    let mut command = vec!["release".to_owned()];
    if arguments.first().is_none_or(|first| first.starts_with('-')) {
        command.push(DEMO_RECIPE.into());
    }
    command.extend(arguments.iter().cloned());
    let names_place =
        arguments.iter().any(|argument| argument.starts_with("-o") || argument == "--output-dir");
    if !names_place {
        command.extend(["-o".to_owned(), DEMO_RELEASE.to_owned()]);
    }
    status(project.nimctl().args(command), Stdout::Passed)
}

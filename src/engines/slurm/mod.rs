//! Slurm, as its own commands know it: submits array jobs, asks how they are, cancels them.
//!
//! A script holds paths and no secrets, and a job gets what [`Submission::environment`] has and no more: both can be read by others. Every command
//! has a time limit, since a controller that is gone is waited for.

mod script;
mod states;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;

pub use script::Submission;

use super::{EngineError, call};
use crate::fleet::proposal::NodeLine;
use crate::fleet::{Slurm, Task};
use crate::process::Cancel;
use crate::worker::host::Launch;

/// Submits an array job of some tasks; returns its number.
///
/// # Errors
/// Slurm's commands are not here, or refuse.
pub fn submit(slurm: &Slurm, submission: &Submission<'_>, cancel: &Cancel) -> Result<String, EngineError> {
    let mut command = slurm_command("sbatch");
    command.args(submission.arguments(slurm)).env_clear().envs(submission.environment);
    let printed = call("sbatch", command, &submission.text(slurm), cancel)?;
    // The cluster's name may follow.
    let job = printed.trim().split(';').next().unwrap_or_default();
    if job.is_empty() || !job.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EngineError::Unreadable { program: "sbatch", printed: printed.trim().into() });
    }
    Ok(job.into())
}

/// Returns what starts a command on a node and passes on what it reads and writes: it ends when the command does, and the other way
/// round.
pub fn launch(
    slurm: &Slurm,
    name: &str,
    command: &[String],
    environment: &BTreeMap<String, OsString>,
) -> Launch {
    let mut program =
        vec!["srun".to_owned(), "--quiet".into(), format!("--job-name={name}"), "--chdir=/".into()];
    program.extend(script::resources(slurm));
    program.extend(command.iter().cloned());
    let mut environment = environment.clone();
    environment.extend(slurm.environment.iter().map(|(name, value)| (name.clone(), value.into())));
    let program = program.into_iter().map(OsString::from).collect();
    Launch { program, environment, wait: slurm.max_wait.duration() }
}

/// Returns the tasks of some jobs, as far as the controller still knows them: those that ended, for some minutes.
///
/// # Errors
/// As [`submit`].
pub fn tasks(jobs: &[&str], cancel: &Cancel) -> Result<Vec<Task>, EngineError> {
    let mut command = slurm_command("squeue");
    command.args([
        "--noheader",
        "--array",
        "--states=all",
        "--format",
        states::FORMAT,
        "--jobs",
        &jobs.join(","),
    ]);
    match call("squeue", command, "", cancel) {
        Ok(printed) => Ok(printed.lines().filter_map(states::read).collect()),
        // Of a job that it has forgotten, the command knows no more than of one that never was.
        Err(EngineError::Failed { message, .. }) if message.contains("Invalid job id") => match jobs {
            [_] => Ok(Vec::new()),
            several => {
                let one_by_one: Result<Vec<Vec<Task>>, _> =
                    several.iter().map(|job| tasks(&[job], cancel)).collect();
                Ok(one_by_one?.concat())
            }
        },
        Err(error) => Err(error),
    }
}

/// Returns the nodes of the cluster, each once for every partition that it is in.
///
/// # Errors
/// As [`submit`].
pub fn nodes(cancel: &Cancel) -> Result<Vec<NodeLine>, EngineError> {
    let mut command = slurm_command("sinfo");
    // `%R` is the partition's name without the mark of the default one.
    command.args(["--noheader", "--Node", "--format=%R|%N|%G"]);
    let printed = call("sinfo", command, "", cancel)?;
    let line = |line: &str| {
        let mut parts = line.splitn(3, '|').map(|part| part.trim().to_owned());
        Some(NodeLine { partition: parts.next()?, node: parts.next()?, gres: parts.next()? })
    };
    Ok(printed.lines().filter_map(line).collect())
}

/// Cancels jobs with all of their tasks; what is over stays as it is.
///
/// # Errors
/// As [`submit`].
pub fn cancel(jobs: &[&str]) -> Result<(), EngineError> {
    scancel(jobs.iter().map(|&job| job.to_owned()).collect())
}

/// Cancels the jobs of a name, which nobody else has.
///
/// # Errors
/// As [`submit`].
pub fn cancel_named(name: &str) -> Result<(), EngineError> {
    scancel(vec![format!("--name={name}")])
}

fn scancel(what: Vec<String>) -> Result<(), EngineError> {
    let mut command = slurm_command("scancel");
    command.arg("--quiet").args(what);
    // What cancels everything else doesn't cancel this.
    call("scancel", command, "", &Cancel::new()).map(drop)
}

#[expect(
    clippy::disallowed_methods,
    reason = "process::run_on runs it; variables are taken away, and not read"
)]
fn slurm_command(program: &str) -> Command {
    let mut command = Command::new(program);
    // What a user prefers to see, or to cancel, is not what is asked here.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["SQUEUE_", "SCANCEL_", "SINFO_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

//! What runs jobs on other machines: Slurm and Kubernetes, as their own commands know them.

mod error;
pub mod kubernetes;
pub mod slurm;

use std::process::Command;
use std::time::Duration;

pub use error::EngineError;

use crate::process::{Cancel, Ended, run_on};

/// How long a command may take. A controller that restarts is waited for by the commands themselves.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command of an engine on a text, and returns what it prints.
fn call(
    program: &'static str,
    command: Command,
    input: &str,
    cancel: &Cancel,
) -> Result<String, EngineError> {
    match run_on(input, command, LIMIT, || !cancel.is_cancelled()) {
        Err(source) => Err(EngineError::CannotRun { program, source }),
        Ok((Ended::TimedOut, _)) => Err(EngineError::TimedOut { program, limit: LIMIT }),
        Ok((Ended::Stopped, _)) => Err(EngineError::Cancelled),
        Ok((Ended::Exited { status, .. }, printed)) if status.success() => Ok(printed),
        Ok((Ended::Exited { stderr_tail, .. }, _)) => {
            let prefixes = [format!("{program}: error: "), "error: ".to_owned()];
            let tamed = |line: &str| {
                let stripped = prefixes.iter().find_map(|prefix| line.strip_prefix(prefix.as_str()));
                stripped.unwrap_or(line).to_owned()
            };
            let lines: Vec<String> = stderr_tail.lines().map(tamed).collect();
            Err(EngineError::Failed { program, message: lines.join("; ") })
        }
    }
}

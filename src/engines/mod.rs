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
            let (log, said): (Vec<&str>, Vec<&str>) = stderr_tail.lines().partition(|line| is_of_log(line));
            let lines: Vec<String> =
                if said.is_empty() { log } else { said }.into_iter().map(tamed).collect();
            Err(EngineError::Failed { program, message: lines.join("; ") })
        }
    }
}

/// Returns whether a line is one of `kubectl`'s log, which comes before what it says to people: `E1127 19:02:38.127621 …`.
fn is_of_log(line: &str) -> bool {
    let (level, rest) = line.split_at_checked(1).unwrap_or_default();
    let day = rest.get(..4).unwrap_or_default();
    ["I", "W", "E", "F"].contains(&level)
        && day.len() == 4
        && day.bytes().all(|byte| byte.is_ascii_digit())
        && rest[4..].starts_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_told_from_what_is_said() {
        assert!(is_of_log("E1127 19:02:38.127621   18921 memcache.go:265] \"Unhandled Error\""));
        for said in ["Error from server (Forbidden): no", "E: 1127", "E11é7 x", ""] {
            assert!(!is_of_log(said), "{said}");
        }
    }
}

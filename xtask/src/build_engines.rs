//! `build-engines`: from a fresh clone to built profiles.

use std::process::ExitCode;

use anyhow::Result;

use crate::project::{Project, Stdout, status};
use crate::set_up::set_up;

/// The recipe that is built without another one being named.
pub(crate) const DEMO_RECIPE: &str = "recipes/nvclip-demo.yaml";

/// Sets everything up, then has `nimctl` build recipes; its exit code is this task's.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<ExitCode> {
    let (is_release, arguments) = take_release(arguments);
    let release = project.in_release();
    let project = if is_release { &release } else { project };
    set_up(project)?;
    let (recipes, options) = recipes_and_options(&arguments);
    for recipe in recipes {
        let command = project.nimctl().args(["build", recipe]).args(options);
        let status = status(command, Stdout::Passed)?;
        if !status.success() {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns whether `--release` is among the arguments, and the others, which are for `nimctl`.
pub(crate) fn take_release(arguments: &[String]) -> (bool, Vec<String>) {
    let others: Vec<String> = arguments.iter().filter(|argument| *argument != "--release").cloned().collect();
    (others.len() < arguments.len(), others)
}

/// Recipes come first; what follows the first option belongs to the options.
fn recipes_and_options(arguments: &[String]) -> (Vec<&str>, &[String]) {
    let count = arguments.iter().take_while(|argument| !argument.starts_with('-')).count();
    let (recipes, options) = arguments.split_at(count);
    if recipes.is_empty() {
        (vec![DEMO_RECIPE], options)
    } else {
        (recipes.iter().map(String::as_str).collect(), options)
    }
}

#[cfg(test)]
mod tests {
    use super::{DEMO_RECIPE, recipes_and_options};

    #[test]
    fn recipes_come_before_options() {
        let check = |arguments: &[&str], recipes: &[&str], options: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            let found = recipes_and_options(&arguments);
            assert_eq!(
                (found.0.as_slice(), found.1),
                (recipes, options.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice())
            );
        };
        check(&[], &[DEMO_RECIPE], &[]);
        check(&["--only", "gpu=l4"], &[DEMO_RECIPE], &["--only", "gpu=l4"]);
        check(&["a.yaml", "b.yaml", "-j", "1"], &["a.yaml", "b.yaml"], &["-j", "1"]);
    }
}

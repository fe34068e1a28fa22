//! `nimctl trust`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::ops::trust::{FirstPolicy, load, write_first};
use nimctl::trust::{BuiltHere, Rule, Trust};
use serde::Serialize;

use crate::cli;
use crate::exit::{Failure, done};
use crate::output::Output;

/// `nimctl.trust-check/1`, `nimctl.trust-init/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    policy: &'a Path,
    built_here: BuiltHere,
    rules: Vec<RuleView>,
}

#[derive(Serialize)]
struct RuleView {
    line: u32,
    accepts: String,
}

pub(crate) fn run(arguments: &cli::Trust, output: &Output) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    let (schema, policy, trust) = match arguments {
        cli::Trust::Init { key, models, destination, force } => {
            let (trust, place) = write_first(&FirstPolicy { key, models, destination, force: *force })?;
            let _ = writeln!(text, "wrote {}", destination.display());
            if place.is_absolute() {
                let _ = writeln!(text, "the policy reads the key from {}: keep it there", place.display());
            }
            ("nimctl.trust-init/1", destination, trust)
        }
        cli::Trust::Check { policy } => ("nimctl.trust-check/1", policy, load(policy)?),
    };
    text.push_str(&rules(&trust));
    let view = |rule: &Rule| RuleView { line: rule.line(), accepts: rule.describe() };
    output.result(
        &text,
        &View {
            schema,
            policy,
            built_here: trust.built_here(),
            rules: trust.rules().iter().map(view).collect(),
        },
    );
    Ok(done())
}

fn rules(trust: &Trust) -> String {
    let mut text = String::new();
    if trust.built_here() == BuiltHere::Accept {
        text.push_str("what is built on this host is accepted without a signature\n");
    }
    for rule in trust.rules() {
        let _ = writeln!(text, "line {}: {}", rule.line(), rule.describe());
    }
    text
}

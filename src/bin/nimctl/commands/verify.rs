//! `nimctl verify`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use nimctl::error_kind::ErrorKind;
use nimctl::ops::verify::{Finding, VerifyReport, verify};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::{verify_signature, verify_trust};
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::{counted, size};
use crate::{cli, environment};

pub(crate) fn run(arguments: &cli::Verify, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    if arguments.key.is_some() || !arguments.certificate_chain.is_empty() {
        return verify_signature::run(arguments, output, cancel);
    }
    if let Some((path, says)) = environment::trust_policy(arguments.trust.as_deref()) {
        return verify_trust::run(arguments, (&path, says), output, cancel);
    }
    let given = [
        (arguments.signature.is_some(), "--signature"),
        (arguments.attestations.is_some(), "--attestations"),
        (arguments.allow_symlinks, "--allow-symlinks"),
    ];
    if let Some((_, option)) = given.into_iter().find(|(is_given, _)| *is_given) {
        let message = format!(
            "{option} is about a signature: name whose is accepted with --key, --certificate-chain or --trust"
        );
        cli::Arguments::command().error(clap::error::ErrorKind::MissingRequiredArgument, message).exit();
    }
    let release = &arguments.release;
    let report = verify(release).map_err(|error| {
        let error =
            anyhow::Error::from(error).context(format!("cannot read the release {}", release.display()));
        Failure::new(ErrorKind::Input, error)
    })?;
    let VerifyReport { files, size_bytes, profiles, elsewhere, findings } = &report;
    let mut text = String::new();
    for Finding { path, problem } in findings {
        let _ = writeln!(text, "{path}: {problem}");
    }
    let verdict =
        if findings.is_empty() { "all files match".to_owned() } else { counted(findings.len(), "problem") };
    let here = profiles.len() - elsewhere.len();
    let _ = writeln!(
        text,
        "{}, {}, {}: {verdict}",
        counted(here, "profile"),
        counted(*files, "file"),
        size(*size_bytes)
    );
    if !elsewhere.is_empty() {
        let _ =
            writeln!(text, "not here, but where the manifest says: {}", counted(elsewhere.len(), "profile"));
    }
    let view = View {
        schema: "nimctl.verification/1",
        files: *files,
        size_bytes: *size_bytes,
        profiles,
        elsewhere,
        findings,
    };
    output.result(&text, &view);
    Ok(if findings.is_empty() { done() } else { ExitCode::from(code(ErrorKind::Refused)) })
}

/// `nimctl.verification/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    files: usize,
    size_bytes: u64,
    profiles: &'a [String],
    elsewhere: &'a [String],
    findings: &'a [Finding],
}

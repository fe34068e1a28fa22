//! `nimctl verify` with a trust policy.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::ops::attest::verify_attestations;
use nimctl::ops::trust::{ReleaseVerdict, VerifyReleaseOptions, load, verify_release};
use nimctl::ops::verify::Finding;
use nimctl::ops::verify_signature::{SignatureReport, Trusted};
use nimctl::signing::shown;
use nimctl::trust::Trust;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::sign::{SignerView, now_s, threads};
use super::verify_signature::{AttestationView, DifferenceView, attested_text, attested_view};
use crate::cli;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::{counted, size};

pub(super) fn run(
    arguments: &cli::Verify,
    (path, says): (&Path, &str),
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let trust = policy(path)?;
    let release = &arguments.release;
    let verdict = verify_release(&VerifyReleaseOptions {
        release,
        signature: arguments.signature.as_deref(),
        attestations: arguments.attestations.as_deref(),
        trust: &trust,
        allow_symlinks: arguments.allow_symlinks,
        now_s: now_s(),
        threads: threads(),
        is_cancelled: &|| cancel.is_cancelled(),
    })?;
    let ReleaseVerdict { signature: report, accepted, passports: _, findings } = &verdict;
    // A rule may accept what `verify` does not.
    let accepted = accepted.as_ref().filter(|_| findings.is_empty());
    let SignatureReport { signature, digest, signer, files, size_bytes, differences, .. } = report;
    let mut text = String::new();
    for difference in differences {
        let _ = writeln!(text, "{}: {difference}", shown(difference.path()));
    }
    for Finding { path, problem } in findings {
        let _ = writeln!(text, "{path}: {problem}");
    }
    let verdict = match (differences.len(), findings.len()) {
        (0, 0) => "all as signed".to_owned(),
        (0, problems) => counted(problems, "problem"),
        (differences, _) => format!("{} from what was signed", counted(differences, "difference")),
    };
    let _ = writeln!(
        text,
        "{}: {} signed, {}: {verdict}",
        release.display(),
        counted(*files, "file"),
        size(*size_bytes)
    );
    let _ = writeln!(text, "signed by {signer}");
    if let Some((model, line)) = accepted {
        let _ = writeln!(text, "{} {}: accepted by {}", model.name, model.release, rule(&trust, *line, says));
    }
    let attested = match accepted {
        Some(_) => {
            let trusted = Trusted::Policy { trust: &trust, now_s: now_s() };
            verify_attestations(release, arguments.attestations.as_deref(), &trusted)?
        }
        None => None,
    };
    text.push_str(&attested_text(attested.as_deref()));
    let view = View {
        schema: "nimctl.trust-verification/1",
        policy: path,
        policy_from: says,
        rule_line: accepted.map(|(_, line)| *line),
        model: accepted.map(|(model, _)| model.name.as_str()),
        release: accepted.map(|(model, _)| model.release.as_str()),
        signature,
        digest,
        signed_by: signer.into(),
        files: *files,
        size_bytes: *size_bytes,
        differences: differences.iter().map(DifferenceView::from).collect(),
        findings,
        attestations: attested.as_deref().map(attested_view),
    };
    output.result(&text, &view);
    let is_accepted = accepted.is_some() && findings.is_empty() && differences.is_empty();
    Ok(if is_accepted { done() } else { ExitCode::from(code(ErrorKind::Refused)) })
}

/// Names a rule, and what put its policy in place.
pub(super) fn rule(trust: &Trust, line: u32, says: &str) -> String {
    format!("the rule in line {line} of {} ({says})", trust.path())
}

/// Reads the policy in place. One that can't be read refuses everything.
pub(super) fn policy(path: &Path) -> Result<Trust, Failure> {
    load(path).map_err(|error| Failure { kind: ErrorKind::Refused, ..Failure::from(error) })
}

/// `nimctl.trust-verification/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    policy: &'a Path,
    policy_from: &'a str,
    rule_line: Option<u32>,
    model: Option<&'a str>,
    release: Option<&'a str>,
    signature: &'a Path,
    digest: &'a Sha256,
    signed_by: SignerView<'a>,
    files: usize,
    size_bytes: u64,
    differences: Vec<DifferenceView<'a>>,
    findings: &'a [Finding],
    /// Absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<Vec<AttestationView<'a>>>,
}

//! `nimctl verify` with a key or certificates.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::attestation::Kind;
use nimctl::digest::Sha256;
use nimctl::error_kind::ErrorKind;
use nimctl::files::text;
use nimctl::ops::attest::{VerifiedAttestation, verify_attestations};
use nimctl::ops::verify_signature::{SignatureReport, Trusted, VerifyOptions, verify_signature};
use nimctl::signing::{Difference, PublicKey, shown};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::sign::{SignerView, certificates, key_failure, now_s, threads};
use crate::cli;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::{counted, size};

pub(super) fn run(arguments: &cli::Verify, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let cli::Verify {
        release: model,
        key,
        certificate_chain,
        signature,
        ignore,
        ignore_unsigned_files,
        allow_symlinks,
        attestations,
        trust: _,
    } = arguments;
    let trusted = match key {
        Some(file) => Trusted::Key(Box::new(public_key(file)?)),
        None => Trusted::Certificates { certificates: certificates(certificate_chain)?, now_s: now_s() },
    };
    let report = verify_signature(&VerifyOptions {
        model,
        signature: signature.as_deref(),
        trusted: &trusted,
        ignore,
        ignore_unsigned: *ignore_unsigned_files,
        allow_symlinks: *allow_symlinks,
        threads: threads(),
        is_cancelled: &|| cancel.is_cancelled(),
    })?;
    let SignatureReport {
        signature,
        model: name,
        digest,
        signer,
        files,
        size_bytes,
        differences,
        links_were_followed,
        statement: _,
        identified: _,
    } = &report;
    let mut text = String::new();
    for difference in differences {
        let _ = writeln!(text, "{}: {difference}", shown(difference.path()));
    }
    let verdict = match differences.len() {
        0 => "all as signed".to_owned(),
        count => format!("{} from what was signed", counted(count, "difference")),
    };
    let files_signed = counted(*files, "file");
    let _ = writeln!(text, "{}: {files_signed} signed, {}: {verdict}", model.display(), size(*size_bytes));
    let _ = writeln!(text, "signed by {signer}");
    let attested = match differences.is_empty() {
        true => verify_attestations(model, attestations.as_deref(), &trusted)?,
        false => None,
    };
    text.push_str(&attested_text(attested.as_deref()));
    let view = View {
        schema: "nimctl.signature-verification/1",
        signature,
        model: name,
        digest,
        signed_by: signer.into(),
        files: *files,
        size_bytes: *size_bytes,
        differences: differences.iter().map(DifferenceView::from).collect(),
        attestations: attested.as_deref().map(attested_view),
    };
    output.result(&text, &view);
    if differences.is_empty() {
        return Ok(done());
    }
    if *links_were_followed && differences.iter().any(|difference| matches!(difference, Difference::Link(..)))
    {
        output.hint("symbolic links were followed when it was signed: --allow-symlinks follows them here");
    }
    Ok(ExitCode::from(code(ErrorKind::Refused)))
}

pub(super) fn public_key(file: &Path) -> Result<PublicKey, Failure> {
    let text = text::read(file).map_err(|error| {
        Failure::new(ErrorKind::Input, anyhow::Error::from(error).context("cannot read the public key"))
    })?;
    PublicKey::from_pem(&text).map_err(|error| key_failure(&format!("the key in {}", file.display()), error))
}

/// `nimctl.signature-verification/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    signature: &'a Path,
    model: &'a str,
    digest: &'a Sha256,
    signed_by: SignerView<'a>,
    files: usize,
    size_bytes: u64,
    differences: Vec<DifferenceView<'a>>,
    /// Absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<Vec<AttestationView<'a>>>,
}

/// Says which attestations were verified.
pub(super) fn attested_text(attested: Option<&[VerifiedAttestation]>) -> String {
    let Some(attested) = attested else { return String::new() };
    let profiles: BTreeSet<_> = attested.iter().map(|attestation| attestation.id).collect();
    format!(
        "{} of {}: all accepted\n",
        counted(attested.len(), "attestation"),
        counted(profiles.len(), "profile")
    )
}

pub(super) fn attested_view(attested: &[VerifiedAttestation]) -> Vec<AttestationView<'_>> {
    let views =
        attested.iter().map(|VerifiedAttestation { id, says, signer, identified: _ }| AttestationView {
            profile_id: id.to_string(),
            kind: says.kind(),
            predicate_type: says.predicate_type(),
            signed_by: signer.into(),
        });
    views.collect()
}

#[derive(Serialize)]
pub(super) struct AttestationView<'a> {
    profile_id: String,
    /// Absent for a statement that is not one of nimctl's.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    predicate_type: &'a str,
    signed_by: SignerView<'a>,
}

#[derive(Serialize)]
pub(super) struct DifferenceView<'a> {
    path: &'a str,
    kind: &'static str,
    problem: String,
}

impl<'a> From<&'a Difference> for DifferenceView<'a> {
    fn from(difference: &'a Difference) -> Self {
        let kind = match difference {
            Difference::Changed(_) => "changed",
            Difference::Missing(_) => "missing",
            Difference::Added(_) => "added",
            Difference::Renamed { .. } => "renamed",
            Difference::Swapped(..) => "swapped",
            Difference::Link(..) | Difference::LinkToFolder(_) => "link",
            Difference::Special(_) => "special",
            Difference::LeftOut(_) => "ignored",
        };
        Self { path: difference.path(), kind, problem: difference.to_string() }
    }
}

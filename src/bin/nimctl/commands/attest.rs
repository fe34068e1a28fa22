//! `nimctl attest`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::attestation::Kind;
use nimctl::ops::attest::{AttestOptions, Attested, attest};
use serde::Serialize;

use super::sign::{SignerView, Signing, now_s};
use crate::cli;
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::table::counted;

pub(crate) fn run(arguments: &cli::Attest, output: &Output) -> Result<ExitCode, Failure> {
    let cli::Attest { release, private_key, builder_id, attestations } = arguments;
    let Signing { key, certificates, files } = Signing::of(private_key)?;
    let attested = attest(&AttestOptions {
        release,
        destination: attestations.as_deref(),
        key: &key,
        certificates: certificates.as_deref(),
        key_files: &files,
        builder: builder_id,
        now_s: now_s(),
    })?;
    output.result(&text(&attested), &View::new(&attested));
    Ok(done())
}

/// Says what was attested.
pub(super) fn text(attested: &Attested) -> String {
    let Attested { destination, profiles, signer } = attested;
    let count: usize = profiles.iter().map(|(_, _, kinds)| kinds.len()).sum();
    let mut text = format!(
        "{} of {}, signed by {signer}\n",
        counted(count, "attestation"),
        counted(profiles.len(), "profile")
    );
    for (name, _, kinds) in profiles {
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
        let _ = writeln!(text, "  {name}: {}", kinds.join(", "));
    }
    let _ = writeln!(text, "wrote {}", destination.display());
    text
}

/// `nimctl.attestations/1`.
#[derive(Serialize)]
pub(super) struct View<'a> {
    schema: &'static str,
    attestations: &'a Path,
    signed_by: SignerView<'a>,
    profiles: Vec<ProfileView<'a>>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    profile_id: String,
    name: &'a str,
    attested: &'a [Kind],
}

impl<'a> View<'a> {
    pub(super) fn new(attested: &'a Attested) -> Self {
        let Attested { destination, profiles, signer } = attested;
        let profile = |(name, id, attested): &'a (String, nimctl::profile::ProfileId, Vec<Kind>)| {
            ProfileView { profile_id: id.to_string(), name, attested }
        };
        Self {
            schema: "nimctl.attestations/1",
            attestations: destination,
            signed_by: signer.into(),
            profiles: profiles.iter().map(profile).collect(),
        }
    }
}

//! The attestations of a profile at its place: fetched, and those that are accepted.

use super::{PullError, RemoteRelease};
use crate::attestation::Attestation;
use crate::digest::Sha256;
use crate::ops::attest::{VerifiedAttestation, open_attestation};
use crate::ops::verify_signature::Trusted;
use crate::passport::Passport;
use crate::signing::Bundle;
use crate::trust::in_words;

/// The maximum size of an attestation.
const MAX_ATTESTATION_BYTES: u64 = 4 << 20;

/// What is attested of a profile.
#[derive(Clone, Debug, Default)]
pub struct Attestations {
    /// What was accepted.
    pub accepted: Vec<VerifiedAttestation>,
    /// Why others were not: anyone who can write to the place can attach something.
    pub refused: Vec<String>,
}

impl RemoteRelease<'_> {
    /// Fetches what is attested of a profile, and verifies it; none where the place keeps no attestations.
    ///
    /// # Errors
    /// A place that can't be read.
    pub fn attestations(
        &self,
        passport: &Passport,
        trusted: &Trusted<'_>,
    ) -> Result<Attestations, PullError> {
        let mut found = Attestations::default();
        for bundle in self.bundles_of(&passport.id.to_string(), &mut found.refused)? {
            match open_attestation(&bundle, passport, trusted) {
                Ok(verified) => found.accepted.push(verified),
                Err(why) => found.refused.push(why.to_string()),
            }
        }
        Ok(found)
    }

    /// Fetches the bundles that are attached to a profile; nobody has verified them.
    pub(in crate::ops) fn bundles_of(
        &self,
        id: &str,
        reasons: &mut Vec<String>,
    ) -> Result<Vec<Bundle>, PullError> {
        match self.profile_digest(id) {
            Some(digest) => self.parsed_bundles(digest, reasons),
            None => Ok(Vec::new()),
        }
    }

    /// Fetches the bundles that are attached to the release; nobody has verified them.
    pub(in crate::ops) fn bundles_of_release(
        &self,
        reasons: &mut Vec<String>,
    ) -> Result<Vec<Bundle>, PullError> {
        self.parsed_bundles(self.digest, reasons)
    }

    fn parsed_bundles(&self, subject: Sha256, reasons: &mut Vec<String>) -> Result<Vec<Bundle>, PullError> {
        let mut bundles = Vec::new();
        for bytes in self.bundles_about(subject, MAX_ATTESTATION_BYTES, reasons)? {
            match Bundle::parse(&bytes) {
                Ok(bundle) => bundles.push(bundle),
                Err(refusal) => reasons.push(in_words(&refusal)),
            }
        }
        Ok(bundles)
    }
}

/// Returns the attestations that are about a profile and accepted.
pub(super) fn accepted(mut bundles: Vec<Bundle>, passport: &Passport, trusted: &Trusted<'_>) -> Vec<Bundle> {
    bundles.retain(|bundle| open_attestation(bundle, passport, trusted).is_ok());
    bundles
}

/// Returns the attestations that are about a profile, all of which must be accepted.
///
/// # Errors
/// Why the first one that is not accepted is not.
pub(super) fn all_accepted(
    bundles: &[Bundle],
    passport: &Passport,
    trusted: &Trusted<'_>,
) -> Result<Vec<Bundle>, String> {
    let is_about = |bundle: &&Bundle| {
        let says = bundle.unverified::<Attestation>();
        says.is_ok_and(|says| says.contents_of(&passport.id).is_some())
    };
    let checked = |bundle: &Bundle| match open_attestation(bundle, passport, trusted) {
        Ok(_) => Ok(bundle.clone()),
        Err(problem) => Err(format!("{}: {problem}", passport.name)),
    };
    bundles.iter().filter(is_about).map(checked).collect()
}

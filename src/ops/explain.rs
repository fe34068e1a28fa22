//! `explain`: the story of a profile, from its passport, the signatures and attestations of its release, and an earlier release.

use std::path::Path;

use serde::Serialize;

use super::attest::{
    AttestationsError, Unverified, VerifiedAttestation, default_attestations, open_attestation,
    read_attestations,
};
use super::pull::{PullError, RemoteRelease};
use super::sign::default_signature;
use super::verify::{self, ReadReleaseError};
use super::verify_signature::{Trusted, VerifySignatureError, read_bundle};
use crate::attestation::Kind;
use crate::error_kind::ErrorKind;
use crate::passport::Passport;
use crate::profile::ProfileId;
use crate::release::{ChangedField, changed_fields, why_rebuilt};
use crate::signing::{Bundle, Signer, Statement};
use crate::store::{Store, StoreError};
use crate::worklist::BuiltOn;

/// A profile's passport, and what is signed about it.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its passport.
    pub passport: Passport,
    /// What is attested of it.
    pub attested: Vec<AttestedFact>,
    /// Where its jobs ran, by job (`text: compile`); a released passport has none.
    pub built_on: Vec<(String, Option<BuiltOn>)>,
}

/// An attestation of a profile.
#[derive(Clone, Debug)]
pub struct AttestedFact {
    /// What it says; `None` for a statement of others.
    pub kind: Option<Kind>,
    /// The type of its predicate.
    pub predicate_type: String,
    /// Who signed it.
    pub by: By,
}

/// Who signed something.
#[derive(Clone, Debug)]
pub enum By {
    /// It was verified.
    Verified(Signer),
    /// Nobody to trust was named: the bundle says who.
    Claimed(String),
    /// It is not accepted, for this reason.
    Refused(String),
}

/// Profiles to explain, and what is signed about all of them.
#[derive(Clone, Debug)]
pub struct Story {
    /// The profiles.
    pub profiles: Vec<Explained>,
    /// The signatures of the release; empty for a profile of a store, which was built there.
    pub signatures: Vec<By>,
    /// Whether it is a release, which could be signed.
    pub is_release: bool,
}

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The release.
    #[error("cannot read the release {folder}: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// Why.
        source: ReadReleaseError,
    },
    /// The place.
    #[error(transparent)]
    Place(#[from] PullError),
    /// The signature beside it.
    #[error(transparent)]
    Signature(#[from] VerifySignatureError),
    /// The attestations beside it.
    #[error(transparent)]
    Attestations(#[from] AttestationsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A profile that the store does not have.
    #[error("the store has no profile {0}")]
    NotInStore(ProfileId),
}

impl ExplainError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotInStore(_) => ErrorKind::Input,
            Self::Folder { source, .. } => source.kind(),
            Self::Place(error) => error.kind(),
            Self::Signature(error) => error.kind(),
            Self::Attestations(error) => error.kind(),
            Self::Store(error) => error.kind(),
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => error.hint(),
            Self::NotInStore(_) => {
                Some("name the release that has it, or `nimctl store ls` what is here".into())
            }
            _ => None,
        }
    }
}

impl Story {
    /// Reads a release folder, with the signature and attestations beside it. That its files are those that were signed, `verify` says.
    ///
    /// # Errors
    /// A folder that is no release; a signature or attestations that can't be read.
    pub fn of_folder(folder: &Path, trusted: Option<&Trusted<'_>>) -> Result<Self, ExplainError> {
        let name = || folder.display().to_string();
        let passports =
            verify::passports(folder).map_err(|source| ExplainError::Folder { folder: name(), source })?;
        let beside = |path: &Path| fs_err::symlink_metadata(path).is_ok();
        let mut signatures = Vec::new();
        if let Some(path) = default_signature(folder).ok().filter(|path| beside(path)) {
            match read_bundle(folder, &path) {
                Ok(bytes) => {
                    signatures.extend(Bundle::parse(&bytes).map(|bundle| signed_by(&bundle, trusted)));
                }
                Err(error) if error.kind() == ErrorKind::Refused => {
                    signatures.push(By::Refused(crate::trust::in_words(&error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (mut attestations, mut refused) = (Vec::new(), None);
        if let Some(path) = default_attestations(folder).ok().filter(|path| beside(path)) {
            match read_attestations(&path) {
                Ok(all) => attestations = all,
                Err(error) if error.kind() == ErrorKind::Refused => {
                    refused = Some(crate::trust::in_words(&error))
                }
                Err(error) => return Err(error.into()),
            }
        }
        let profile = |passport: Passport| {
            let about = |found: &&Unverified| found.says.contents_of(&passport.id).is_some();
            let attested = attestations.iter().filter(about);
            let attested = attested.map(|found| attested_fact(&found.bundle, &passport, trusted));
            let attested = attested.chain(refused.clone().map(unreadable)).collect();
            Explained { built_on: built_on(&passport), attested, passport }
        };
        Ok(Self { profiles: passports.into_iter().map(profile).collect(), signatures, is_release: true })
    }

    /// Reads what a place has of a release, without its files.
    ///
    /// # Errors
    /// A place that can't be read; cancelled.
    pub fn of_place(
        release: &RemoteRelease<'_>,
        trusted: Option<&Trusted<'_>>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, ExplainError> {
        let mut refused = Vec::new();
        let mut signatures: Vec<By> = release
            .bundles_of_release(&mut refused)?
            .iter()
            .map(|bundle| signed_by(bundle, trusted))
            .collect();
        signatures.extend(refused.into_iter().map(By::Refused));
        let mut profiles = Vec::new();
        for profile in &release.manifest.profiles {
            if is_cancelled() {
                return Err(PullError::Cancelled.into());
            }
            let passport = release.passport(&profile.id)?;
            let mut refused = Vec::new();
            let bundles = release.bundles_of(&profile.id, &mut refused)?;
            let mut attested: Vec<AttestedFact> =
                bundles.iter().map(|bundle| attested_fact(bundle, &passport, trusted)).collect();
            attested.extend(refused.into_iter().map(unreadable));
            profiles.push(Explained { built_on: built_on(&passport), attested, passport });
        }
        Ok(Self { profiles, signatures, is_release: true })
    }

    /// Reads what the store knows of a profile, with the signature that it was pulled with.
    ///
    /// # Errors
    /// A store that can't be read, or has no such profile.
    pub fn of_store(
        id: &ProfileId,
        store: &Store,
        trusted: Option<&Trusted<'_>>,
    ) -> Result<Self, ExplainError> {
        let passport = store.passport(id)?.ok_or(ExplainError::NotInStore(*id))?;
        let kept = store.signed(id)?;
        let parsed = |text: &String| Bundle::parse(text.as_bytes());
        let signature = kept.as_ref().map(|kept| parsed(&kept.signature));
        let signatures = signature.into_iter().map(|bundle| match bundle {
            Ok(bundle) => signed_by(&bundle, trusted),
            Err(refusal) => By::Refused(refusal.to_string()),
        });
        let attestations =
            kept.iter().flat_map(|kept| &kept.attestations).filter_map(|text| parsed(text).ok());
        let attested = attestations.map(|bundle| attested_fact(&bundle, &passport, trusted)).collect();
        let profile = Explained { built_on: built_on(&passport), attested, passport };
        Ok(Self { profiles: vec![profile], signatures: signatures.collect(), is_release: kept.is_some() })
    }

    /// Returns why a profile is another one than the one with its name in an earlier story; `None` if that has none of the name, and nothing
    /// if it is the same one.
    pub fn since(&self, profile: &Explained) -> Option<Since> {
        let before = self.profiles.iter().find(|before| before.passport.name == profile.passport.name)?;
        let (before, now) = (&before.passport, &profile.passport);
        let is_same = before.id == now.id;
        Some(Since {
            id: before.id,
            release: before.contents.model.release.clone(),
            is_same,
            reasons: if is_same { Vec::new() } else { why_rebuilt(before, now) },
            fields: if is_same { Vec::new() } else { changed_fields(before, now) },
        })
    }
}

/// How a profile differs from an earlier one with its name.
#[derive(Clone, Debug, Serialize)]
pub struct Since {
    /// The earlier one.
    pub id: ProfileId,
    /// The release that it is of.
    pub release: String,
    /// Whether it is the same one.
    pub is_same: bool,
    /// Why it is not, in words.
    pub reasons: Vec<String>,
    /// Every field of the keys of its jobs that changed.
    pub fields: Vec<ChangedField>,
}

/// Returns what is told of an attestation that can't be read.
fn unreadable(why: String) -> AttestedFact {
    AttestedFact { kind: None, predicate_type: "unknown".into(), by: By::Refused(why) }
}

fn signed_by(bundle: &Bundle, trusted: Option<&Trusted<'_>>) -> By {
    let Some(trusted) = trusted else { return By::Claimed(bundle.claimed()) };
    match trusted.open::<Statement>(bundle) {
        Ok((_, signer, _)) => By::Verified(signer),
        Err(error) => By::Refused(crate::trust::in_words(&error)),
    }
}

fn attested_fact(bundle: &Bundle, passport: &Passport, trusted: Option<&Trusted<'_>>) -> AttestedFact {
    use crate::attestation::Attestation;
    let unverified = bundle.unverified::<Attestation>();
    let (kind, predicate_type) = match &unverified {
        Ok(says) => (says.kind(), says.predicate_type().to_owned()),
        Err(_) => (None, "unknown".to_owned()),
    };
    let by = match (trusted, unverified) {
        (_, Err(error)) => By::Refused(error.to_string()),
        (None, Ok(_)) => By::Claimed(bundle.claimed()),
        (Some(trusted), Ok(_)) => match open_attestation(bundle, passport, trusted) {
            Ok(VerifiedAttestation { signer, .. }) => By::Verified(signer),
            Err(why) => By::Refused(why.to_string()),
        },
    };
    AttestedFact { kind, predicate_type, by }
}

fn built_on(passport: &Passport) -> Vec<(String, Option<BuiltOn>)> {
    let mut jobs = Vec::new();
    for (graph, passport) in &passport.graphs {
        let compiled = passport.compilation.as_ref().map(|record| ("compile", record));
        for (job, record) in std::iter::once(("lower", &passport.lowering)).chain(compiled) {
            if let Some(measurements) = &record.measurements {
                jobs.push((format!("{graph}: {job}"), measurements.node.clone()));
            }
        }
    }
    jobs
}

//! Attestations that lie beside a release: read, and verified against what the release says of itself.

use std::io;
use std::path::{Path, PathBuf};

use super::default_attestations;
use crate::attestation::{Attestation, Kind, Says};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::ops::verify::{self, ReadReleaseError};
use crate::ops::verify_signature::Trusted;
use crate::passport::Passport;
use crate::profile::ProfileId;
use crate::signing::{Bundle, InvalidStatement, MAX_BUNDLE_BYTES, Refusal, Signer};
use crate::trust::{Identified, ProfileFacts, Trust, in_words};

/// Attestations in a file, at most.
const MAX_ATTESTATIONS: usize = 10_000;

/// A file of attestations that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AttestationsError {
    /// It can't be read.
    #[error("cannot read the attestations {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
    /// A line that is no attestation.
    #[error("{}, line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: Box<Refusal>,
    },
    /// One that is not accepted.
    #[error("{}, line {line}: {reason}", path.display())]
    NotAccepted {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: NotAttested,
    },
    /// The release beside it can't be read.
    #[error("cannot read the release {}: {source}", path.display())]
    NoRelease {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ReadReleaseError,
    },
    /// No attestation at all.
    #[error("{} has no attestation in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Too many.
    #[error("{} is too large: at most {MAX_BUNDLE_BYTES} bytes and {MAX_ATTESTATIONS} attestations are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// An attestation that nobody has verified, and what it says it is about.
#[derive(Clone, Debug)]
pub struct Unverified {
    /// The bundle.
    pub bundle: Bundle,
    /// What it says.
    pub says: Attestation,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Reads a file of attestations; none of them is verified.
///
/// # Errors
/// A file that can't be read, or a line that is no attestation.
pub fn read_attestations(path: &Path) -> Result<Vec<Unverified>, AttestationsError> {
    let failed = |source| AttestationsError::Read { path: path.to_owned(), source };
    let too_large = || AttestationsError::TooLarge { path: path.to_owned() };
    let mut bytes = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(fs_err::File::open(path).map_err(failed)?, MAX_BUNDLE_BYTES + 1),
        &mut bytes,
    )
    .map_err(failed)?;
    if bytes.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(too_large());
    }
    let mut all = Vec::new();
    for (line, text) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if all.len() == MAX_ATTESTATIONS {
            return Err(too_large());
        }
        let wrong = |refusal: Refusal| AttestationsError::Line {
            path: path.to_owned(),
            line,
            source: Box::new(refusal),
        };
        let bundle = Bundle::parse(text).map_err(wrong)?;
        let says = bundle.unverified().map_err(|error: InvalidStatement| wrong(error.into()))?;
        all.push(Unverified { bundle, says, line });
    }
    if all.is_empty() {
        return Err(AttestationsError::Empty { path: path.to_owned() });
    }
    Ok(all)
}

impl AttestationsError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRelease { source, .. } => source.kind(),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::Input,
            // As a signature that cannot be read.
            Self::Read { .. }
            | Self::Line { .. }
            | Self::NotAccepted { .. }
            | Self::TooLarge { .. }
            | Self::Empty { .. } => ErrorKind::Refused,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        matches!(self, Self::Line { .. } | Self::Empty { .. }).then(|| {
            "get the file again from whoever published the release, or write it anew with `nimctl attest`"
                .into()
        })
    }
}

/// Why an attestation is not one of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAttested {
    /// Its signature.
    #[error("the attestation is not accepted: {0}")]
    Signature(String),
    /// It is about something else.
    #[error("the attestation is about {what}, and not about {of}")]
    Elsewhere {
        /// What it is about.
        what: String,
        /// What it should be about.
        of: String,
    },
    /// It is about the profile, and does not say what the passport says.
    #[error("the attestation says another {kind} of {name} than its passport: one of them is out of date")]
    Contradiction {
        /// What it says.
        kind: Kind,
        /// The profile.
        name: String,
    },
}

/// An attestation that was accepted.
#[derive(Clone, Debug)]
pub struct VerifiedAttestation {
    /// The profile that it is about.
    pub id: ProfileId,
    /// What it says.
    pub says: Attestation,
    /// Who signed it.
    pub signer: Signer,
    /// Which rules of the policy know the signer, if there is a policy.
    pub identified: Option<Identified>,
}

/// Verifies that an attestation is signed by who is trusted, is about a profile, and says what the passport says. What others say of it is
/// accepted, and nothing concluded from it.
///
/// # Errors
/// The first of these that it is not.
pub fn open_attestation(
    bundle: &Bundle,
    passport: &Passport,
    trusted: &Trusted<'_>,
) -> Result<VerifiedAttestation, NotAttested> {
    let (says, signer, identified): (Attestation, _, _) =
        trusted.open(bundle).map_err(|error| NotAttested::Signature(in_words(&error)))?;
    let model = &passport.contents.model;
    // Somebody may be trusted for other models alone.
    if let (Trusted::Policy { trust, now_s }, Some(identified)) = (trusted, &identified) {
        let judged = trust.judge_signer(&model.name, &model.release, identified, *now_s);
        judged.map_err(|refused| NotAttested::Signature(refused.to_string()))?;
    }
    let elsewhere = || NotAttested::Elsewhere {
        what: says.subjects.first().map_or_else(|| "nothing".into(), |subject| subject.digest.to_string()),
        of: format!("{} {}", passport.name, passport.id),
    };
    let contents = passport.contents.to_canonical_json().map_err(|_| elsewhere())?;
    if !says.is_about(&passport.id, &Sha256::of(contents.as_bytes())) {
        return Err(elsewhere());
    }
    if let Some(kind) = says.kind().filter(|_| !agrees(&says, passport)) {
        return Err(NotAttested::Contradiction { kind, name: passport.name.clone() });
    }
    Ok(VerifiedAttestation { id: passport.id, says, signer, identified })
}

/// Returns whether an attestation says what a passport says.
fn agrees(attestation: &Attestation, passport: &Passport) -> bool {
    let builder = match &attestation.says {
        Says::Provenance(provenance) => provenance.builder.clone(),
        _ => String::new(),
    };
    let Ok(all) = Attestation::all_of(passport, &builder) else { return false };
    all.into_iter().any(|expected| match (expected.says, &attestation.says) {
        (Says::Provenance(mut expected), Says::Provenance(found)) => {
            // Another version may say the same.
            expected.nimctl_version.clone_from(&found.nimctl_version);
            expected == *found
        }
        (expected, found) => expected == *found,
    })
}

/// Verifies the attestations that lie beside a release, or the file that is named; `None` if there is no file and none was named.
///
/// # Errors
/// A file that can't be read; one attestation that is not accepted, or is not about a profile of the release.
pub fn verify_attestations(
    release: &Path,
    file: Option<&Path>,
    trusted: &Trusted<'_>,
) -> Result<Option<Vec<VerifiedAttestation>>, AttestationsError> {
    let path = match (file, default_attestations(release)) {
        (Some(path), _) => path.to_path_buf(),
        (None, Ok(path)) if fs_err::symlink_metadata(&path).is_ok() => path,
        (None, _) => return Ok(None),
    };
    let all = read_attestations(&path)?;
    let passports = verify::passports(release)
        .map_err(|source| AttestationsError::NoRelease { path: release.to_path_buf(), source })?;
    let mut verified = Vec::new();
    for Unverified { bundle, says, line } in all {
        let wrong = |reason| AttestationsError::NotAccepted { path: path.clone(), line, reason };
        let passport = passports.iter().find(|passport| says.contents_of(&passport.id).is_some());
        let passport = passport.ok_or_else(|| {
            let what = says.subjects.first().map_or_else(|| "nothing".into(), |subject| subject.name.clone());
            wrong(NotAttested::Elsewhere { what, of: format!("a profile of {}", release.display()) })
        })?;
        verified.push(open_attestation(&bundle, passport, trusted).map_err(wrong)?);
    }
    Ok(Some(verified))
}

/// Returns what a policy can ask of a profile: what its passport says, and what is attested of it. Attestations of others count for nothing:
/// anyone may have put them there.
pub(in crate::ops) fn facts_of<'b>(
    passport: &Passport,
    bundles: impl IntoIterator<Item = &'b Bundle>,
    trust: &Trust,
    now_s: u64,
) -> ProfileFacts {
    let trusted = Trusted::Policy { trust, now_s };
    let attested = |bundle: &Bundle| {
        let VerifiedAttestation { says, identified, .. } =
            open_attestation(bundle, passport, &trusted).ok()?;
        says.kind().zip(identified)
    };
    let attestations = bundles.into_iter().filter_map(attested).collect();
    ProfileFacts { attestations, ..ProfileFacts::of(passport) }
}

/// Reads the attestations beside a release, or in the file that is named, which nobody has verified; none if there is no file.
pub(in crate::ops) fn bundles_beside(
    release: &Path,
    file: Option<&Path>,
) -> Result<Vec<Bundle>, AttestationsError> {
    let path = match (file, default_attestations(release)) {
        (Some(path), _) => path.to_path_buf(),
        (None, Ok(path)) if fs_err::symlink_metadata(&path).is_ok() => path,
        (None, _) => return Ok(Vec::new()),
    };
    Ok(read_attestations(&path)?.into_iter().map(|unverified| unverified.bundle).collect())
}

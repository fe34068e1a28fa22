//! `attest`: what the passports of a release say, as signed statements, one bundle a line in a file beside the release.

mod file;

use std::io;
use std::path::{Path, PathBuf};

pub use file::{
    AttestationsError, Unverified, VerifiedAttestation, open_attestation, read_attestations,
    verify_attestations,
};

pub(super) use file::{bundles_beside, facts_of};

use super::sign::{SignError, check_certificate, default_signature};
use super::verify::{self, ReadReleaseError};
use crate::attestation::{Attestation, Kind};
use crate::canonical::NotCanonical;
use crate::error_kind::ErrorKind;
use crate::files::atomic_file;
use crate::files::destination::{self, BadDestination};
use crate::profile::ProfileId;
use crate::signing::{Bundle, Certificate, MAX_BUNDLE_BYTES, PrivateKey, Signer};

/// How the name of the file ends that is beside a release.
const ENDING: &str = "attestations.jsonl";

/// What to attest, and with what.
pub struct AttestOptions<'a> {
    /// The folder of the release.
    pub release: &'a Path,
    /// Where the attestations go; without it, beside the release ([`default_attestations`]).
    pub destination: Option<&'a Path>,
    /// The key.
    pub key: &'a PrivateKey,
    /// The certificate of the key, and those that lead from it to a root.
    pub certificates: Option<&'a [Certificate]>,
    /// The files of the key and the certificates, which must not be written over.
    pub key_files: &'a [PathBuf],
    /// The URI of who ran the build.
    pub builder: &'a str,
    /// The time, in seconds since 1970: certificates have to be valid.
    pub now_s: u64,
}

/// What was attested.
#[derive(Clone, Debug)]
pub struct Attested {
    /// The file.
    pub destination: PathBuf,
    /// Each profile's name and id, and what is attested of it.
    pub profiles: Vec<(String, ProfileId, Vec<Kind>)>,
    /// Who signed.
    pub signer: Signer,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// A folder that is no release.
    #[error("cannot read the release {}: {source}", path.display())]
    NoRelease {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: ReadReleaseError,
    },
    /// The key, its certificate, or the place beside the release.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A passport beyond what can be signed.
    #[error("the passport of {name} cannot be attested: {problem}")]
    Passport {
        /// The profile.
        name: String,
        /// Why not.
        problem: NotCanonical,
    },
    /// A name of the builder that is none.
    #[error("`{0}` does not name a builder: write a URI, such as https://ci.example.com/nightly")]
    Builder(String),
    /// More than is read.
    #[error(
        "the attestations have {size_bytes} bytes, and the limit is {MAX_BUNDLE_BYTES}: split the release"
    )]
    TooLarge {
        /// Their size.
        size_bytes: u64,
    },
    /// The place of the file.
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// Writing it.
    #[error("cannot write the attestations {}", path.display())]
    Write {
        /// The place.
        path: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
}

impl AttestError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Sign(error) => error.kind(),
            Self::NoRelease { source, .. } => source.kind(),
            _ => ErrorKind::Input,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Sign(error) => error.hint(),
            _ => None,
        }
    }
}

/// Attests what the passports of a release say, and writes the file.
///
/// # Errors
/// A folder that is no release, a certificate that is not the key's, a place that can't be written.
pub fn attest(options: &AttestOptions<'_>) -> Result<Attested, AttestError> {
    let AttestOptions { release, destination, key, certificates, key_files, builder, now_s } = options;
    check_builder(builder)?;
    if let Some(leaf) = certificates.and_then(<[_]>::first) {
        check_certificate(leaf, key, *now_s)?;
    }
    let passports = verify::passports(release)
        .map_err(|source| AttestError::NoRelease { path: release.to_path_buf(), source })?;
    let destination = match destination {
        Some(path) => path.to_path_buf(),
        None => default_attestations(release)?,
    };
    destination::check(&destination, key_files.iter().map(PathBuf::as_path).chain([*release]))?;
    destination::check_keeps(&destination, release, |old| Bundle::parse(first_line(old)).is_ok())?;
    let mut lines = String::new();
    let mut profiles = Vec::new();
    for passport in &passports {
        let all = Attestation::all_of(passport, builder)
            .map_err(|problem| AttestError::Passport { name: passport.name.clone(), problem })?;
        for attestation in &all {
            lines.push_str(&Bundle::sign(attestation, key, certificates.map(<[_]>::to_vec)).to_json_line());
            lines.push('\n');
        }
        let kinds = all.iter().filter_map(Attestation::kind).collect();
        profiles.push((passport.name.clone(), passport.id, kinds));
    }
    if lines.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(AttestError::TooLarge { size_bytes: lines.len() as u64 });
    }
    atomic_file::write(&destination, lines.as_bytes())
        .map_err(|source| AttestError::Write { path: destination.clone(), source })?;
    Ok(Attested { destination, profiles, signer: Signer::of(key, *certificates) })
}

fn first_line(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == b'\n').next().unwrap_or_default()
}

/// Fails unless a builder is named by a URI.
///
/// # Errors
/// Anything else.
pub fn check_builder(builder: &str) -> Result<(), AttestError> {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|other| other.is_ascii_alphanumeric() || "+-.".contains(other))
    };
    let is_uri = builder.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && !rest.is_empty());
    if is_uri && builder.chars().all(|other| other.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(AttestError::Builder(builder.into()))
    }
}

/// Returns where the attestations of a release are if nobody says otherwise: beside it, with its name.
///
/// # Errors
/// A path without a name, such as `/`.
pub fn default_attestations(release: &Path) -> Result<PathBuf, SignError> {
    Ok(default_signature(release)?.with_extension(ENDING))
}

//! `attest`: what the passports of a release say, as signed statements, one bundle a line in a file beside the release.

use std::io;
use std::path::{Path, PathBuf};

use super::sign::{SignError, check_certificate, default_signature};
use super::verify::{self, ReadReleaseError};
use crate::attestation::{Attestation, Kind};
use crate::canonical::NotCanonical;
use crate::error_kind::ErrorKind;
use crate::files::atomic_file;
use crate::files::destination::{self, BadDestination};
use crate::profile::ProfileId;
use crate::signing::{Bundle, Certificate, InvalidStatement, MAX_BUNDLE_BYTES, PrivateKey, Refusal, Signer};

/// How the name of the file ends that is beside a release.
const ENDING: &str = "attestations.jsonl";
/// Attestations in a file, at most.
const MAX_ATTESTATIONS: usize = 10_000;

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
    let AttestOptions { release, destination, key, certificates, builder, now_s } = options;
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
    destination::check(&destination, [*release])?;
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
    atomic_file::write(&destination, lines.as_bytes())
        .map_err(|source| AttestError::Write { path: destination.clone(), source })?;
    Ok(Attested { destination, profiles, signer: Signer::of(key, *certificates) })
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
    Ok(all)
}

impl AttestationsError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Input,
            Self::Line { .. } | Self::TooLarge { .. } => ErrorKind::Refused,
        }
    }
}

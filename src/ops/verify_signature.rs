//! `verify` with a key or certificates: whether a model is what its signature says.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::sign::{GIT_PATHS, LINK_HINT, SignError, default_signature, path_in_model};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::files::model_files::{self, ModelFiles, ModelFilesError, Reading};
use crate::signing::{
    Bundle, Certificate, Difference, MAX_BUNDLE_BYTES, Payload, PublicKey, Refusal, Signer, Statement,
    compare, is_below,
};
use crate::trust::{Identified, Trust, UnknownSigner};

/// Whose signatures are accepted.
pub enum Trusted<'t> {
    /// Those of one key.
    Key(Box<PublicKey>),
    /// Those with a certificate that leads to one of these roots, at a time in seconds since 1970.
    Certificates {
        /// The roots, and perhaps some between.
        certificates: Vec<Certificate>,
        /// The time.
        now_s: u64,
    },
    /// Those that a policy knows, at a time in seconds since 1970. Then every file must be signed, also if the signature leaves
    /// some out; files of git's may be there.
    Policy {
        /// The policy.
        trust: &'t Trust,
        /// The time.
        now_s: u64,
    },
}

/// A signature of somebody who is not trusted, or that does not match.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// By the key or the certificates.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// By the policy.
    #[error(transparent)]
    Unknown(#[from] Box<UnknownSigner>),
}

impl Trusted<'_> {
    /// Verifies a signature; returns what was signed, by whom, and for a policy also which of its rules know the signer. Whether one of
    /// them accepts what was signed is not asked.
    ///
    /// # Errors
    /// A signature of somebody else, or one that does not match.
    pub fn open<P: Payload>(&self, bundle: &Bundle) -> Result<(P, Signer, Option<Identified>), NotOpened> {
        let (payload, signer) = match self {
            Self::Key(key) => bundle.verify_with_key(key).map_err(Box::new)?,
            Self::Certificates { certificates, now_s } => {
                bundle.verify_with_certificates(certificates, *now_s).map_err(Box::new)?
            }
            Self::Policy { trust, now_s } => {
                let (payload, identified) = trust.identify(bundle, *now_s).map_err(Box::new)?;
                return Ok((payload, identified.signer.clone(), Some(identified)));
            }
        };
        Ok((payload, signer, None))
    }
}

/// What to verify, and how.
pub struct VerifyOptions<'a> {
    /// The model: a folder, or one file.
    pub model: &'a Path,
    /// The signature; without it, the one beside the model.
    pub signature: Option<&'a Path>,
    /// Whose signatures are accepted.
    pub trusted: &'a Trusted<'a>,
    /// Files and folders that nobody signed and that may be there, as paths from here.
    pub ignore: &'a [PathBuf],
    /// Whether all files that nobody signed may be there.
    pub ignore_unsigned: bool,
    /// Whether symbolic links to files are followed, if they were for the signature.
    pub allow_symlinks: bool,
    /// How many threads read files at most.
    pub threads: usize,
    /// Whether to give up.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// A signature that was accepted, and how the model compares with it.
#[derive(Clone, Debug)]
pub struct SignatureReport {
    /// The signature.
    pub signature: PathBuf,
    /// The name that the model had when it was signed.
    pub model: String,
    /// The digest that stands for the model.
    pub digest: Sha256,
    /// Who signed.
    pub signer: Signer,
    /// How many files are signed.
    pub files: usize,
    /// The bytes that were read.
    pub size_bytes: u64,
    /// Where the model differs from what was signed; empty if nowhere.
    pub differences: Vec<Difference>,
    /// Whether symbolic links were followed for the signature, and are not here.
    pub links_were_followed: bool,
    /// What is signed.
    pub statement: Statement,
    /// Which rules of the policy know the signer, if there is a policy.
    pub identified: Option<Identified>,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum VerifySignatureError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelFilesError),
    /// The name of the model, or a path to be ignored.
    #[error(transparent)]
    Path(#[from] SignError),
    /// No certificate that is trusted is a root.
    #[error("none of the trusted certificates is a root: a root is issued by itself")]
    NoRoot,
    /// There is no signature.
    #[error("{} has no signature: there is no {}", model.display(), signature.display())]
    NoSignature {
        /// The model.
        model: PathBuf,
        /// Where it was looked for.
        signature: PathBuf,
    },
    /// The signature can't be read.
    #[error("cannot read the signature {}", signature.display())]
    Read {
        /// The signature.
        signature: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
    /// The signature is not accepted.
    #[error("the signature {} is refused", signature.display())]
    Refused {
        /// The signature.
        signature: PathBuf,
        /// Why.
        source: Box<Refusal>,
    },
    /// The policy knows nobody who made the signature.
    #[error("the signature {} is refused", signature.display())]
    Unknown {
        /// The signature.
        signature: PathBuf,
        /// Why.
        source: Box<UnknownSigner>,
    },
}

impl VerifySignatureError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Model(ModelFilesError::Cancelled) => ErrorKind::Interrupted,
            // Someone may have put it in the place of the model.
            Self::Model(ModelFilesError::Link { .. } | ModelFilesError::NotUtf8 { .. }) => ErrorKind::Refused,
            Self::Model(_) | Self::Path(_) | Self::NoRoot => ErrorKind::Input,
            Self::NoSignature { .. } | Self::Read { .. } | Self::Refused { .. } | Self::Unknown { .. } => {
                ErrorKind::Refused
            }
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(ModelFilesError::Link { .. }) => Some(LINK_HINT.to_owned()),
            Self::NoRoot => Some("add the root to the files of --certificate-chain".to_owned()),
            Self::NoSignature { .. } => {
                Some("name the file with --signature; `nimctl sign` writes one".to_owned())
            }
            Self::Refused { source, .. } => source.hint(),
            Self::Unknown { source, .. } => Some(source.hint()),
            Self::Model(_) | Self::Path(_) | Self::Read { .. } => None,
        }
    }
}

/// Verifies the signature of a model, then every file of the model against it. No file is read before the signature is accepted.
///
/// # Errors
/// A signature that is not accepted, a model that can't be read. Where the model differs is in the report.
pub fn verify_signature(options: &VerifyOptions<'_>) -> Result<SignatureReport, VerifySignatureError> {
    let VerifyOptions {
        model,
        signature,
        trusted,
        ignore,
        ignore_unsigned,
        allow_symlinks,
        threads,
        is_cancelled,
    } = options;
    fs_err::symlink_metadata(model)
        .map_err(|source| ModelFilesError::Io { path: model.to_path_buf(), source })?;
    if let Trusted::Certificates { certificates, now_s: _ } = trusted
        && !certificates.iter().any(Certificate::is_self_issued)
    {
        return Err(VerifySignatureError::NoRoot);
    }
    let signature = match signature {
        Some(path) => path.to_path_buf(),
        None => default_signature(model)?,
    };
    let refused =
        |refusal| VerifySignatureError::Refused { signature: signature.clone(), source: Box::new(refusal) };
    let bytes = read_signature(model, &signature)?;
    let bundle = Bundle::parse(&bytes).map_err(refused)?;
    let (statement, signer, identified): (Statement, _, _) =
        trusted.open(&bundle).map_err(|error| match error {
            NotOpened::Refused(source) => {
                VerifySignatureError::Refused { signature: signature.clone(), source }
            }
            NotOpened::Unknown(source) => {
                VerifySignatureError::Unknown { signature: signature.clone(), source }
            }
        })?;

    let mut ignored = Vec::new();
    for path in *ignore {
        let inside = path_in_model(model, path);
        ignored.push(
            inside.ok_or_else(|| SignError::IgnoredElsewhere {
                path: path.clone(),
                model: model.to_path_buf(),
            })?,
        );
    }
    let is_ignored = |name: &str| ignored.iter().any(|ignored| is_below(name, ignored));
    // The signature is no part of what it signs.
    let signature_inside = path_in_model(model, &signature);
    let may_be_left_out =
        |path: &str| identified.is_none() || GIT_PATHS.iter().any(|ours| is_below(path, ours));
    let was_ignored = |name: &str| {
        signature_inside.as_deref() == Some(name)
            || statement
                .ignore_paths()
                .iter()
                .any(|ignored| is_below(name, ignored) && may_be_left_out(ignored))
    };
    let signed: std::collections::BTreeSet<&str> =
        statement.resources().iter().map(|resource| resource.name.as_str()).collect();
    let reading = Reading {
        follow_links: *allow_symlinks && statement.allow_symlinks(),
        is_ignored: &|name| is_ignored(name) || was_ignored(name),
        is_read: &|name| !ignore_unsigned || signed.contains(name),
        threads: *threads,
        is_cancelled,
    };
    let ModelFiles { mut found, size_bytes } = model_files::read(model, &reading)?;
    if *ignore_unsigned {
        found.retain(|name, _| signed.contains(name.as_str()));
    }
    let differences = compare(statement.resources(), &found, is_ignored);
    Ok(SignatureReport {
        model: statement.model().to_owned(),
        digest: statement.digest(),
        signer,
        files: statement.resources().len(),
        size_bytes,
        differences,
        links_were_followed: statement.allow_symlinks() && !allow_symlinks,
        signature,
        identified,
        statement,
    })
}

/// Reads a signature that is a bundle, whoever made it.
///
/// # Errors
/// No file, one that can't be read, no bundle.
pub fn read_bundle(model: &Path, signature: &Path) -> Result<Vec<u8>, VerifySignatureError> {
    let bytes = read_signature(model, signature)?;
    match Bundle::parse(&bytes) {
        Ok(_) => Ok(bytes),
        Err(refusal) => {
            Err(VerifySignatureError::Refused { signature: signature.into(), source: Box::new(refusal) })
        }
    }
}

/// Reads a signature, unless it is larger than one can be.
fn read_signature(model: &Path, signature: &Path) -> Result<Vec<u8>, VerifySignatureError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => {
            VerifySignatureError::NoSignature { model: model.to_owned(), signature: signature.to_owned() }
        }
        _ => VerifySignatureError::Read { signature: signature.to_owned(), source },
    };
    let file = fs_err::File::open(signature).map_err(failed)?;
    let too_large = |size_bytes| VerifySignatureError::Refused {
        signature: signature.to_owned(),
        source: Box::new(Refusal::TooLarge { size_bytes, limit_bytes: MAX_BUNDLE_BYTES }),
    };
    let size_bytes = file.metadata().map_err(failed)?.len();
    if size_bytes > MAX_BUNDLE_BYTES {
        return Err(too_large(size_bytes));
    }
    // A pipe doesn't say how much comes.
    let mut bytes = Vec::new();
    file.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

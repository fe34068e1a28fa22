//! `sign`: one signature over every file of a model.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::files::atomic_file;
use crate::files::destination::{self, BadDestination};
use crate::files::model_files::{self, ModelFiles, ModelFilesError, Reading};
use crate::signing::{
    Bundle, Certificate, ChainError, Found, InvalidStatement, KeyError, MAX_BUNDLE_BYTES, PrivateKey,
    Resource, Signer, Statement, is_below,
};

/// Files of git's, which others leave out of a signature too.
pub(super) const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// What to sign, and with what.
pub struct SignOptions<'a> {
    /// The model: a folder, or one file.
    pub model: &'a Path,
    /// Where the signature goes; without it, beside the model ([`default_signature`]).
    pub signature: Option<&'a Path>,
    /// Files and folders in the model that are left out, as paths from here.
    pub ignore: &'a [PathBuf],
    /// Whether symbolic links to files are followed.
    pub allow_symlinks: bool,
    /// The key.
    pub key: PrivateKey,
    /// The certificate of the key, and those that lead from it to a root.
    pub certificates: Option<Vec<Certificate>>,
    /// The files of the key and the certificates, which must not be written over.
    pub key_files: &'a [PathBuf],
    /// The time, in seconds since 1970: certificates have to be valid.
    pub now_s: u64,
    /// How many threads read files at most.
    pub threads: usize,
    /// Whether to give up.
    pub is_cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Where the signature is.
    pub signature: PathBuf,
    /// The name of the model in it.
    pub model: String,
    /// The digest that stands for the model.
    pub digest: Sha256,
    /// How many files are signed.
    pub files: usize,
    /// Their bytes.
    pub size_bytes: u64,
    /// What was left out, by path in the model.
    pub ignored: Vec<String>,
    /// Who signed.
    pub signer: Signer,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelFilesError),
    /// Its path has no name.
    #[error("cannot tell the name of the model {}", path.display())]
    Name {
        /// The path.
        path: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
    /// A path to be left out is elsewhere.
    #[error("{} is not in the model {}: nothing there could be ignored", path.display(), model.display())]
    IgnoredElsewhere {
        /// The path.
        path: PathBuf,
        /// The model.
        model: PathBuf,
    },
    /// Something that is no file.
    #[error("cannot sign {}: {name} {what}", model.display())]
    NotAFile {
        /// The model.
        model: PathBuf,
        /// The path in it.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// What was found can't be signed.
    #[error("cannot sign {}", model.display())]
    Statement {
        /// The model.
        model: PathBuf,
        /// Why.
        source: InvalidStatement,
    },
    /// The certificate is not one for signing.
    #[error(transparent)]
    Certificate(#[from] ChainError),
    /// The certificate is that of another key.
    #[error(
        "the certificate `{subject}` is not that of the key: it has the key {certificate}, and the one given is {key}"
    )]
    OtherKey {
        /// The name in the certificate.
        subject: String,
        /// The digest of its key.
        certificate: String,
        /// The digest of the key that was given.
        key: String,
    },
    /// More files than a signature can have.
    #[error(
        "the signature has {size_bytes} bytes, and the limit is {MAX_BUNDLE_BYTES}: sign an archive of the folder instead"
    )]
    TooLarge {
        /// Its size.
        size_bytes: u64,
    },
    /// The place of the signature.
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// Writing it.
    #[error("cannot write the signature {}", path.display())]
    Write {
        /// The place.
        path: PathBuf,
        /// Why; names the path.
        source: io::Error,
    },
}

impl SignError {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Model(ModelFilesError::Cancelled) => ErrorKind::Interrupted,
            _ => ErrorKind::Input,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Model(ModelFilesError::Link { .. }) => Some(LINK_HINT.to_owned()),
            Self::NotAFile { what, .. } if *what == IS_LINK => Some(
                "sign the bytes that it leads to with --allow-symlinks, or ignore it with --ignore".into(),
            ),
            Self::Certificate(ChainError::Key { error: KeyError::Unsupported(_), .. }) => {
                Some("use a certificate for an ECDSA key".into())
            }
            _ => None,
        }
    }
}

/// What to do about a model that is a link.
pub(super) const LINK_HINT: &str = "give the path that it leads to, or --allow-symlinks";
const IS_LINK: &str = "is a symbolic link";

/// Signs a model, and writes the signature.
///
/// # Errors
/// A model that can't be read or signed, a certificate that is not the key's, a place that can't be written.
pub fn sign(options: SignOptions<'_>) -> Result<Signed, SignError> {
    let SignOptions {
        model,
        signature,
        ignore,
        allow_symlinks,
        key,
        certificates,
        key_files,
        now_s,
        threads,
        is_cancelled,
    } = options;
    if let Some(leaf) = certificates.as_ref().and_then(|certificates| certificates.first()) {
        check_certificate(leaf, &key, now_s)?;
    }
    let name = name_of(model)?;
    let signature = match signature {
        Some(path) => path.to_owned(),
        None => default_signature(model)?,
    };
    destination::check(&signature, key_files.iter().map(PathBuf::as_path).chain([model]))?;
    destination::check_keeps(&signature, model, |old| Bundle::parse(old).is_ok())?;
    let mut ignored: BTreeSet<String> = GIT_PATHS.map(str::to_owned).into();
    for path in ignore {
        let inside = path_in_model(model, path);
        ignored.insert(
            inside
                .ok_or_else(|| SignError::IgnoredElsewhere { path: path.clone(), model: model.to_owned() })?,
        );
    }
    ignored.extend(path_in_model(model, &signature));
    let reading = Reading {
        follow_links: allow_symlinks,
        is_ignored: &|name| ignored.iter().any(|ignored| is_below(name, ignored)),
        is_read: &|_| true,
        threads,
        is_cancelled,
    };
    let ModelFiles { found, size_bytes } = model_files::read(model, &reading)?;
    let resources = found.into_iter().map(|(name, found)| resource(model, name, found));
    let resources: Vec<Resource> = resources.collect::<Result<_, _>>()?;
    let statement = Statement::new(name, allow_symlinks, ignored, resources)
        .map_err(|source| SignError::Statement { model: model.to_owned(), source })?;
    let signer = Signer::of(&key, certificates.as_deref());
    let bundle = Bundle::sign(&statement, &key, certificates).to_json();
    drop(key);
    if bundle.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(SignError::TooLarge { size_bytes: bundle.len() as u64 });
    }
    atomic_file::write(&signature, &bundle)
        .map_err(|source| SignError::Write { path: signature.clone(), source })?;
    Ok(Signed {
        signature,
        model: statement.model().to_owned(),
        digest: statement.digest(),
        files: statement.resources().len(),
        size_bytes,
        ignored: statement.ignore_paths().to_vec(),
        signer,
    })
}

pub(super) fn check_certificate(leaf: &Certificate, key: &PrivateKey, now_s: u64) -> Result<(), SignError> {
    let of_certificate = leaf.check_for_signing(now_s)?;
    let of_key = key.public_key();
    if of_certificate == of_key {
        return Ok(());
    }
    Err(SignError::OtherKey {
        subject: leaf.subject(),
        certificate: of_certificate.hint().to_hex(),
        key: of_key.hint().to_hex(),
    })
}

fn resource(model: &Path, name: String, found: Found) -> Result<Resource, SignError> {
    let what = match found {
        Found::File(digest) => return Ok(Resource { name, digest }),
        Found::Link => IS_LINK,
        Found::LinkToFolder => "is a symbolic link to a folder, which no signature covers",
        Found::Special => "is neither a file nor a folder",
    };
    Err(SignError::NotAFile { model: model.to_owned(), name, what })
}

/// Returns where the signature of a model is if nobody says otherwise: beside it, with its name and `.sig`.
///
/// # Errors
/// A path without a name, such as `/`, or one that isn't there, such as `..` of a folder that was removed.
pub fn default_signature(model: &Path) -> Result<PathBuf, SignError> {
    let file = format!("{}.sig", name_of(model)?);
    if model.file_name().is_some() {
        return Ok(model.with_file_name(file));
    }
    let real = real_path(model)?;
    Ok(real.with_file_name(file))
}

/// Returns the name of a model: the last part of its path.
fn name_of(model: &Path) -> Result<String, SignError> {
    let no_name = || SignError::Name {
        path: model.to_owned(),
        source: io::Error::other("its path has no last part that is UTF-8"),
    };
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    match model.file_name() {
        Some(_) => name(model).ok_or_else(no_name),
        // `.`, `..`
        None => name(&real_path(model)?).ok_or_else(no_name),
    }
}

fn real_path(model: &Path) -> Result<PathBuf, SignError> {
    fs_err::canonicalize(model).map_err(|source| SignError::Name { path: model.to_owned(), source })
}

/// Returns where a path is in a model, with `/`; `None` if it is elsewhere, or the model itself. It need not be there. Links on the
/// way to both are followed, and a link at the end is not.
pub(super) fn path_in_model(model: &Path, path: &Path) -> Option<String> {
    let model = fs_err::canonicalize(model).ok()?;
    let path = std::path::absolute(path).ok()?;
    let ends_in_dots = path.components().next_back() == Some(Component::ParentDir);
    let real = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !ends_in_dots => existing_part(parent)?.join(name),
        _ => fs_err::canonicalize(&path).ok()?,
    };
    let inside = real.strip_prefix(&model).ok()?.to_str()?;
    (!inside.is_empty()).then(|| inside.to_owned())
}

/// Returns a path with its links followed, as far as it is there.
fn existing_part(path: &Path) -> Option<PathBuf> {
    match fs_err::canonicalize(path) {
        Ok(real) => Some(real),
        Err(_) if path.components().any(|part| part == Component::ParentDir) => None,
        Err(_) => Some(existing_part(path.parent()?)?.join(path.file_name()?)),
    }
}

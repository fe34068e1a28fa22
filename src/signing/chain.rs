//! From a certificate to a root that is trusted.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};

use super::certificate::{Certificate, Validity};
use super::key::{KeyError, PublicKey};

/// `codeSigning`, 1.3.6.1.5.5.7.3.3: what a certificate between leaf and root has to allow if it limits its uses.
const CODE_SIGNING: &[u8] = &[43, 6, 1, 5, 5, 7, 3, 3];

/// Certificates that are not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No root is trusted.
    #[error("none of the trusted certificates is a root: a root is issued by itself")]
    NoRoot,
    /// Too late.
    #[error("the certificate `{subject}` expired on {at}")]
    Expired {
        /// Whose certificate.
        subject: String,
        /// The last second at which it was valid.
        at: String,
    },
    /// Too early.
    #[error("the certificate `{subject}` is not valid before {at}")]
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// The first second at which it is valid.
        at: String,
    },
    /// The key is for something else.
    #[error("the certificate `{subject}` is not for this use: {problem}")]
    WrongUsage {
        /// Whose certificate.
        subject: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The key makes no signatures of models.
    #[error("the certificate `{subject}`: {error}")]
    Key {
        /// Whose certificate.
        subject: String,
        /// What is wrong with its key.
        error: KeyError,
    },
    /// No path to a root.
    #[error(
        "the certificate `{subject}` does not lead to a trusted root (it was issued by `{issuer}`): {problem}"
    )]
    Untrusted {
        /// Whose certificate.
        subject: String,
        /// Who issued it.
        issuer: String,
        /// What is wrong.
        problem: String,
    },
}

/// What a chain of certificates gives.
pub(super) struct Verified {
    /// The key of the leaf.
    pub(super) key: PublicKey,
    /// The name in the root.
    pub(super) root: String,
}

/// Verifies that `leaf` leads to a root among the `trusted` ones at a time in seconds since 1970, through `others` and those of the
/// trusted ones that are no roots.
pub(super) fn verify(
    leaf: &Certificate,
    others: &[Certificate],
    trusted: &[Certificate],
    now_s: u64,
) -> Result<Verified, ChainError> {
    let (roots, more): (Vec<_>, Vec<_>) =
        trusted.iter().partition(|certificate| certificate.is_self_issued());
    if roots.is_empty() {
        return Err(ChainError::NoRoot);
    }
    let key = check_leaf(leaf, now_s)?;
    let between: Vec<&Certificate> = others.iter().chain(more).collect();
    let (valid, invalid): (Vec<&Certificate>, Vec<_>) =
        roots.into_iter().partition(|root| root.validity(now_s) == Validity::Now);
    let found = lead(leaf, &between, &valid, now_s).map_err(|error| {
        // A root that is too old or too new: that is why.
        match lead(leaf, &between, &invalid, now_s) {
            Ok(root) => out_of_time(root, now_s).unwrap_or(error),
            Err(_) => error,
        }
    });
    found.map(|root| Verified { key, root: root.subject() })
}

/// Checks what a certificate itself says: when it is valid, and whether its key may sign a model.
pub(super) fn check_leaf(leaf: &Certificate, now_s: u64) -> Result<PublicKey, ChainError> {
    if let Some(error) = out_of_time(leaf, now_s) {
        return Err(error);
    }
    if let Some(problem) = leaf.not_for_signing() {
        return Err(ChainError::WrongUsage { subject: leaf.subject(), problem: problem.to_owned() });
    }
    leaf.public_key().map_err(|error| ChainError::Key { subject: leaf.subject(), error })
}

impl Certificate {
    /// Checks that its key may sign a model at a time in seconds since 1970, and returns the key.
    ///
    /// # Errors
    /// A certificate that is not valid then, or for another use.
    pub fn check_for_signing(&self, now_s: u64) -> Result<PublicKey, ChainError> {
        check_leaf(self, now_s)
    }
}

fn out_of_time(certificate: &Certificate, now_s: u64) -> Option<ChainError> {
    let subject = certificate.subject();
    let (from, to) = certificate.valid_from_to();
    match certificate.validity(now_s) {
        Validity::Now => None,
        Validity::NotYet => Some(ChainError::NotYetValid { subject, at: from }),
        Validity::NoLonger => Some(ChainError::Expired { subject, at: to }),
    }
}

/// Returns the root that a certificate leads to.
fn lead<'a>(
    leaf: &Certificate,
    between: &[&Certificate],
    roots: &[&'a Certificate],
    now_s: u64,
) -> Result<&'a Certificate, ChainError> {
    let untrusted =
        |problem: String| ChainError::Untrusted { subject: leaf.subject(), issuer: leaf.issuer(), problem };
    let ders: Vec<CertificateDer<'_>> = roots.iter().map(|root| root.der().into()).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        ders.iter()
            .map(anchor_from_trusted_cert)
            .collect::<Result<_, _>>()
            .map_err(|error| untrusted(format!("a root can't be used: {}", in_words(&error))))?;
    let between_der: Vec<CertificateDer<'_>> =
        between.iter().map(|certificate| certificate.der().into()).collect();
    let leaf_der = CertificateDer::from(leaf.der());
    let entity = EndEntityCert::try_from(&leaf_der).map_err(|error| untrusted(in_words(&error)))?;
    let path = entity.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &anchors,
        &between_der,
        UnixTime::since_unix_epoch(Duration::from_secs(now_s)),
        KeyUsage::required_if_present(CODE_SIGNING),
        None,
        None,
    );
    let path = path.map_err(|error| {
        // The leaf is valid now, so it is one between.
        let is_time = matches!(error, Error::CertExpired { .. } | Error::CertNotValidYet { .. });
        let of_time = between.iter().find_map(|certificate| out_of_time(certificate, now_s));
        of_time.filter(|_| is_time).unwrap_or_else(|| untrusted(in_words(&error)))
    })?;
    let position = anchors.iter().position(|anchor| std::ptr::eq(anchor, path.anchor()));
    let root = position.and_then(|position| roots.get(position).copied());
    let root = root.ok_or_else(|| untrusted("no root was found".to_owned()))?;
    let used = |certificate: &&&Certificate| {
        path.intermediate_certificates().any(|used| *used.der() == *certificate.der())
    };
    for certificate in between.iter().filter(used).copied().chain([root]) {
        if !certificate.may_sign_certificates() {
            return Err(ChainError::WrongUsage {
                subject: certificate.subject(),
                problem: "its key usage does not include keyCertSign".to_owned(),
            });
        }
    }
    Ok(root)
}

fn in_words(error: &Error) -> String {
    match error {
        Error::UnknownIssuer => "no trusted root, and no certificate in the signature, is its issuer".into(),
        Error::InvalidSignatureForPublicKey => "a signature in the chain is wrong".into(),
        Error::EndEntityUsedAsCa => "a certificate in the chain is not one of an authority (CA:FALSE)".into(),
        Error::CaUsedAsEndEntity => {
            "it is the certificate of an authority (CA:TRUE), which signs no models".into()
        }
        Error::PathLenConstraintViolated => "the chain is longer than a certificate in it allows".into(),
        Error::NameConstraintViolation => "its name is not among those that its authority may name".into(),
        Error::UnsupportedCriticalExtension => {
            "a certificate has a critical extension that is not supported".into()
        }
        Error::RequiredEkuNotFoundContext(_) => {
            "a certificate in the chain has an extended key usage without codeSigning".into()
        }
        other => format!("{other:?}"),
    }
}

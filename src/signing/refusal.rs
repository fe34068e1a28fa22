//! Why a signature is not accepted.

use super::certificate::CertificateError;
use super::chain::ChainError;
use super::key::Curve;
use super::statement::InvalidStatement;

/// Why a signature is not accepted. None of it says anything about the files of the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too large to be read.
    #[error("it has {size_bytes} bytes, and the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Not JSON of the right form.
    #[error("it is not a Sigstore bundle: {0}")]
    Json(String),
    /// Another media type.
    #[error("it is of type `{found}`, expected `{expected}`")]
    MediaType {
        /// The type that it has.
        found: String,
        /// The type that is read.
        expected: &'static str,
    },
    /// Another payload.
    #[error("what is signed is of type `{found}`, expected `{expected}`")]
    PayloadType {
        /// The type that it has.
        found: String,
        /// The type that is read.
        expected: &'static str,
    },
    /// A part that should be Base64.
    #[error("{0} is not Base64")]
    Base64(&'static str),
    /// No signature.
    #[error("it has no signature")]
    NoSignature,
    /// Made with Sigstore's keyless mode.
    #[error("it is a keyless signature of Sigstore's, which this nimctl does not verify")]
    Keyless,
    /// Nothing tells how it was made.
    #[error("it names neither a key nor certificates")]
    NoMaterial,
    /// Too many certificates.
    #[error("it has {0} certificates: expected 1 to {max}", max = super::bundle::MAX_CERTIFICATES)]
    CertificateCount(usize),
    /// A certificate in it that can't be read.
    #[error("certificate {number} in it: {error}")]
    Certificate {
        /// Its place, from 1.
        number: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// Signed with a certificate, and a key is given.
    #[error("it was made with a certificate, and a key is given to verify it")]
    HasCertificates,
    /// Signed with a key, and certificates are given.
    #[error("it was made with a key without a certificate, and certificates are given to verify it")]
    HasKey,
    /// Made with another key.
    #[error("it was made with another key: it names the key {named}, and the one given is {given}")]
    OtherKey {
        /// The hint in the bundle.
        named: String,
        /// The hint of the key that was given.
        given: String,
    },
    /// The certificates are not trusted.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The signature is not of this key over these bytes.
    #[error(
        "the signature does not match: what is signed was changed, or signed with another key than this {curve} one"
    )]
    WrongSignature {
        /// The curve of the key.
        curve: Curve,
    },
    /// What is signed is no statement about a model.
    #[error(transparent)]
    Statement(#[from] InvalidStatement),
}

impl Refusal {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::HasCertificates => "verify it with --certificate-chain ROOT.pem",
            Self::HasKey => "verify it with --key PUBLIC.pem",
            Self::OtherKey { .. } | Self::WrongSignature { .. } => {
                "ask who signed the model for the public key, and get model and signature again if it is the right one"
            }
            Self::Chain(ChainError::Untrusted { .. }) => {
                "name the root that the certificate must lead to with --certificate-chain"
            }
            Self::Chain(_) => "have the model signed again, with a certificate that is valid for it",
            Self::Statement(InvalidStatement::OldFormat | InvalidStatement::Method { .. }) => {
                "have the model signed again: `nimctl sign`, or `model_signing sign` with its defaults"
            }
            Self::Keyless => "verify it with `model_signing verify sigstore`, or have it signed with a key",
            Self::TooLarge { .. }
            | Self::Json(_)
            | Self::MediaType { .. }
            | Self::PayloadType { .. }
            | Self::Base64(_)
            | Self::NoSignature
            | Self::NoMaterial
            | Self::CertificateCount(_)
            | Self::Certificate { .. }
            | Self::Statement(_) => {
                "this is not what `nimctl sign` or `model_signing sign` writes: get the signature again"
            }
        };
        Some(hint.to_owned())
    }
}

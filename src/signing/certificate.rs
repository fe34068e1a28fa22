//! One X.509 certificate: names, times, and what its key may be used for.

use pkcs8::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage};
use x509_cert::time::Time;

use super::key::{KeyError, PublicKey};
use super::pem::blocks;
use crate::digest::Sha256;

const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");

/// A certificate that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No PEM block of a certificate.
    #[error("expected a certificate in PEM, found none")]
    NotThere,
    /// Not DER of a certificate.
    #[error("not an X.509 certificate")]
    Damaged,
}

/// A certificate, none of which is verified.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Now,
    NotYet,
    NoLonger,
}

impl Certificate {
    /// Parses DER.
    ///
    /// # Errors
    /// What is no certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateError::Damaged)?;
        Ok(Self { der: der.to_vec(), parsed })
    }

    /// Parses all certificates of a PEM text.
    ///
    /// # Errors
    /// No certificate, or one that is damaged.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let blocks = blocks(text);
        let certificates: Vec<_> = blocks
            .iter()
            .filter(|block| block.label == "CERTIFICATE")
            .map(|block| Self::from_der(&block.decode().ok_or(CertificateError::Damaged)?))
            .collect::<Result<_, _>>()?;
        if certificates.is_empty() { Err(CertificateError::NotThere) } else { Ok(certificates) }
    }

    /// Returns its DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the name of its owner.
    pub fn subject(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// Returns the name of who signed it.
    pub fn issuer(&self) -> String {
        self.parsed.tbs_certificate().issuer().to_string()
    }

    /// Returns SHA-256 of its DER.
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.der)
    }

    /// Returns the public key of its owner.
    ///
    /// # Errors
    /// A key of a kind that makes no signatures of models.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        let info = self.parsed.tbs_certificate().subject_public_key_info().to_der();
        PublicKey::from_der(&info.map_err(|_| KeyError::Damaged("the DER of a public key"))?)
    }

    /// Returns whether its issuer is its owner, as with a root.
    pub fn is_self_issued(&self) -> bool {
        let certificate = self.parsed.tbs_certificate();
        certificate.subject() == certificate.issuer()
    }

    /// Returns whether it is valid at a time in seconds since 1970.
    pub(super) fn validity(&self, now_s: u64) -> Validity {
        let validity = self.parsed.tbs_certificate().validity();
        let seconds = |time: Time| time.to_unix_duration().as_secs();
        if now_s < seconds(validity.not_before) {
            Validity::NotYet
        } else if now_s > seconds(validity.not_after) {
            Validity::NoLonger
        } else {
            Validity::Now
        }
    }

    /// Returns the first and the last second at which it is valid, as text in UTC.
    pub(super) fn valid_from_to(&self) -> (String, String) {
        let validity = self.parsed.tbs_certificate().validity();
        (validity.not_before.to_string(), validity.not_after.to_string())
    }

    /// Returns why its key may not sign a model; `None` if it may.
    pub(super) fn not_for_signing(&self) -> Option<&'static str> {
        let certificate = self.parsed.tbs_certificate();
        let Ok(usage) = certificate.get_extension::<KeyUsage>() else {
            return Some("its key usage can't be read");
        };
        let Ok(extended) = certificate.get_extension::<ExtendedKeyUsage>() else {
            return Some("its extended key usage can't be read");
        };
        let signs_code = extended.map(|(_, ExtendedKeyUsage(purposes))| purposes.contains(&CODE_SIGNING));
        match (usage.map(|(_, usage)| usage.digital_signature()), signs_code) {
            (Some(false), _) => Some("its key usage does not include digitalSignature"),
            (_, Some(false)) => Some("its extended key usage does not include codeSigning"),
            (None, None) => Some("it has no key usage: digitalSignature is required"),
            (Some(true), None) | (_, Some(true)) => None,
        }
    }

    /// Returns whether its key may sign certificates, as far as its key usage says.
    pub(super) fn may_sign_certificates(&self) -> bool {
        match self.parsed.tbs_certificate().get_extension::<KeyUsage>() {
            Ok(Some((_, usage))) => usage.key_cert_sign(),
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

//! Public keys, and what is said of a key that can't be used.

use std::fmt;

use p256::ecdsa::signature::Verifier as _;
use pkcs8::der::pem::LineEnding;
use pkcs8::spki::{DecodePublicKey as _, EncodePublicKey as _, SubjectPublicKeyInfoRef};
use pkcs8::{AlgorithmIdentifierRef, ObjectIdentifier};

use super::pem::{Block, blocks};
use crate::digest::Sha256;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A curve of NIST's. Each goes with one hash: SHA-256, SHA-384 and SHA-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Curve {
    /// `prime256v1`, `secp256r1`.
    #[serde(rename = "P-256")]
    P256,
    /// `secp384r1`.
    #[serde(rename = "P-384")]
    P384,
    /// `secp521r1`.
    #[serde(rename = "P-521")]
    P521,
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

/// A key that can't be used. No variant holds a part of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No PEM block of a key.
    #[error("expected {expected} in PEM, found {found}")]
    NotThere {
        /// What was looked for.
        expected: &'static str,
        /// What is there instead.
        found: String,
    },
    /// The kind of key is not supported by the format.
    #[error("{0} keys are not supported: expected an ECDSA key on the curve P-256, P-384 or P-521")]
    Unsupported(String),
    /// The block is damaged.
    #[error("the key is damaged: it is not {0}")]
    Damaged(&'static str),
    /// Encrypted, and no password was given.
    #[error("the key is encrypted, and no password was given")]
    NeedsPassword,
    /// Encrypted with another password.
    #[error("the key can't be decrypted: the password is wrong, or the key is damaged")]
    WrongPassword,
    /// Encrypted in a way that is not supported.
    #[error("the key is encrypted in a way that is not supported: {0}")]
    UnsupportedEncryption(&'static str),
}

impl KeyError {
    /// Returns what to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unsupported(_) => {
                "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"
            }
            Self::NeedsPassword => {
                "put the password into an environment variable, and name it with --password-env"
            }
            Self::UnsupportedEncryption(_) => "convert it: openssl pkcs8 -topk8 -in OLD.pem -out key.pem",
            Self::NotThere { expected, .. } if expected.contains("public") => {
                "write the public key of a private one: openssl pkey -in key.pem -pubout -out key.pub"
            }
            Self::NotThere { .. } | Self::Damaged(_) | Self::WrongPassword => return None,
        };
        Some(hint.to_owned())
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// On P-256.
    P256(p256::PublicKey),
    /// On P-384.
    P384(p384::PublicKey),
    /// On P-521.
    P521(Box<p521::PublicKey>),
}

impl PublicKey {
    /// Parses the PEM text of a public key, `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// Another kind of file or key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let blocks = blocks(text);
        let Some(block) = blocks.iter().find(|block| block.label == "PUBLIC KEY") else {
            return Err(KeyError::NotThere { expected: "a public key", found: what_is_there(&blocks) });
        };
        let der = block.decode().ok_or(KeyError::Damaged("PEM"))?;
        Self::from_der(&der)
    }

    /// Parses the DER of a public key with its algorithm (`SubjectPublicKeyInfo`).
    ///
    /// # Errors
    /// Another kind of key.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        const NOT_DER: KeyError = KeyError::Damaged("the DER of a public key");
        let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| NOT_DER)?;
        let damaged = |_| KeyError::Damaged("a point on its curve");
        Ok(match curve_of(&info.algorithm)? {
            Curve::P256 => Self::P256(p256::PublicKey::from_public_key_der(der).map_err(damaged)?),
            Curve::P384 => Self::P384(p384::PublicKey::from_public_key_der(der).map_err(damaged)?),
            Curve::P521 => Self::P521(Box::new(p521::PublicKey::from_public_key_der(der).map_err(damaged)?)),
        })
    }

    /// Returns its curve.
    pub fn curve(&self) -> Curve {
        match self {
            Self::P256(_) => Curve::P256,
            Self::P384(_) => Curve::P384,
            Self::P521(_) => Curve::P521,
        }
    }

    /// Returns the PEM text of the key, as OpenSSL writes it.
    pub fn to_pem(&self) -> String {
        let pem = match self {
            Self::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Self::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.expect("a public key has a fixed, small size")
    }

    /// Returns what bundles name the key by: SHA-256 of its PEM text.
    pub fn hint(&self) -> Sha256 {
        Sha256::of(self.to_pem().as_bytes())
    }

    /// Returns whether a signature in DER is one of this key over the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        macro_rules! verifies {
            ($curve:ident, $key:expr) => {
                $curve::ecdsa::Signature::from_der(signature).is_ok_and(|signature| {
                    $curve::ecdsa::VerifyingKey::from($key).verify(message, &signature).is_ok()
                })
            };
        }
        match self {
            Self::P256(key) => verifies!(p256, key),
            Self::P384(key) => verifies!(p384, key),
            Self::P521(key) => verifies!(p521, key.as_ref()),
        }
    }
}

/// Returns the curve of a key.
pub(super) fn curve_of(algorithm: &AlgorithmIdentifierRef<'_>) -> Result<Curve, KeyError> {
    if algorithm.oid != EC_PUBLIC_KEY {
        return Err(KeyError::Unsupported(algorithm_name(&algorithm.oid)));
    }
    let curve = algorithm.parameters_oid().map_err(|_| {
        KeyError::Unsupported("ECDSA (with the parameters of the curve instead of its name)".into())
    })?;
    named_curve(&curve)
}

/// Returns the curve that an object identifier names.
pub(super) fn named_curve(curve: &ObjectIdentifier) -> Result<Curve, KeyError> {
    Ok(match curve.to_string().as_str() {
        "1.2.840.10045.3.1.7" => Curve::P256,
        "1.3.132.0.34" => Curve::P384,
        "1.3.132.0.35" => Curve::P521,
        "1.3.132.0.10" => return Err(KeyError::Unsupported("ECDSA (curve secp256k1)".into())),
        "1.3.132.0.33" => return Err(KeyError::Unsupported("ECDSA (curve P-224)".into())),
        other => return Err(KeyError::Unsupported(format!("ECDSA (curve {other})"))),
    })
}

fn algorithm_name(oid: &ObjectIdentifier) -> String {
    match oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" => "RSA".into(),
        "1.2.840.113549.1.1.10" => "RSA (PSS)".into(),
        "1.2.840.10040.4.1" => "DSA".into(),
        "1.3.101.110" => "X25519".into(),
        "1.3.101.111" => "X448".into(),
        "1.3.101.112" => "Ed25519".into(),
        "1.3.101.113" => "Ed448".into(),
        other => format!("{other} (an unknown algorithm)"),
    }
}

/// Returns what a file has instead of a key that was looked for.
pub(super) fn what_is_there(blocks: &[Block<'_>]) -> String {
    // A label may be anything; only known ones are repeated.
    const KNOWN: [&str; 9] = [
        "CERTIFICATE",
        "CERTIFICATE REQUEST",
        "EC PARAMETERS",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PRIVATE KEY",
        "PUBLIC KEY",
        "RSA PRIVATE KEY",
    ];
    match blocks.iter().find_map(|block| KNOWN.iter().find(|known| **known == block.label)) {
        Some(label) => format!("`{label}`"),
        None if blocks.is_empty() => "no PEM".into(),
        None => "a block of another kind".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> String {
        fs_err::read_to_string(format!("{}/tests/fixtures/signing/{name}", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
    }

    #[test]
    fn a_key_is_written_as_openssl_writes_it() {
        for (name, curve) in [("p256.pub", Curve::P256), ("p384.pub", Curve::P384), ("p521.pub", Curve::P521)]
        {
            let text = fixture(name);
            let key = PublicKey::from_pem(&text).unwrap();
            assert_eq!((key.curve(), key.to_pem()), (curve, text));
        }
    }

    #[test]
    fn other_keys_are_refused_by_name() {
        for (name, expected) in [
            ("rsa.pub", "RSA keys are not supported"),
            ("ed25519.pub", "Ed25519 keys are not supported"),
            ("secp256k1.pub", "ECDSA (curve secp256k1) keys are not supported"),
            ("leaf.pem", "expected a public key in PEM, found `CERTIFICATE`"),
            ("p256.sig", "found no PEM"),
        ] {
            let message = PublicKey::from_pem(&fixture(name)).unwrap_err().to_string();
            assert!(message.contains(expected), "{name}: {message}");
        }
        let damaged = fixture("p256.pub").replace("MFkw", "MFkx");
        assert!(matches!(PublicKey::from_pem(&damaged), Err(KeyError::Damaged(_))));
    }
}

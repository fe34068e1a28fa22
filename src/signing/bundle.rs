//! The bundle: the signed statement, its signature, and what tells which key made it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::certificate::Certificate;
use super::chain::{self, Verified};
use super::key::PublicKey;
use super::private_key::PrivateKey;
use super::refusal::Refusal;
use super::statement::InvalidStatement;
use super::strict_json;
use crate::digest::Sha256;

/// The maximum size of a bundle: enough for a model of 100,000 files.
pub const MAX_BUNDLE_BYTES: u64 = 32 * 1024 * 1024;
/// The maximum number of certificates in a bundle.
pub(super) const MAX_CERTIFICATES: usize = 16;

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// What tells which key made a signature. Nobody signed this part.
#[derive(Clone, Debug)]
pub enum Material {
    /// A key, by the digest of its PEM text ([`PublicKey::hint`]); bundles of older releases leave it out.
    Key(Option<String>),
    /// The certificate of the key, and those that lead from it to a root.
    Certificates(Vec<Certificate>),
}

/// What is signed: an in-toto statement of some type.
pub trait Payload: Sized {
    /// Returns the bytes to sign.
    fn to_payload(&self) -> Vec<u8>;

    /// Parses what was signed.
    ///
    /// # Errors
    /// Everything that is no statement of this type, or breaks a rule.
    fn parse(payload: &[u8]) -> Result<Self, InvalidStatement>;
}

/// A bundle, none of which is verified.
#[derive(Clone, Debug)]
pub struct Bundle {
    material: Material,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Who signed, as far as it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The owner of a key.
    Key(PublicKey),
    /// Who a certificate names.
    Certificate {
        /// The name in the certificate.
        subject: String,
        /// SHA-256 of the certificate.
        fingerprint: Sha256,
        /// The name in the root certificate that it was traced to.
        root: String,
    },
}

impl Signer {
    /// Returns who signs with a key and perhaps the certificates that lead from it to a root.
    pub fn of(key: &PrivateKey, certificates: Option<&[Certificate]>) -> Self {
        match certificates {
            Some([leaf, others @ ..]) => Self::Certificate {
                subject: leaf.subject(),
                fingerprint: leaf.fingerprint(),
                root: others.last().unwrap_or(leaf).issuer(),
            },
            Some([]) | None => Self::Key(key.public_key()),
        }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(f, "the {} key {}", key.curve(), key.hint().to_hex()),
            Self::Certificate { subject, fingerprint: _, root } => {
                write!(f, "{subject}, with a certificate that leads to {root}")
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle {
    media_type: String,
    verification_material: RawMaterial,
    dsse_envelope: RawEnvelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMaterial {
    public_key: Option<RawKey>,
    x509_certificate_chain: Option<RawChain>,
    certificate: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawKey {
    hint: Option<String>,
}

#[derive(Deserialize)]
struct RawChain {
    certificates: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    sig: String,
}

impl Bundle {
    /// Signs a statement. With certificates, the first is that of the key.
    pub fn sign(statement: &impl Payload, key: &PrivateKey, certificates: Option<Vec<Certificate>>) -> Self {
        let payload = statement.to_payload();
        let signature = key.sign(&envelope_bytes(&payload));
        let material = match certificates {
            Some(certificates) => Material::Certificates(certificates),
            None => Material::Key(Some(key.public_key().hint().to_hex())),
        };
        Self { material, payload, signature }
    }

    /// Parses a bundle.
    ///
    /// # Errors
    /// Everything that is no bundle with an in-toto statement, or more than [`MAX_BUNDLE_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(Refusal::TooLarge { size_bytes: bytes.len() as u64, limit_bytes: MAX_BUNDLE_BYTES });
        }
        let RawBundle { media_type, verification_material, dsse_envelope } =
            strict_json::parse(bytes).map_err(|error| Refusal::Json(error.to_string()))?;
        if media_type != MEDIA_TYPE {
            return Err(Refusal::MediaType { found: media_type, expected: MEDIA_TYPE });
        }
        let RawEnvelope { payload, payload_type, signatures } = dsse_envelope;
        if payload_type != PAYLOAD_TYPE {
            return Err(Refusal::PayloadType { found: payload_type, expected: PAYLOAD_TYPE });
        }
        // As others do: of several signatures, the first decides.
        let signature = &signatures.first().ok_or(Refusal::NoSignature)?.sig;
        Ok(Self {
            material: verification_material.check()?,
            payload: decoded(&payload, "the payload")?,
            signature: decoded(signature, "the signature")?,
        })
    }

    /// Returns the text of the bundle.
    pub fn to_json(&self) -> Vec<u8> {
        strict_json::to_readable(&self.to_value())
    }

    /// Returns the text of the bundle on one line, without a line feed.
    pub fn to_json_line(&self) -> String {
        self.to_value().to_string()
    }

    fn to_value(&self) -> serde_json::Value {
        let Self { material, payload, signature } = self;
        let material = match material {
            Material::Key(hint) => json!({ "publicKey": { "hint": hint }, "tlogEntries": [] }),
            Material::Certificates(certificates) => {
                let certificates: Vec<_> = certificates
                    .iter()
                    .map(|certificate| json!({ "rawBytes": STANDARD.encode(certificate.der()) }))
                    .collect();
                json!({ "x509CertificateChain": { "certificates": certificates }, "tlogEntries": [] })
            }
        };
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "sig": STANDARD.encode(signature), "keyid": "" }],
            },
        })
    }

    /// Returns what tells which key made it.
    pub fn material(&self) -> &Material {
        &self.material
    }

    /// Returns whose signature the bundle says it is, which nobody verified.
    pub fn claimed(&self) -> String {
        match &self.material {
            Material::Key(Some(hint)) => format!("the key {}", hint.escape_debug()),
            Material::Key(None) => "a key that it does not name".into(),
            Material::Certificates(certificates) => match certificates.first() {
                Some(leaf) => format!("{} with a certificate", leaf.subject().escape_debug()),
                None => "nobody".into(),
            },
        }
    }

    /// Returns what the bundle says was signed, whoever made it: to sort bundles, and for nothing else.
    ///
    /// # Errors
    /// A statement of another type, or one that breaks a rule.
    pub fn unverified<P: Payload>(&self) -> Result<P, InvalidStatement> {
        P::parse(&self.payload)
    }

    /// Verifies the signature with a key, and returns what was signed.
    ///
    /// # Errors
    /// Another key, a signature that does not match, a statement that breaks a rule.
    pub fn verify_with_key<P: Payload>(&self, key: &PublicKey) -> Result<(P, Signer), Refusal> {
        let Material::Key(named) = &self.material else { return Err(Refusal::HasCertificates) };
        let given = key.hint().to_hex();
        if let Some(named) = named.as_ref().filter(|named| **named != given) {
            return Err(Refusal::OtherKey { named: named.clone(), given });
        }
        Ok((self.statement(key)?, Signer::Key(key.clone())))
    }

    /// Verifies the signature with the certificates in the bundle, and them with those that are trusted, at a time in seconds
    /// since 1970; returns what was signed, and who signed it.
    ///
    /// # Errors
    /// Certificates that don't lead to a trusted root, a signature that does not match, a statement that breaks a rule.
    pub fn verify_with_certificates<P: Payload>(
        &self,
        trusted: &[Certificate],
        now_s: u64,
    ) -> Result<(P, Signer), Refusal> {
        let Material::Certificates(certificates) = &self.material else { return Err(Refusal::HasKey) };
        let (leaf, others) =
            certificates.split_first().ok_or(Refusal::CertificateCount(certificates.len()))?;
        let Verified { key, root } = chain::verify(leaf, others, trusted, now_s)?;
        let signer = Signer::Certificate { subject: leaf.subject(), fingerprint: leaf.fingerprint(), root };
        Ok((self.statement(&key)?, signer))
    }

    fn statement<P: Payload>(&self, key: &PublicKey) -> Result<P, Refusal> {
        if !key.verifies(&envelope_bytes(&self.payload), &self.signature) {
            return Err(Refusal::WrongSignature { curve: key.curve() });
        }
        Ok(P::parse(&self.payload)?)
    }
}

impl RawMaterial {
    fn check(self) -> Result<Material, Refusal> {
        let Self { public_key, x509_certificate_chain, certificate } = self;
        if certificate.is_some() {
            return Err(Refusal::Keyless);
        }
        match (public_key, x509_certificate_chain) {
            (Some(RawKey { hint }), None) => Ok(Material::Key(hint.filter(|hint| !hint.is_empty()))),
            (None, Some(RawChain { certificates })) => {
                if certificates.is_empty() || certificates.len() > MAX_CERTIFICATES {
                    return Err(Refusal::CertificateCount(certificates.len()));
                }
                let certificates = (1..).zip(certificates).map(|(number, RawCertificate { raw_bytes })| {
                    let der = decoded(&raw_bytes, "a certificate")?;
                    Certificate::from_der(&der).map_err(|error| Refusal::Certificate { number, error })
                });
                Ok(Material::Certificates(certificates.collect::<Result<_, _>>()?))
            }
            (None, None) => Err(Refusal::NoMaterial),
            (Some(_), Some(_)) => {
                Err(Refusal::Json("it has both `publicKey` and `x509CertificateChain`".into()))
            }
        }
    }
}

fn decoded(text: &str, what: &'static str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text).map_err(|_| Refusal::Base64(what))
}

/// Returns what DSSE signs of a payload ("pre-authentication encoding").
fn envelope_bytes(payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

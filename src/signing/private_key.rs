//! Private keys.

use p256::ecdsa::signature::Signer as _;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use sec1::EcPrivateKey;
use sec1::der::Decode as _;

use super::key::{Curve, KeyError, PublicKey, curve_of, named_curve, what_is_there};
use super::pem::blocks;

/// A private key. It has no `Debug`, and its memory is overwritten when it is dropped.
pub struct PrivateKey(Secret);

enum Secret {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    P521(Box<p521::SecretKey>),
}

const NOT_PKCS8: KeyError = KeyError::Damaged("the DER of a PKCS#8 key");
const NOT_SEC1: KeyError = KeyError::Damaged("the DER of a SEC1 key");
const OFF_CURVE: KeyError = KeyError::Damaged("a key of its curve");

impl PrivateKey {
    /// Parses the PEM text of a private key: PKCS#8, which may be encrypted, or SEC1.
    ///
    /// # Errors
    /// Another kind of file or key, a wrong password or none where one is needed. A password that is not needed is not
    /// an error.
    pub fn from_pem(text: &str, password: Option<&[u8]>) -> Result<Self, KeyError> {
        let blocks = blocks(text);
        let is_key = |label: &str| label.ends_with("PRIVATE KEY");
        let Some(block) = blocks.iter().find(|block| is_key(block.label)) else {
            return Err(KeyError::NotThere { expected: "a private key", found: what_is_there(&blocks) });
        };
        match block.label {
            "RSA PRIVATE KEY" => return Err(KeyError::Unsupported("RSA".into())),
            "DSA PRIVATE KEY" => return Err(KeyError::Unsupported("DSA".into())),
            "OPENSSH PRIVATE KEY" => return Err(KeyError::Unsupported("OpenSSH's".into())),
            _ if block.has_old_encryption() => {
                return Err(KeyError::UnsupportedEncryption("that of OpenSSL before PKCS#8"));
            }
            _ => {}
        }
        let der = block.decode().ok_or(KeyError::Damaged("PEM"))?;
        match block.label {
            "PRIVATE KEY" => Self::from_pkcs8(&der),
            "ENCRYPTED PRIVATE KEY" => {
                let info = EncryptedPrivateKeyInfoRef::try_from(&**der)
                    .map_err(|_| KeyError::Damaged("the DER of an encrypted PKCS#8 key"))?;
                if info.encryption_algorithm.pbes2().is_none() {
                    return Err(KeyError::UnsupportedEncryption("not PBES2"));
                }
                let password = password.ok_or(KeyError::NeedsPassword)?;
                let plain = info.decrypt(password).map_err(|_| KeyError::WrongPassword)?;
                // A wrong password can give a padding that is right.
                Self::from_pkcs8(plain.as_bytes()).map_err(|error| match error {
                    NOT_PKCS8 => KeyError::WrongPassword,
                    other => other,
                })
            }
            "EC PRIVATE KEY" => Self::from_sec1(&der),
            _ => Err(KeyError::NotThere { expected: "a private key", found: "a key of another kind".into() }),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| NOT_PKCS8)?;
        let curve = curve_of(&info.algorithm)?;
        let key = EcPrivateKey::from_der(info.private_key.as_bytes()).map_err(|_| NOT_SEC1)?;
        Self::of_curve(curve, key)
    }

    fn from_sec1(der: &[u8]) -> Result<Self, KeyError> {
        let key = EcPrivateKey::from_der(der).map_err(|_| NOT_SEC1)?;
        let named = key.parameters.as_ref().and_then(|parameters| parameters.named_curve());
        let curve = named_curve(&named.ok_or(KeyError::Damaged("a key with its curve's name"))?)?;
        Self::of_curve(curve, key)
    }

    /// The public key beside the private one, where there is one, has to be its own.
    fn of_curve(curve: Curve, key: EcPrivateKey<'_>) -> Result<Self, KeyError> {
        let damaged = |_| OFF_CURVE;
        Ok(Self(match curve {
            Curve::P256 => Secret::P256(key.try_into().map_err(damaged)?),
            Curve::P384 => Secret::P384(key.try_into().map_err(damaged)?),
            Curve::P521 => Secret::P521(Box::new(key.try_into().map_err(damaged)?)),
        }))
    }

    /// Returns the public key.
    pub fn public_key(&self) -> PublicKey {
        match &self.0 {
            Secret::P256(key) => PublicKey::P256(key.public_key()),
            Secret::P384(key) => PublicKey::P384(key.public_key()),
            Secret::P521(key) => PublicKey::P521(Box::new(key.public_key())),
        }
    }

    /// Returns the signature of a message in DER: the same for the same key and message (RFC 6979).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        macro_rules! sign {
            ($curve:ident, $key:expr) => {{
                let signature: $curve::ecdsa::Signature = $curve::ecdsa::SigningKey::from($key).sign(message);
                signature.to_der().as_bytes().to_vec()
            }};
        }
        match &self.0 {
            Secret::P256(key) => sign!(p256, key),
            Secret::P384(key) => sign!(p384, key),
            Secret::P521(key) => sign!(p521, key.as_ref()),
        }
    }
}

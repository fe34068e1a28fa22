//! Signatures of models, in the format of OpenSSF model signing v1: what is signed, the bundle that holds it, keys, certificates.
//!
//! ```text
//!  files of a model ──▶ Statement ──▶ Bundle ──▶ model.sig
//!  name and SHA-256     what is       statement, signature, and what
//!  of each              signed        tells which key made it
//! ```
//!
//! A bundle is a Sigstore bundle v0.3: JSON with a DSSE envelope of an in-toto statement. PyPI's `model-signing` writes and reads the
//! same. [`Bundle::parse`] reads one, and gives its [`Statement`] only to who verifies the signature ([`Bundle::verify_with_key`],
//! [`Bundle::verify_with_certificates`]); [`compare()`] then says where a model differs from it.
//!
//! What a stranger may have written is read strictly: at most [`MAX_BUNDLE_BYTES`], no name twice in an object, only the types above,
//! only paths that stay in the model. Types that hold a private key have no `Debug`, and their memory is overwritten when they go.
//!
//! Deliberately not here: bundles of Sigstore's keyless mode, keys in hardware (PKCS#11), digests other than SHA-256.

mod bundle;
mod certificate;
mod chain;
mod compare;
mod key;
mod pem;
mod private_key;
mod refusal;
mod statement;
pub(crate) mod strict_json;
#[cfg(test)]
mod tests;

pub use bundle::{Bundle, MAX_BUNDLE_BYTES, Material, Payload, Signer};
pub use certificate::{Certificate, CertificateError};
pub use chain::ChainError;
pub use compare::{Difference, Found, compare, shown};
pub use key::{Curve, KeyError, PublicKey};
pub use private_key::PrivateKey;
pub use refusal::Refusal;
pub(crate) use statement::STATEMENT_TYPE;
pub use statement::{InvalidStatement, MODEL_ITSELF, Resource, Statement, is_below};

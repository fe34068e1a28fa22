//! Trust policies (`nimctl.trust/1`): whose signatures are accepted, for which models and releases, and what their passports must say.
//!
//! ```text
//!  trust.yaml, keys, roots ──▶ Trust ──identify──▶ the statement, and which rules know its signer
//!                                    └──judge────▶ the rule that accepts a release, or why none does
//! ```
//!
//! A release is accepted if one rule accepts it. Everything else is refused: a model without a rule, a policy that can't be read, a
//! release whose version can't be compared, a passport without the number that a rule asks for.

mod document;
mod facts;
mod judge;
mod refused;
mod rollback;
mod subject;
#[cfg(test)]
mod tests;
mod version;

pub use document::{
    BuiltHere, CertificatesText, ExecutedOn, RequireText, RuleText, TRUST_SCHEMA, TrustError, TrustText,
};
pub use facts::ProfileFacts;
pub use judge::{Identified, Rule, Trust};
pub(crate) use refused::in_words;
pub use refused::{Broken, Refused, UnknownSigner};
pub use rollback::{RolledBack, check_order};
pub use version::Version;

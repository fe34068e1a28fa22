//! The signature that a profile was pulled with, and the passport that it covers: enough to judge the profile again, by the trust
//! policy as it is then. The passport beside it may have had results of this machine since.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::profile::ProfileId;
use crate::stored_format::{self, Unreadable};

/// The schema name inside the file.
pub(super) const SIGNED_SCHEMA: &str = "nimctl.signed-profile/1";

/// A signature over the release of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedProfile {
    schema: String,
    /// The digest of the release's index.
    pub release: Sha256,
    /// Whether a trust policy accepted it, and not only a key or certificates that were named.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_policy: bool,
    /// The text of the signature's bundle.
    pub signature: String,
    /// The text of the signed passport.
    pub passport: String,
    /// The text of each attestation that was accepted with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<String>,
}

impl SignedProfile {
    /// Puts one together.
    pub fn new(
        release: Sha256,
        by_policy: bool,
        signature: String,
        passport: String,
        attestations: Vec<String>,
    ) -> Self {
        Self { schema: SIGNED_SCHEMA.into(), release, by_policy, signature, passport, attestations }
    }

    pub(super) fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, SIGNED_SCHEMA, path)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Store {
    /// Keeps the signature of a profile.
    ///
    /// # Errors
    /// A store that can't be written.
    pub(crate) fn put_signed(&self, id: &ProfileId, signed: &SignedProfile) -> Result<(), StoreError> {
        self.write(&self.signed_path(id), SIGNED_SCHEMA, signed)
    }

    /// Returns the signature that a profile was pulled with, if there is one.
    ///
    /// # Errors
    /// A file that can't be read, or is of a newer nimctl; one that is damaged counts as absent: its profile is not signed then.
    pub fn signed(&self, id: &ProfileId) -> Result<Option<SignedProfile>, StoreError> {
        self.read(&self.signed_path(id), SignedProfile::parse)
    }

    /// Returns where the signature of a profile is.
    pub(super) fn signed_path(&self, id: &ProfileId) -> PathBuf {
        self.root.join("nimctl/signed").join(format!("{id}.json"))
    }
}

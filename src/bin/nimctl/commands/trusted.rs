//! Whose signatures a command accepts: those of a key, of an authority, or those that a policy knows.

use std::path::{Path, PathBuf};

use nimctl::ops::verify_signature::Trusted;
use nimctl::signing::{Certificate, PublicKey};
use nimctl::trust::Trust;

use super::sign::{certificates, now_s};
use super::verify_signature::public_key;
use crate::environment;
use crate::exit::Failure;

/// Whose signatures are accepted.
pub(super) enum InPlace {
    Key(Box<PublicKey>),
    Certificates(Vec<Certificate>),
    /// A policy, and what put it in place.
    Policy(Trust, &'static str),
}

impl InPlace {
    /// Returns what the command line names, else the policy in place; `None` if there is none.
    pub(super) fn of(
        key: Option<&Path>,
        certificate_chain: &[PathBuf],
        trust: Option<&Path>,
    ) -> Result<Option<Self>, Failure> {
        if let Some(file) = key {
            return Ok(Some(Self::Key(Box::new(public_key(file)?))));
        }
        if !certificate_chain.is_empty() {
            return Ok(Some(Self::Certificates(certificates(certificate_chain)?)));
        }
        match environment::trust_policy(trust) {
            Some((path, says)) => Ok(Some(Self::Policy(super::verify_trust::policy(&path)?, says))),
            None => Ok(None),
        }
    }

    pub(super) fn trusted(&self) -> Trusted<'_> {
        match self {
            Self::Key(key) => Trusted::Key(key.clone()),
            Self::Certificates(certificates) => {
                Trusted::Certificates { certificates: certificates.clone(), now_s: now_s() }
            }
            Self::Policy(trust, _) => Trusted::Policy { trust, now_s: now_s() },
        }
    }
}

//! The signature of a release at its place, verified before anything large is fetched: the key or policy, then that it covers every
//! file of the release with the digest that its manifests name, then what the policy says of it.

use std::collections::BTreeMap;

use super::attested::{accepted, all_accepted};
use super::{MAX_TEXT_BYTES, PullError, RemoteRelease, manifest_of, profile};
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::oci::{PASSPORT_TYPE, SIGNATURE_TYPE, fetch_small};
use crate::ops::attest::facts_of;
use crate::ops::trust::{NotTrusted, SignedDocuments, has_files_of, signed_passports};
use crate::ops::verify_signature::Trusted;
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, ModelRelease, ProfileId};
use crate::release::{PASSPORT_FILE, PROFILES_FOLDER, SAMPLES_FILE, SUMS_FILE};
use crate::signing::{Bundle, MAX_BUNDLE_BYTES, Signer, Statement, shown};
use crate::store::{SignedProfile, Store};
use crate::trust::{ProfileFacts, check_order, in_words};

/// At most this many signatures of a release are tried, and attestations of a profile.
const MAX_SIGNATURES: usize = 32;

/// A signature of a release that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Who signed.
    pub signer: Signer,
    /// What a policy decided, if one did.
    pub by_policy: Option<AcceptedByPolicy>,
    /// The text of the signature.
    signature: Vec<u8>,
    /// The signed passports of the profiles that are pulled, by id, with the attestations that were accepted.
    passports: BTreeMap<String, (Vec<u8>, Vec<Bundle>)>,
}

/// What a policy decided.
#[derive(Clone, Debug)]
pub struct AcceptedByPolicy {
    /// The line of the rule that accepts the release.
    pub rule_line: u32,
    /// The model and release, as signed.
    pub model: ModelRelease,
}

/// A release whose signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The place is not one for signatures.
    #[error("{place} keeps no signatures: registries do")]
    NotKept {
        /// The place.
        place: String,
    },
    /// There is none.
    #[error("{place} has no signature of the release {digest}: only signed releases are accepted")]
    None {
        /// The place.
        place: String,
        /// The digest of the release's index.
        digest: Sha256,
    },
    /// None is accepted.
    #[error("no signature of the release is accepted: {}", reasons.join("; "))]
    Refused {
        /// Why, for each signature.
        reasons: Vec<String>,
    },
}

impl NotSigned {
    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotKept { .. } => {
                "name the release in a registry, or pull it with the file of its signature: `nimctl pull --signature FILE`".into()
            }
            Self::None { .. } => {
                "ask for the signature: `nimctl sign` makes one, and `nimctl publish` puts it beside the release".into()
            }
            Self::Refused { .. } => "get the release from who you trust; nothing of this one was kept".into(),
        }
    }
}

/// Makes something of a bundle, or adds to the reasons why it doesn't.
type Take<'a, T> = dyn FnMut(Vec<u8>, &mut Vec<String>) -> Result<Option<T>, PullError> + 'a;

/// What the manifests of a release name: every file with its digest, by path in a release folder.
struct Described {
    digests: BTreeMap<String, Sha256>,
    /// The small files that are looked into.
    texts: BTreeMap<String, Vec<u8>>,
    /// What is attested of the profiles that are pulled, by id: what was accepted.
    attestations: BTreeMap<String, Vec<Bundle>>,
}

impl Described {
    /// Returns the passport of a profile that is pulled.
    fn passport(&self, id: &str) -> Option<Passport> {
        let name = passport_name(id);
        Passport::parse_released(self.texts.get(&name)?, &name).ok()
    }
}

/// Returns the path of a profile's passport in a release folder.
fn passport_name(id: &str) -> String {
    format!("{PROFILES_FOLDER}/{id}/{PASSPORT_FILE}")
}

/// What a user names in the place of what a registry keeps.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The text of the signature.
    pub signature: Option<Vec<u8>>,
    /// The attestations of the profiles.
    pub attestations: Option<Vec<Bundle>>,
}

impl RemoteRelease<'_> {
    /// Verifies that a signature at the place, or the one given, is accepted and covers exactly this release; `ids` are the profiles
    /// whose passports a policy judges.
    ///
    /// # Errors
    /// No signature, none that is accepted, a place that can't be read.
    pub fn check_signature(
        &self,
        trusted: &Trusted<'_>,
        given: Given,
        ids: &[String],
    ) -> Result<Accepted, PullError> {
        let place = self.place.name();
        if given.signature.is_none() && !self.place.keeps_referrers() {
            return Err(NotSigned::NotKept { place }.into());
        }
        let mut described = None;
        let mut check = |bundle: Vec<u8>, reasons: &mut Vec<String>| {
            let described = match &mut described {
                Some(described) => described,
                None => described.insert(self.described(ids)?),
            };
            // Nothing of what anyone may have attached is fetched for a release that nobody trusted signed.
            let is_signed =
                Bundle::parse(&bundle).is_ok_and(|bundle| trusted.open::<Statement>(&bundle).is_ok());
            if is_signed
                && described.attestations.is_empty()
                && let Err(reason) = self.attested(described, trusted, given.attestations.as_deref(), ids)?
            {
                reasons.push(reason);
                return Ok(None);
            }
            let checked = self.check_bundle(&bundle, trusted, described, ids);
            Ok(checked.map_err(|reason| reasons.push(reason)).ok())
        };
        let mut reasons = Vec::new();
        let accepted = match given.signature {
            Some(bundle) => check(bundle, &mut reasons)?,
            None => self.first_bundle_about(self.digest, MAX_BUNDLE_BYTES, &mut reasons, &mut check)?,
        };
        match accepted {
            Some(accepted) => Ok(accepted),
            None if reasons.is_empty() => Err(NotSigned::None { place, digest: self.digest }.into()),
            None => Err(NotSigned::Refused { reasons }.into()),
        }
    }

    /// Adds the attestations of the profiles, if they were given or a policy asks for them; those that are not accepted are dropped, since
    /// anyone may have put them there. Of those that were given, one is a reason to refuse the release, unless a policy says what is enough.
    fn attested(
        &self,
        described: &mut Described,
        trusted: &Trusted<'_>,
        given: Option<&[Bundle]>,
        ids: &[String],
    ) -> Result<Result<(), String>, PullError> {
        let is_asked_for = matches!(trusted, Trusted::Policy { trust, .. } if trust.asks_for_attestations());
        if given.is_none() && !is_asked_for {
            return Ok(Ok(()));
        }
        for id in ids {
            let Some(passport) = described.passport(id) else { continue };
            let accepted = match (given, is_asked_for) {
                (Some(bundles), false) => match all_accepted(bundles, &passport, trusted) {
                    Ok(accepted) => accepted,
                    Err(reason) => {
                        // The next signature is not accepted with half of them.
                        described.attestations.clear();
                        return Ok(Err(reason));
                    }
                },
                (Some(bundles), true) => accepted(bundles.to_vec(), &passport, trusted),
                (None, _) => accepted(self.bundles_of(id, &mut Vec::new())?, &passport, trusted),
            };
            described.attestations.insert(id.clone(), accepted);
        }
        Ok(Ok(()))
    }

    /// Fetches the bundles that are attached to a manifest. One that can't be used is a reason, since anyone may have put it there.
    pub(super) fn bundles_about(
        &self,
        subject: Sha256,
        max_bytes: u64,
        reasons: &mut Vec<String>,
    ) -> Result<Vec<Vec<u8>>, PullError> {
        let mut bundles = Vec::new();
        self.first_bundle_about::<()>(subject, max_bytes, reasons, &mut |bundle, _| {
            bundles.push(bundle);
            Ok(None)
        })?;
        Ok(bundles)
    }

    /// Fetches the bundles that are attached to a manifest, one after the other, up to the first one that is taken: anyone may have attached
    /// others, as many and as large as they liked.
    fn first_bundle_about<T>(
        &self,
        subject: Sha256,
        max_bytes: u64,
        reasons: &mut Vec<String>,
        take: &mut Take<'_, T>,
    ) -> Result<Option<T>, PullError> {
        for digest in self.place.referrers(&subject, SIGNATURE_TYPE)?.into_iter().take(MAX_SIGNATURES) {
            let fetched = manifest_of(self.place, digest).and_then(|manifest| {
                if manifest.subject.as_ref().map(|found| found.digest) != Some(subject) {
                    return Ok(None);
                }
                let layer = manifest.layer(SIGNATURE_TYPE);
                Ok(layer.map(|layer| fetch_small(self.place, layer, max_bytes)).transpose()?)
            });
            match fetched {
                Ok(Some(bundle)) => {
                    if let Some(taken) = take(bundle, reasons)? {
                        return Ok(Some(taken));
                    }
                }
                Ok(None) => reasons.push(format!("{digest} is not attached to {subject}")),
                // What is listed and not there is no better than what is wrong.
                Err(error) if matches!(error.kind(), ErrorKind::Refused | ErrorKind::Input) => {
                    reasons.push(in_words(&error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Reads what the manifests say of every file.
    fn described(&self, ids: &[String]) -> Result<Described, PullError> {
        let mut texts = self.documents.clone();
        let mut digests: BTreeMap<String, Sha256> =
            texts.iter().map(|(name, bytes)| (name.clone(), Sha256::of(bytes))).collect();
        for (id, descriptor) in &self.profiles {
            let manifest = manifest_of(self.place, descriptor.digest)?;
            let described = profile(self.place, id, &manifest)?;
            let folder = format!("{PROFILES_FOLDER}/{id}");
            for file in &described.contents.files {
                digests.insert(format!("{folder}/{}", file.path), file.sha256);
            }
            let contents = Sha256::of(described.contents_json.as_bytes());
            digests.insert(format!("{folder}/{CONTENTS_FILE}"), contents);
            if let Some(layer) = manifest.layer(PASSPORT_TYPE) {
                let name = format!("{folder}/{PASSPORT_FILE}");
                digests.insert(name.clone(), layer.digest);
                if ids.contains(id) {
                    texts.insert(name, fetch_small(self.place, layer, MAX_TEXT_BYTES)?);
                }
            }
        }
        Ok(Described { digests, texts, attestations: BTreeMap::new() })
    }

    fn check_bundle(
        &self,
        bundle: &[u8],
        trusted: &Trusted<'_>,
        described: &Described,
        ids: &[String],
    ) -> Result<Accepted, String> {
        let parsed = Bundle::parse(bundle).map_err(|refusal| in_words(&refusal))?;
        let accepted = |signer: Signer, by_policy: Option<AcceptedByPolicy>| {
            let passport = |id: &String| {
                let text = described.texts.get(&passport_name(id))?;
                let attested = described.attestations.get(id).cloned().unwrap_or_default();
                Some((id.clone(), (text.clone(), attested)))
            };
            let passports = ids.iter().filter_map(passport).collect();
            Accepted { signer, by_policy, signature: bundle.to_vec(), passports }
        };
        let verified = match trusted {
            Trusted::Key(key) => parsed.verify_with_key(key),
            Trusted::Certificates { certificates, now_s } => {
                parsed.verify_with_certificates(certificates, *now_s)
            }
            Trusted::Policy { trust, now_s } => {
                let (statement, signer) =
                    trust.identify(&parsed, *now_s).map_err(|error| error.to_string())?;
                covers(&statement, &described.digests)?;
                let documents = SignedDocuments {
                    statement: &statement,
                    read: &|name| {
                        let text = described.texts.get(name).cloned();
                        text.ok_or_else(|| NotTrusted::NotSigned { name: name.into() })
                    },
                };
                let judged = || {
                    let manifest = documents.manifest()?;
                    let (model, passports) = signed_passports(&documents, &manifest, ids)?;
                    let facts = passports.iter().map(|passport| {
                        let attested = described.attestations.get(&passport.id.to_string());
                        facts_of(passport, attested.into_iter().flatten(), trust, *now_s)
                    });
                    let facts: Vec<ProfileFacts> = facts.collect();
                    let rule_line = trust.judge(&model.name, &model.release, &signer, &facts, *now_s)?.line();
                    Ok(AcceptedByPolicy { rule_line, model })
                };
                let by_policy = judged().map_err(|error: NotTrusted| in_words(&error))?;
                return Ok(accepted(signer.signer.clone(), Some(by_policy)));
            }
        };
        let (statement, signer) = verified.map_err(|refusal| in_words(&refusal))?;
        covers(&statement, &described.digests)?;
        Ok(accepted(signer, None))
    }

    /// Fails if a policy accepts the release, and the store had a newer one that it accepted.
    ///
    /// # Errors
    /// A roll-back; a store that can't be read, or does not know any more what is the newest.
    pub fn check_order(&self, accepted: &Accepted, store: &Store) -> Result<(), PullError> {
        let Some(AcceptedByPolicy { rule_line: _, model }) = &accepted.by_policy else { return Ok(()) };
        if let Some(newest) = store.newest_release(&model.name)? {
            check_order(&model.name, &model.release, &newest)?;
        }
        Ok(())
    }

    /// Keeps the signature of profiles that were pulled, so that they can be judged again.
    ///
    /// # Errors
    /// Another process has pulled a newer release meanwhile; a store that can't be written.
    pub fn keep_signature(
        &self,
        accepted: &Accepted,
        store: &Store,
        allow_rollback: bool,
    ) -> Result<(), PullError> {
        store.with_passports(|| {
            if !allow_rollback {
                self.check_order(accepted, store)?;
            }
            for (id, (passport, attestations)) in &accepted.passports {
                let wrong = |problem: String| PullError::BadProfile { id: id.clone(), problem };
                let text = |bytes: &[u8]| {
                    String::from_utf8(bytes.to_vec()).map_err(|error| wrong(error.to_string()))
                };
                let profile = ProfileId::from_hex(id).map_err(|error| wrong(error.to_string()))?;
                // One that a policy accepted says more than one of a key on the command line.
                let by_policy = accepted.by_policy.is_some();
                let stays = store.signed(&profile)?.is_some_and(|kept| kept.by_policy && !by_policy);
                if !stays {
                    let attested = attestations.iter().map(Bundle::to_json_line).collect();
                    let (signature, passport) = (text(&accepted.signature)?, text(passport)?);
                    let signed = SignedProfile::new(self.digest, by_policy, signature, passport, attested);
                    self.put_signed_passport(&profile, &signed, store)?;
                    store.put_signed(&profile, &signed)?;
                }
            }
            Ok(())
        })
    }

    /// Makes the release the newest of its model, if a policy accepted it and it is, or `allow_rollback` makes it so. The last step of a
    /// pull: one that fails changes nothing of what may be used.
    ///
    /// # Errors
    /// Another process has pulled a newer release meanwhile; a store that can't be written.
    pub fn keep_newest(
        &self,
        accepted: &Accepted,
        store: &Store,
        allow_rollback: bool,
    ) -> Result<(), PullError> {
        store.with_passports(|| {
            if let Some(AcceptedByPolicy { rule_line: _, model }) = &accepted.by_policy {
                let is_newest = allow_rollback
                    || match store.newest_release(&model.name)? {
                        Some(newest) => check_order(&model.name, &model.release, &newest)?,
                        None => true,
                    };
                if is_newest {
                    store.put_newest_release(&model.name, &model.release)?;
                }
            }
            Ok(())
        })
    }
}

impl RemoteRelease<'_> {
    /// Puts the signed passport in the place of one that came without a signature, or that names other files: it may say anything of the
    /// profile. What was built here has a passport of its own, and one that was signed has results of this machine.
    fn put_signed_passport(
        &self,
        id: &ProfileId,
        signed: &SignedProfile,
        store: &Store,
    ) -> Result<(), PullError> {
        let wrong = |error: crate::stored_format::Unreadable| PullError::BadProfile {
            id: id.to_string(),
            problem: error.to_string(),
        };
        let passport = Passport::parse_released(signed.passport.as_bytes(), PASSPORT_FILE).map_err(wrong)?;
        if store.origin(id)?.is_some() {
            return Ok(());
        }
        let was_signed = store.signed(id)?.is_some();
        match store.passport(id)? {
            Some(here) if was_signed && has_files_of(&here, &passport) => Ok(()),
            Some(_) | None => Ok(store.replace_passport(&passport)?),
        }
    }
}

/// Fails unless a statement is of exactly these files. `SHA256SUMS` and samples of benchmarks are signed and not published.
pub(in crate::ops) fn covers(
    statement: &Statement,
    digests: &BTreeMap<String, Sha256>,
) -> Result<(), String> {
    let signed: BTreeMap<&str, Sha256> =
        statement.resources().iter().map(|resource| (resource.name.as_str(), resource.digest)).collect();
    for (name, digest) in digests {
        match signed.get(name.as_str()) {
            None => {
                return Err(format!("the signature does not cover {}, which the release has", shown(name)));
            }
            Some(signed) if signed != digest => {
                return Err(format!(
                    "the signature is of other files: {} is {digest} here, and {signed} was signed",
                    shown(name)
                ));
            }
            Some(_) => {}
        }
    }
    let is_published = |name: &&&str| {
        let is_samples = name.starts_with(PROFILES_FOLDER) && name.ends_with(&format!("/{SAMPLES_FILE}"));
        **name != SUMS_FILE && !is_samples
    };
    match signed.keys().filter(is_published).find(|name| !digests.contains_key(**name)) {
        Some(name) => Err(format!("the signature is of other files: the release has no {}", shown(name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::signing::Resource;

    fn check(signed: &[(&str, &str)], here: &[(&str, &str)]) -> Result<(), String> {
        let of = |bytes: &str| Sha256::of(bytes.as_bytes());
        let resources =
            signed.iter().map(|(name, bytes)| Resource { name: (*name).into(), digest: of(bytes) }).collect();
        let statement = Statement::new("m".into(), false, BTreeSet::new(), resources).unwrap();
        covers(&statement, &here.iter().map(|(name, bytes)| ((*name).into(), of(bytes))).collect())
    }

    #[test]
    fn a_signature_covers_exactly_the_release() {
        let all = [("model_manifest.yaml", "m"), ("profiles/a/x", "x"), ("profiles/a/contents.json", "c")];
        let more = [&all[..], &[(SUMS_FILE, "s"), ("profiles/a/samples.npz", "n")]].concat();
        assert_eq!(check(&more, &all), Ok(()));
        assert_eq!(
            check(&more[1..], &all).unwrap_err(),
            "the signature does not cover model_manifest.yaml, which the release has"
        );
        assert!(
            check(&more, &[("profiles/a/x", "y"), all[0], all[2]])
                .unwrap_err()
                .contains("other files: profiles/a/x")
        );
        assert_eq!(
            check(&more, &all[..2]).unwrap_err(),
            "the signature is of other files: the release has no profiles/a/contents.json"
        );
    }
}

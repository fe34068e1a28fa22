//! Judging a signature and a release by the rules.

use std::collections::BTreeSet;

use super::document::{BuiltHere, ExecutedOn};
use super::facts::ProfileFacts;
use super::refused::{Broken, Refused, UnknownSigner};
use super::subject;
use super::version::Version;
use crate::attestation::Kind;
use crate::glob;
use crate::signing::{Bundle, Certificate, Payload, PublicKey, Signer};

const DAY_S: u64 = 24 * 60 * 60;

/// A policy that was read whole, with its keys and certificates.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(super) path: String,
    pub(super) built_here: BuiltHere,
    pub(super) rules: Vec<Rule>,
}

/// One rule of a policy.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) line: u32,
    pub(super) models: Vec<String>,
    pub(super) identities: Identities,
    pub(super) min_release: Option<Version>,
    /// The first second of the first day, and the day.
    pub(super) from: Option<(u64, String)>,
    /// The first second of the last day, and the day.
    pub(super) until: Option<(u64, String)>,
    pub(super) executed_on: Option<ExecutedOn>,
    pub(super) min_cosine: Option<f64>,
    pub(super) attestations: BTreeSet<Kind>,
}

/// Whose signatures a rule accepts.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    pub(super) keys: Vec<PublicKey>,
    pub(super) roots: Vec<Certificate>,
    pub(super) subjects: Vec<String>,
}

/// Who made a signature that was verified, and which rules know the key or the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Who signed.
    pub signer: Signer,
    pub(super) rules: BTreeSet<usize>,
}

impl Trust {
    /// Returns the file that the policy was read from.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what becomes of profiles that were built on this host.
    pub fn built_here(&self) -> BuiltHere {
        self.built_here
    }

    /// Returns whether some rule asks for attestations.
    pub fn asks_for_attestations(&self) -> bool {
        self.rules.iter().any(|rule| !rule.attestations.is_empty())
    }

    /// Returns the rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Verifies a signature with every key and root of the policy, at a time in seconds since 1970; returns what was signed, and by
    /// whom.
    ///
    /// # Errors
    /// No key and no root of any rule made it, or it doesn't match.
    pub fn identify<P: Payload>(
        &self,
        bundle: &Bundle,
        now_s: u64,
    ) -> Result<(P, Identified), UnknownSigner> {
        let mut found: Option<(P, Signer)> = None;
        let mut rules = BTreeSet::new();
        let mut tried = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            let Identities { keys, roots, subjects: _ } = &rule.identities;
            let by_key = keys.iter().map(|key| bundle.verify_with_key(key));
            let by_root = (!roots.is_empty()).then(|| bundle.verify_with_certificates(roots, now_s));
            for verified in by_key.chain(by_root) {
                match verified {
                    Ok(verified) => {
                        rules.insert(number);
                        found.get_or_insert(verified);
                    }
                    Err(refusal) => tried.push((rule.line, refusal)),
                }
            }
        }
        match found {
            Some((statement, signer)) => Ok((statement, Identified { signer, rules })),
            None => Err(UnknownSigner { policy: self.path.clone(), claimed: bundle.claimed(), tried }),
        }
    }

    /// Judges a release: `model` and `release` as signed, who signed it, what its signed passports say, and the time in seconds since
    /// 1970. Returns the first rule that accepts it.
    ///
    /// # Errors
    /// No rule is for the model, or each that is refuses it.
    pub fn judge(
        &self,
        model: &str,
        release: &str,
        signer: &Identified,
        facts: &[ProfileFacts],
        now_s: u64,
    ) -> Result<&Rule, Refused> {
        self.first_rule(model, release, |number, rule| {
            rule.check_signer(number, release, signer, now_s)?;
            rule.check_facts(number, facts)
        })
    }

    /// Judges who signed something about a model and release other than the release itself: no fact is asked for.
    ///
    /// # Errors
    /// As [`Self::judge`].
    pub fn judge_signer(
        &self,
        model: &str,
        release: &str,
        signer: &Identified,
        now_s: u64,
    ) -> Result<&Rule, Refused> {
        self.first_rule(model, release, |number, rule| rule.check_signer(number, release, signer, now_s))
    }

    fn first_rule(
        &self,
        model: &str,
        release: &str,
        check: impl Fn(usize, &Rule) -> Result<(), Broken>,
    ) -> Result<&Rule, Refused> {
        let mut broken = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if !rule.models.iter().any(|pattern| glob::matches(pattern, model)) {
                continue;
            }
            match check(number, rule) {
                Ok(()) => return Ok(rule),
                Err(fact) => broken.push((rule.line, fact)),
            }
        }
        let models = self.rules.iter().flat_map(|rule| rule.models.iter().cloned()).collect();
        Err(Refused {
            policy: self.path.clone(),
            model: model.into(),
            release: release.into(),
            broken,
            models,
        })
    }
}

impl Rule {
    /// Returns the line of the policy that it begins in.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Returns the rule in words, for a person to check.
    pub fn describe(&self) -> String {
        let Self {
            line: _,
            models,
            identities,
            min_release,
            from,
            until,
            executed_on,
            min_cosine,
            attestations,
        } = self;
        let Identities { keys, roots, subjects } = identities;
        let mut signers: Vec<String> = keys.iter().map(|key| Signer::Key(key.clone()).to_string()).collect();
        if !roots.is_empty() {
            let names: Vec<String> =
                roots.iter().filter(|root| root.is_self_issued()).map(Certificate::subject).collect();
            signers.push(format!("{} with a certificate of {}", subjects.join(" or "), names.join(" or ")));
        }
        let mut parts = vec![models.join(", "), format!("signed by {}", signers.join(" or "))];
        parts.extend(min_release.iter().map(|min| format!("release {min} or later")));
        parts.extend(from.iter().map(|(_, day)| format!("from {day}")));
        parts.extend(until.iter().map(|(_, day)| format!("until {day}")));
        parts.extend(executed_on.iter().map(|wanted| format!("executed on {wanted}")));
        parts.extend(min_cosine.iter().map(|min| format!("cosine {min} or more")));
        if !attestations.is_empty() {
            let kinds: Vec<&str> = attestations.iter().map(|kind| kind.word()).collect();
            parts.push(format!("attested {}", kinds.join(", ")));
        }
        parts.join("; ")
    }

    /// Fails unless the rule trusts somebody; `number` is that of the rule.
    fn check_identity(&self, number: usize, identified: &Identified) -> Result<(), Broken> {
        if !identified.rules.contains(&number) {
            return Err(Broken::Signer { signer: identified.signer.to_string() });
        }
        let subjects = &self.identities.subjects;
        if let Signer::Certificate { subject, fingerprint: _, root: _ } = &identified.signer
            && !subjects.iter().any(|pattern| subject::matches(pattern, subject))
        {
            return Err(Broken::Subject { subject: subject.clone(), accepted: subjects.clone() });
        }
        Ok(())
    }

    fn check_signer(
        &self,
        number: usize,
        release: &str,
        identified: &Identified,
        now_s: u64,
    ) -> Result<(), Broken> {
        let Self { min_release, from, until, .. } = self;
        self.check_identity(number, identified)?;
        if let Some((start_s, day)) = from
            && now_s < *start_s
        {
            return Err(Broken::NotYet { from: day.clone() });
        }
        if let Some((start_s, day)) = until
            && now_s >= start_s + DAY_S
        {
            return Err(Broken::Over { until: day.clone() });
        }
        if let Some(min) = min_release {
            match Version::parse(release) {
                None => return Err(Broken::NotComparable { min: min.to_string() }),
                Some(version) if version < *min => return Err(Broken::TooOld { min: min.to_string() }),
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn check_facts(&self, number: usize, facts: &[ProfileFacts]) -> Result<(), Broken> {
        let Self { executed_on, min_cosine, attestations, .. } = self;
        if executed_on.is_none() && min_cosine.is_none() && attestations.is_empty() {
            return Ok(());
        }
        if facts.is_empty() {
            return Err(Broken::NoPassport);
        }
        for facts in facts {
            check_facts(facts, executed_on.as_ref(), *min_cosine)?;
            let is_attested = |wanted: &Kind| {
                let mut found = facts.attestations.iter().filter(|(kind, _)| kind == wanted);
                found.any(|(_, by)| self.check_identity(number, by).is_ok())
            };
            if let Some(kind) = attestations.iter().find(|kind| !is_attested(kind)) {
                return Err(Broken::NotAttested { profile: facts.name.clone(), kind: *kind });
            }
        }
        Ok(())
    }
}

fn check_facts(
    facts: &ProfileFacts,
    executed_on: Option<&ExecutedOn>,
    min_cosine: Option<f64>,
) -> Result<(), Broken> {
    let ProfileFacts { name, status, passed, ran_on, compute_capability, min_cosine: found, attestations: _ } =
        facts;
    let profile = name.clone();
    if let Some(wanted) = executed_on
        && *status != "executed"
    {
        return Err(Broken::NotExecuted { profile, status, wanted: wanted.clone() });
    }
    if !passed {
        return Err(Broken::NotPassed { profile, status });
    }
    if let Some(wanted @ ExecutedOn::On(capabilities)) = executed_on
        && !compute_capability.is_some_and(|found| capabilities.contains(&found))
    {
        let ran_on = ran_on.clone().unwrap_or_default();
        return Err(Broken::ElsewhereExecuted { profile, ran_on, wanted: wanted.clone() });
    }
    match (min_cosine, found) {
        (None, _) => Ok(()),
        (Some(min), Some(found)) if *found >= min => Ok(()),
        (Some(min), found) => Err(Broken::Cosine { profile, found: *found, min }),
    }
}

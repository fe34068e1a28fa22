//! The text of a policy, and the rules that it must keep.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::judge::{Identities, Rule, Trust};
use super::version::Version;
use crate::attestation::Kind;
use crate::compute_capability::ComputeCapability;
use crate::signing::{Certificate, PublicKey};
use crate::stored_format::{self, YamlFileError};
use crate::yaml::{self, Limits, Node, Position};

/// The schema name inside a trust policy.
pub const TRUST_SCHEMA: &str = "nimctl.trust/1";

/// A trust policy that can't be read. Nothing is accepted then.
pub type TrustError = YamlFileError;

/// Whose signatures are accepted, for which models and releases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustText {
    /// [`TRUST_SCHEMA`].
    pub schema: String,
    /// Whether profiles may be used that were built on this host, and that nobody signed.
    #[serde(default, skip_serializing_if = "BuiltHere::is_default")]
    pub built_here: BuiltHere,
    /// The rules; a release is accepted if one of them accepts it.
    pub rules: Vec<RuleText>,
}

/// What becomes of profiles that were built on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuiltHere {
    /// They are used without a signature.
    Accept,
    /// They need a signature, as others do.
    #[default]
    Refuse,
}

impl BuiltHere {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One rule. It needs `keys`, `certificates` or both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    /// Names of models; `*` matches anything.
    pub models: Vec<String>,
    /// Files of public keys in PEM, as paths from the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Authorities whose certificates are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesText>,
    /// The earliest release that is accepted: `2.0.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_release: Option<String>,
    /// The first day on which the rule holds, in UTC: `2026-01-31`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The last day on which the rule holds, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What the signed passport of every profile must say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<RequireText>,
}

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificatesText {
    /// Files of root certificates in PEM, as paths from the policy, and perhaps some between.
    pub roots: Vec<String>,
    /// Names in certificates of signers: `CN=Example releases,*`; `*` alone accepts every signer of the authority.
    pub subjects: Vec<String>,
}

/// What passports must say. Whatever is asked for, the profile must have passed its validation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequireText {
    /// The profile itself was run: on `any` processor, or on a GPU of one of these compute capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executed_on: Option<ExecutedOn>,
    /// The least cosine of a row of an output with the reference, above 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_cosine: Option<f64>,
    /// What must be attested of the profile, by somebody whom the rule trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestations: Option<Vec<Kind>>,
}

/// Where a profile must have been run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ExecutedOn {
    /// Anywhere.
    Any(Any),
    /// On a GPU of one of these compute capabilities.
    On(Vec<ComputeCapability>),
}

/// The word `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Any {
    /// `any`.
    Any,
}

impl<'de> Deserialize<'de> for ExecutedOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ExecutedOn;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`any` or a list of compute capabilities")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ExecutedOn, E> {
                match text {
                    "any" => Ok(ExecutedOn::Any(Any::Any)),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<ExecutedOn, A::Error> {
                let mut capabilities = Vec::new();
                while let Some(capability) = items.next_element()? {
                    capabilities.push(capability);
                }
                Ok(ExecutedOn::On(capabilities))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Trust {
    /// Reads a policy. `path` is only named in errors; `read` returns the text of a file that the policy names.
    ///
    /// # Errors
    /// Text that is not a policy, a policy of another version, a rule that accepts nothing or is not whole, a key or certificate
    /// that can't be used; each with its line.
    pub fn parse(
        text: &str,
        path: &str,
        read: &dyn Fn(&str) -> std::io::Result<String>,
    ) -> Result<Self, TrustError> {
        stored_format::refuse_newer_yaml(text, TRUST_SCHEMA, path)?;
        let tree = yaml::parse(text.as_bytes(), &Limits::default())
            .map_err(|error| syntax(path, error.position, error.message))?;
        no_empty_values(&tree).map_err(|(position, problem)| syntax(path, position, problem))?;
        let TrustText { schema: _, built_here, rules } =
            stored_format::from_yaml(text, TRUST_SCHEMA, path, |policy: &TrustText| &policy.schema)?;
        let nodes = tree.get("rules").and_then(Node::as_sequence).unwrap_or_default();
        let place = tree.get("rules").map_or(tree.position, |node| node.position);
        if rules.is_empty() || nodes.len() != rules.len() {
            return Err(syntax(path, place, "`rules` has no rule: a policy needs at least one".into()));
        }
        let rules = rules.into_iter().zip(nodes).map(|(rule, node)| {
            rule.check(node, read).map_err(|(position, problem)| syntax(path, position, problem))
        });
        Ok(Self { path: path.into(), built_here, rules: rules.collect::<Result<_, _>>()? })
    }
}

fn syntax(path: &str, position: Position, problem: String) -> TrustError {
    let position = (position.line > 0).then(|| (position.line.into(), position.column.into()));
    TrustError::Syntax { path: path.into(), position, problem }
}

/// Fails if a key has no value: `min_release:` with nothing behind it would be a rule without one.
fn no_empty_values(node: &Node) -> Result<(), (Position, String)> {
    for item in node.as_sequence().unwrap_or_default() {
        if item.is_null() {
            return Err((item.position, "an item of a list is empty: fill it in, or remove it".into()));
        }
        no_empty_values(item)?;
    }
    for (key, value) in node.as_mapping().unwrap_or_default() {
        if value.is_null() {
            let name = key.as_text().unwrap_or_default();
            return Err((key.position, format!("`{name}` has no value: fill it in, or remove the line")));
        }
        no_empty_values(value)?;
    }
    Ok(())
}

type Wrong = (Position, String);

impl RuleText {
    fn check(self, node: &Node, read: &dyn Fn(&str) -> std::io::Result<String>) -> Result<Rule, Wrong> {
        let Self { models, keys, certificates, min_release, from, until, require } = self;
        let key_of = |name: &str| node.find(&[], name).unwrap_or(node.position);
        let value_of = |name: &str| node.get(name).map_or(node.position, |value| value.position);
        patterns(&models, "models").map_err(|problem| (key_of("models"), problem))?;
        if keys.is_empty() && certificates.is_none() {
            let problem = "the rule trusts nobody: name files of public keys in `keys`, or an authority in `certificates`";
            return Err((node.position, problem.into()));
        }
        let mut identities = Identities::default();
        for file in &keys {
            let place = node.find(&["keys"], file).unwrap_or(node.position);
            let key = read(file).map_err(|error| error.to_string());
            let key = key.and_then(|text| PublicKey::from_pem(&text).map_err(|error| error.to_string()));
            identities.keys.push(key.map_err(|problem| (place, format!("the key `{file}`: {problem}")))?);
        }
        if let Some(CertificatesText { roots, subjects }) = certificates {
            patterns(&subjects, "subjects").map_err(|problem| (key_of("certificates"), problem))?;
            for file in &roots {
                let place = node.find(&["certificates", "roots"], file).unwrap_or(node.position);
                let read = read(file).map_err(|error| error.to_string());
                let read =
                    read.and_then(|text| Certificate::all_from_pem(&text).map_err(|error| error.to_string()));
                let read = read.map_err(|problem| (place, format!("the certificate `{file}`: {problem}")))?;
                identities.roots.extend(read);
            }
            if !identities.roots.iter().any(Certificate::is_self_issued) {
                let problem = "`roots` has no root certificate: a root is issued by itself";
                return Err((key_of("certificates"), problem.into()));
            }
            identities.subjects = subjects;
        }
        let min_release = min_release.map(|text| {
            Version::parse(&text).ok_or_else(|| {
                let problem =
                    format!("`{text}` can't be compared with other releases: write numbers, `2.0.0`");
                (value_of("min_release"), problem)
            })
        });
        let day = |name: &str, text: Option<String>| -> Result<Option<(u64, String)>, Wrong> {
            let Some(text) = text else { return Ok(None) };
            let Some(start_s) = day_start_s(&text) else {
                return Err((
                    value_of(name),
                    format!("`{text}` is not a date: write year-month-day, `2026-01-31`"),
                ));
            };
            Ok(Some((start_s, text)))
        };
        let (from, until) = (day("from", from)?, day("until", until)?);
        if let (Some((first_s, first)), Some((last_s, last))) = (&from, &until)
            && first_s > last_s
        {
            return Err((
                key_of("until"),
                format!("the rule never holds: `until` {last} is before `from` {first}"),
            ));
        }
        let nothing = RequireText::default();
        if require.as_ref() == Some(&nothing) {
            return Err((key_of("require"), "`require` asks for nothing: remove it".into()));
        }
        let RequireText { executed_on, min_cosine, attestations } = require.unwrap_or(nothing);
        if attestations.as_ref().is_some_and(Vec::is_empty) {
            let problem =
                "`attestations` names none: write some of provenance, validation and benchmark, or remove it";
            return Err((key_of("require"), problem.into()));
        }
        if let Some(ExecutedOn::On(capabilities)) = &executed_on
            && capabilities.is_empty()
        {
            let problem = "`executed_on` has no compute capability: write `any`, or name some: [8.9]";
            return Err((key_of("require"), problem.into()));
        }
        if let Some(cosine) = min_cosine.filter(|cosine| !(*cosine > 0.0 && *cosine <= 1.0)) {
            return Err((
                key_of("require"),
                format!("`min_cosine` is {cosine}: it must be above 0 and at most 1"),
            ));
        }
        Ok(Rule {
            line: node.position.line,
            models,
            identities,
            min_release: min_release.transpose()?,
            from,
            until,
            executed_on,
            min_cosine,
            attestations: attestations.unwrap_or_default().into_iter().collect(),
        })
    }
}

fn patterns(patterns: &[String], name: &str) -> Result<(), String> {
    if patterns.is_empty() {
        return Err(format!("`{name}` is empty: name at least one, `*` matches anything"));
    }
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return Err(format!("`{name}` has an empty pattern, which matches nothing: remove it"));
    }
    match patterns.iter().collect::<BTreeSet<_>>().len() == patterns.len() {
        true => Ok(()),
        false => Err(format!("`{name}` has a pattern twice: remove one")),
    }
}

/// Returns the first second of a day in UTC, since 1970.
fn day_start_s(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut number = |digits: usize| -> Option<u16> {
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    if parts.next().is_some() {
        return None;
    }
    let date =
        x509_cert::der::DateTime::new(year, u8::try_from(month).ok()?, u8::try_from(day).ok()?, 0, 0, 0);
    Some(date.ok()?.unix_duration().as_secs())
}

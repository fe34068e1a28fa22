//! What a policy accepts, and each way in which it refuses.

use std::collections::BTreeSet;
use std::io;

use super::*;
use crate::attestation::Kind;
use crate::compute_capability::ComputeCapability;
use crate::digest::Sha256;
use crate::signing::{Bundle, PrivateKey, Resource, Signer, Statement};

/// 2026-06-15, noon.
const NOW_S: u64 = 1_781_524_800;

fn fixture(name: &str) -> String {
    fs_err::read_to_string(format!("{}/tests/fixtures/signing/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn parse(rules: &str) -> Result<Trust, TrustError> {
    let text = format!("schema: nimctl.trust/1\nrules:\n{rules}");
    Trust::parse(&text, "trust.yaml", &|name| match name {
        "absent.pub" => Err(io::Error::other("failed to open file `absent.pub`")),
        name => Ok(fixture(name)),
    })
}

fn bundle(key: &str) -> Bundle {
    let resource = Resource { name: "a".into(), digest: Sha256::of(b"a") };
    let statement = Statement::new("m".into(), false, BTreeSet::new(), vec![resource]).unwrap();
    Bundle::sign(&statement, &PrivateKey::from_pem(&fixture(key), None).unwrap(), None)
}

fn certified() -> Bundle {
    Bundle::parse(fixture("certificate.sig").as_bytes()).unwrap()
}

fn facts() -> ProfileFacts {
    ProfileFacts {
        name: "p".into(),
        status: "executed",
        passed: true,
        ran_on: Some("TensorRT 11 on NVIDIA L4 (8.9)".into()),
        compute_capability: Some(ComputeCapability::new(8, 9)),
        min_cosine: Some(0.9995),
        attestations: Vec::new(),
    }
}

/// Judges release 2.0.0 of `clip`, signed with `p256.key`.
fn judge(rules: &str, facts: &[ProfileFacts]) -> Result<u32, String> {
    judge_release(rules, "2.0.0", facts)
}

fn judge_release(rules: &str, release: &str, facts: &[ProfileFacts]) -> Result<u32, String> {
    let trust = parse(rules).unwrap();
    let (_, signer) = trust.identify::<Statement>(&bundle("p256.key"), NOW_S).unwrap();
    let judged = trust.judge("clip", release, &signer, facts, NOW_S);
    judged.map(Rule::line).map_err(|refused| {
        assert!(!refused.hint().is_empty());
        refused.to_string()
    })
}

#[track_caller]
fn refused(rules: &str, facts: &[ProfileFacts], expected: &str) {
    assert_eq!(judge(rules, facts).unwrap_err(), format!("trust.yaml refuses clip 2.0.0: {expected}"));
}

#[track_caller]
fn unreadable(rules: &str, expected: &str) {
    assert_eq!(parse(rules).unwrap_err().to_string(), format!("trust.yaml:{expected}"));
}

const OWN: &str = "- models: [clip]\n  keys: [p256.pub]\n";

fn own(more: &str) -> String {
    format!("{OWN}  {more}\n")
}

#[test]
fn what_is_built_here_is_refused_unless_the_policy_says_so() {
    let with = |line: &str| {
        let text = format!("schema: nimctl.trust/1\n{line}rules:\n{}", own(""));
        Trust::parse(&text, "trust.yaml", &|name| Ok(fixture(name))).map(|trust| trust.built_here())
    };
    assert_eq!(with("").unwrap(), BuiltHere::Refuse);
    assert_eq!(with("built_here: refuse\n").unwrap(), BuiltHere::Refuse);
    assert_eq!(with("built_here: accept\n").unwrap(), BuiltHere::Accept);
    for wrong in ["built_here: yes\n", "built_here:\n", "built_here: [accept]\n", "built-here: accept\n"] {
        with(wrong).unwrap_err();
    }
}

#[test]
fn what_a_rule_allows_is_accepted() {
    assert_eq!(judge(OWN, &[]), Ok(3));
    assert_eq!(judge(&own("min_release: 2.0"), &[]), Ok(3));
    assert_eq!(judge(&own("min_release: 2.0.0-rc.1"), &[]), Ok(3));
    assert_eq!(
        judge(
            &own("{from: 2026-06-15, until: 2026-06-15}").replace(['{', '}'], "").replace(", u", "\n  u"),
            &[]
        ),
        Ok(3)
    );
    let require = own("require: { executed_on: [7.5, 8.9], min_cosine: 0.9995 }");
    assert_eq!(judge(&require, &[facts(), facts()]), Ok(3));
    let on_cpu = ProfileFacts { compute_capability: None, ..facts() };
    assert_eq!(judge(&own("require: { executed_on: any }"), &[on_cpu]), Ok(3));
    // A profile that was not executed has a cosine too: that of its lowered graph.
    let emulated = ProfileFacts { status: "static", ..facts() };
    assert_eq!(judge(&own("require: { min_cosine: 0.9 }"), &[emulated]), Ok(3));
    // One rule is enough.
    assert_eq!(
        judge(&format!("{}- models: ['cl*']\n  keys: [p256.pub]\n", own("min_release: 3")), &[]),
        Ok(6)
    );
}

#[test]
fn each_refusal_names_the_rule_and_the_fact() {
    refused(
        "- models: [other, 'x*']\n  keys: [p256.pub]\n",
        &[],
        "no rule is for this model, rules are for `other`, `x*`",
    );
    let hint = bundle_hint();
    refused(
        &format!("- models: [clip]\n  keys: [other.pub]\n{}", OWN.replace("clip", "more")),
        &[],
        &format!("rule in line 3: it is signed by the P-256 key {hint}, which this rule does not trust"),
    );
    refused(&own("min_release: 2.0.1"), &[], "rule in line 3: the release is older than `min_release` 2.0.1");
    refused(&own("from: 2026-06-16"), &[], "rule in line 3: the rule holds from 2026-06-16");
    refused(&own("until: 2026-06-14"), &[], "rule in line 3: the rule held until 2026-06-14");
    refused(
        &format!("{}{}", own("min_release: 3"), own("until: 2026-01-01")),
        &[],
        "rule in line 3: the release is older than `min_release` 3; rule in line 6: the rule held until 2026-01-01",
    );
    assert_eq!(
        judge_release(&own("min_release: 1"), "latest", &[]).unwrap_err(),
        "trust.yaml refuses clip latest: rule in line 3: the release can't be compared with `min_release` 1: it is not \
         numbers with dots"
    );
}

fn bundle_hint() -> String {
    let key = crate::signing::PublicKey::from_pem(&fixture("p256.pub")).unwrap();
    key.hint().to_hex()
}

#[test]
fn every_passport_must_say_what_is_required() {
    let executed = own("require: { executed_on: any }");
    let on_l4 = own("require: { executed_on: [8.9, 12.0] }");
    let close = own("require: { min_cosine: 0.999 }");
    refused(&executed, &[], "rule in line 3: the rule has a `require`, and no passport is signed");
    let emulated = ProfileFacts { status: "static", ..facts() };
    refused(
        &executed,
        &[facts(), emulated],
        "rule in line 3: p was validated as `static`, and the rule requires `executed_on` any",
    );
    let on_cpu = ProfileFacts { compute_capability: None, ran_on: Some("X on the CPU".into()), ..facts() };
    refused(
        &on_l4,
        &[on_cpu],
        "rule in line 3: p was executed by X on the CPU, and the rule requires `executed_on` 8.9 or 12.0",
    );
    let other = ProfileFacts { compute_capability: Some(ComputeCapability::new(9, 0)), ..facts() };
    assert!(judge(&on_l4, &[other]).unwrap_err().contains("8.9 or 12.0"));
    let failed = ProfileFacts { passed: false, ..facts() };
    refused(&close, &[failed], "rule in line 3: p did not pass validation (`executed`)");
    let off = ProfileFacts { min_cosine: Some(0.998), ..facts() };
    refused(
        &close,
        &[off],
        "rule in line 3: the cosine of p is 0.998, and the rule requires `min_cosine` 0.999",
    );
    let unknown = ProfileFacts { min_cosine: None, ..facts() };
    refused(
        &close,
        &[unknown],
        "rule in line 3: the cosine of p is not known, and the rule requires `min_cosine` 0.999",
    );
}

#[test]
fn facts_come_from_the_passport() {
    let path = format!("{}/tests/fixtures/formats/passport.json", env!("CARGO_MANIFEST_DIR"));
    let passport = crate::passport::Passport::parse(&fs_err::read(&path).unwrap(), &path).unwrap();
    let found = ProfileFacts::of(&passport);
    assert_eq!((found.status, found.passed, found.compute_capability), ("executed", true, None));
    assert!(found.min_cosine.is_some_and(|cosine| cosine > 0.999 && cosine <= 1.0), "{found:?}");
    let mut unmeasured = passport;
    if let crate::passport::Status::Executed(validation) = &mut unmeasured.validation {
        for gate in validation.gates.iter_mut().filter(|gate| gate.gate == "row_cosine").take(1) {
            gate.value = None;
        }
    }
    assert_eq!(ProfileFacts::of(&unmeasured).min_cosine, None);
}

#[test]
fn a_signature_of_nobody_known_is_refused() {
    let trust =
        parse(&format!("{OWN}- models: ['*']\n  certificates: {{ roots: [root.pem], subjects: ['*'] }}\n"))
            .unwrap();
    let error = trust.identify::<Statement>(&bundle("other.key"), NOW_S).unwrap_err();
    assert_eq!(error.tried.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 5]);
    let said = error.to_string();
    assert!(
        said.starts_with("trust.yaml does not accept the signature, which says that it is by the key "),
        "{said}"
    );
    assert!(said.contains("rule in line 3: ") && said.contains("rule in line 5: "), "{said}");
    // The right key, and another statement.
    let text = String::from_utf8(bundle("p256.key").to_json()).unwrap();
    let other = String::from_utf8(bundle("other.key").to_json()).unwrap();
    let signature =
        |text: &str| text.split("\"sig\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let forged = Bundle::parse(text.replace(&signature(&text), &signature(&other)).as_bytes()).unwrap();
    assert!(trust.identify::<Statement>(&forged, NOW_S).is_err());
}

#[test]
fn a_certificate_needs_the_root_and_the_name() {
    let rule = |root: &str, subject: &str| {
        format!("- models: ['*']\n  certificates:\n    roots: [{root}]\n    subjects: ['{subject}']\n")
    };
    let judge = |rules: &str| {
        let trust = parse(rules).unwrap();
        let (_, signer) =
            trust.identify::<Statement>(&certified(), NOW_S).map_err(|error| error.to_string())?;
        assert!(matches!(signer.signer, Signer::Certificate { .. }));
        let judged = trust.judge("m", "1", &signer, &[], NOW_S);
        judged.map(Rule::line).map_err(|refused| refused.to_string())
    };
    assert_eq!(judge(&rule("root.pem", "CN=Test *")), Ok(3));
    assert_eq!(
        judge(&rule("root.pem", "CN=Other*")).unwrap_err(),
        "trust.yaml refuses m 1: rule in line 3: it is signed by CN=Test signer, and the rule accepts `CN=Other*`"
    );
    assert!(judge(&rule("other-root.pem", "*")).unwrap_err().contains("rule in line 3"));
    // The name of one rule and the root of another are not enough.
    let both = format!("{}{}", rule("root.pem", "CN=Other"), rule("other-root.pem", "*"));
    let said = judge(&both).unwrap_err();
    assert!(said.contains("rule in line 7: it is signed by CN=Test signer, with a certificate"), "{said}");
}

#[test]
fn a_policy_that_is_not_whole_is_refused_with_its_line() {
    unreadable("  []\n", "3:3: `rules` has no rule: a policy needs at least one");
    unreadable(
        "- models: [a]\n",
        "3:3: the rule trusts nobody: name files of public keys in `keys`, or an authority in `certificates`",
    );
    unreadable(
        "- models: []\n  keys: [p256.pub]\n",
        "3:3: `models` is empty: name at least one, `*` matches anything",
    );
    unreadable(
        "- models: ['']\n  keys: [p256.pub]\n",
        "3:3: `models` has an empty pattern, which matches nothing: remove it",
    );
    unreadable("- models: [a, a]\n  keys: [p256.pub]\n", "3:3: `models` has a pattern twice: remove one");
    unreadable(&own("min_release:"), "5:3: `min_release` has no value: fill it in, or remove the line");
    unreadable(
        &own("min_release: newest"),
        "5:16: `newest` can't be compared with other releases: write numbers, `2.0.0`",
    );
    unreadable(
        &own("from: 2026-02-30"),
        "5:9: `2026-02-30` is not a date: write year-month-day, `2026-01-31`",
    );
    unreadable(
        &own("from: 2026-02-02\n  until: 2026-02-01"),
        "6:3: the rule never holds: `until` 2026-02-01 is before `from` 2026-02-02",
    );
    unreadable(&own("require: {}"), "5:3: `require` asks for nothing: remove it");
    unreadable(
        &own("require: { min_cosine: 1.5 }"),
        "5:3: `min_cosine` is 1.5: it must be above 0 and at most 1",
    );
    unreadable(
        &own("require: { min_cosine: .nan }"),
        "5:3: `min_cosine` is NaN: it must be above 0 and at most 1",
    );
    unreadable(
        &own("require: { executed_on: [] }"),
        "5:3: `executed_on` has no compute capability: write `any`, or name some: [8.9]",
    );
    unreadable(
        "- models: [a]\n  keys: [p256.pub, absent.pub]\n",
        "4:20: the key `absent.pub`: failed to open file `absent.pub`",
    );
    unreadable(
        "- models: [a]\n  certificates: { roots: [middle.pem], subjects: ['*'] }\n",
        "4:3: `roots` has no root certificate: a root is issued by itself",
    );
    unreadable(
        "- models: [a]\n  certificates: { roots: [root.pem], subjects: [] }\n",
        "4:3: `subjects` is empty: name at least one, `*` matches anything",
    );
}

/// What the reader of YAML says; each has a line.
#[test]
fn what_a_policy_does_not_know_is_refused() {
    for (rules, line, expected) in [
        (own("min_relase: 2"), "5:3", "unknown field `min_relase`"),
        (own("require: { executed: any }"), "5:14", "unknown field `executed`"),
        (own("require: { executed_on: some }"), "5:", "`any` or a list of compute capabilities"),
        (own("require: { executed_on: [89] }"), "5:", "89"),
        (own("keys: [other.pub]"), "5:3", "keys"),
        ("- keys: [p256.pub]\n".into(), "3:", "missing field `models`"),
        ("- models: [a]\n  keys: [ed25519.pub]\n".into(), "4:10", "Ed25519 keys are not supported"),
        ("- models: [a]\n  certificates: { roots: [root.pem] }\n".into(), "4:", "missing field `subjects`"),
    ] {
        let said = parse(&rules).unwrap_err().to_string();
        assert!(said.starts_with(&format!("trust.yaml:{line}")) && said.contains(expected), "{said}");
    }
    let read = |text: &str| Trust::parse(text, "t", &|_| Ok(String::new())).unwrap_err().to_string();
    assert!(read("schema: nimctl.trust/2\nrules: 1\n").contains("written by a newer nimctl"));
    assert!(read("schema: nimctl.recipe/1\nrules: []\n").contains("its schema is `nimctl.recipe/1`"));
    assert!(read("").starts_with("t"), "{}", read(""));
    assert!(read("schema: [\n").starts_with("t:"));
}

#[test]
fn what_is_attested_counts_if_the_rule_trusts_who_attests_it() {
    let trust = |more: &str| {
        let rules = format!(
            "{}- models: [clip]\n  keys: [other.pub]\n  min_release: 99\n",
            own(&format!("require: {{ attestations: [{more}] }}"))
        );
        parse(&rules).unwrap()
    };
    let judge = |trust: &Trust, attested: &[(Kind, &str)]| {
        let by = |key: &str| trust.identify::<Statement>(&bundle(key), NOW_S).unwrap().1;
        let attestations = attested.iter().map(|(kind, key)| (*kind, by(key))).collect();
        let facts = ProfileFacts { attestations, ..facts() };
        let judged = trust.judge("clip", "2.0.0", &by("p256.key"), &[facts], NOW_S);
        judged.map(Rule::line).map_err(|refused| refused.to_string())
    };
    let both = trust("provenance, validation");
    assert!(both.rules()[0].describe().ends_with("; attested provenance, validation"));
    let (provenance, validation) = ((Kind::Provenance, "p256.key"), (Kind::Validation, "p256.key"));
    assert!(judge(&both, &[provenance, validation]).is_ok());
    let refused = judge(&both, &[provenance]).unwrap_err();
    assert!(
        refused.contains("p has no attestation of its validation by somebody whom the rule trusts"),
        "{refused}"
    );
    // Who is trusted by another rule is not trusted by this one.
    let refused = judge(&both, &[provenance, (Kind::Validation, "other.key")]).unwrap_err();
    assert!(refused.contains("no attestation of its validation"), "{refused}");
    judge(&trust("benchmark"), &[provenance, validation]).unwrap_err();
    // Whoever attests needs no facts of his own.
    let (_, signer) = both.identify::<Statement>(&bundle("p256.key"), NOW_S).unwrap();
    assert!(both.judge_signer("clip", "2.0.0", &signer, NOW_S).is_ok());
    both.judge_signer("other", "2.0.0", &signer, NOW_S).unwrap_err();
    for (wrong, expected) in
        [("[]", "`attestations` names none"), ("[sbom]", "sbom"), ("provenance", "expected")]
    {
        let error = parse(&own(&format!("require: {{ attestations: {wrong} }}"))).unwrap_err().to_string();
        assert!(error.starts_with("trust.yaml:5:") && error.contains(expected), "{error}");
    }
}

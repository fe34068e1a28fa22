//! Statements of golden passports: what is written is read, and others' statements are left alone.

use super::*;

const STORED: &[u8] = include_bytes!("../../tests/fixtures/formats/passport.json");
const STATIC: &[u8] = include_bytes!("../../tests/fixtures/formats/passport-static.json");
const BUILDER: &str = "https://ci.example.com/release";

fn all(passport: &[u8]) -> Vec<Attestation> {
    Attestation::all_of(&Passport::parse(passport, "p").unwrap(), BUILDER).unwrap()
}

fn value(attestation: &Attestation) -> Value {
    serde_json::from_slice(&attestation.to_payload()).unwrap()
}

#[track_caller]
fn refused(attestation: &Attestation, change: impl Fn(&mut Value), expected: &str) {
    let mut changed = value(attestation);
    change(&mut changed);
    let message = Attestation::parse(changed.to_string().as_bytes()).unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn what_is_written_is_read() {
    let kinds: Vec<_> = all(STORED).iter().map(Attestation::kind).collect();
    assert_eq!(kinds, Kind::ALL.map(Some));
    for attestation in all(STORED).into_iter().chain(all(STATIC)) {
        assert_eq!(Attestation::parse(&attestation.to_payload()).unwrap(), attestation);
    }
}

#[test]
fn a_statement_is_about_its_profile_alone() {
    let (one, other) = (Passport::parse(STORED, "p").unwrap(), Passport::parse(STATIC, "p").unwrap());
    let content = |passport: &Passport| Sha256::from_hex(&passport.tags["content"]).unwrap();
    for attestation in all(STORED) {
        assert!(attestation.is_about(&one.id, &content(&one)));
        assert!(!attestation.is_about(&other.id, &content(&other)));
        assert!(!attestation.is_about(&one.id, &content(&other)));
        // The subject of another profile does not make it a statement about that.
        let moved = Attestation { subjects: all(STATIC)[0].subjects.clone(), ..attestation };
        assert!(!moved.is_about(&other.id, &content(&other)));
    }
}

#[test]
fn a_provenance_has_every_job_and_library() {
    let [attestation, ..] = &all(STORED)[..] else { panic!() };
    let Says::Provenance(provenance) = &attestation.says else { panic!() };
    let passport = Passport::parse(STORED, "p").unwrap();
    let text = &passport.graphs["text"];
    assert_eq!(provenance.graphs["text"].lower, text.lowering.document);
    assert_eq!(provenance.builder, BUILDER);
    let value = value(attestation);
    let dependencies = value["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let graph = text.lowering.document.graph.files[0].sha256.to_hex();
    assert!(dependencies.iter().any(|dependency| dependency["digest"]["sha256"] == graph.as_str()));
    // No time, no node: the same profile has the same statement on every machine.
    let released = Passport::parse(&passport.for_release(), "p").unwrap();
    assert_eq!(Attestation::all_of(&released, BUILDER).unwrap()[0], *attestation);
}

#[test]
fn nothing_passed_that_was_not_run() {
    let result =
        |attestation: &Attestation| value(attestation)["predicate"]["result"].as_str().unwrap().to_owned();
    assert_eq!(result(&all(STORED)[1]), "PASSED");
    let of_static = all(STATIC).into_iter().find(|found| found.kind() == Some(Kind::Validation)).unwrap();
    assert_eq!(result(&of_static), "WARNED");
    refused(&of_static, |value| value["predicate"]["result"] = "PASSED".into(), "its tests say `WARNED`");
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let [provenance, validation, ..] = &all(STORED)[..] else { panic!() };
    refused(
        provenance,
        |value| value["_type"] = "https://in-toto.io/Statement/v0.1".into(),
        "Statement/v0.1",
    );
    refused(provenance, |value| value["subject"] = json!([]), "0 subjects");
    refused(provenance, |value| value["subject"][0]["digest"] = json!({ "md5": "0" }), "md5");
    refused(provenance, |value| value["predicate"]["runDetails"] = json!({}), "builder");
    let parameters = |value: &mut Value, new: Value| {
        value["predicate"]["buildDefinition"]["externalParameters"]["x"] = new
    };
    refused(provenance, |value| parameters(value, json!(1)), "unknown field `x`");
    refused(
        provenance,
        |value| {
            let graphs = &mut value["predicate"]["buildDefinition"]["externalParameters"]["graphs"];
            graphs["text"]["lower"]["schema"] = "nimctl.build-key/9".into();
        },
        "nimctl.build-key/9",
    );
    refused(
        validation,
        |value| value["predicate"]["configuration"][0]["annotations"]["found"] = json!(1),
        "test result",
    );
    let text = String::from_utf8(provenance.to_payload()).unwrap();
    let twice = text.replacen("\"_type\"", "\"_type\":\"x\",\"_type\"", 1);
    assert!(Attestation::parse(twice.as_bytes()).unwrap_err().to_string().contains("appears twice"));
}

#[test]
fn what_others_say_is_left_alone() {
    let [provenance, validation, ..] = &all(STORED)[..] else { panic!() };
    let mut changed = value(provenance);
    changed["predicateType"] = "https://cyclonedx.org/bom".into();
    let other = Attestation::parse(changed.to_string().as_bytes()).unwrap();
    assert_eq!((other.kind(), other.predicate_type()), (None, "https://cyclonedx.org/bom"));
    let mut changed = value(provenance);
    changed["predicate"]["buildDefinition"]["buildType"] = "https://example.com/docker".into();
    assert_eq!(Attestation::parse(changed.to_string().as_bytes()).unwrap().kind(), None);
    let mut changed = value(validation);
    changed["predicate"]["configuration"][0]["uri"] = "https://example.com/pytest".into();
    assert_eq!(Attestation::parse(changed.to_string().as_bytes()).unwrap().kind(), None);
}

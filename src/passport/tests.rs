//! Golden passports, and what a release has of them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const STORED: &[u8] = include_bytes!("../../tests/fixtures/formats/passport.json");
const STATIC: &[u8] = include_bytes!("../../tests/fixtures/formats/passport-static.json");
const RELEASED: &[u8] = include_bytes!("../../tests/fixtures/formats/passport-released.json");

fn stored() -> Passport {
    Passport::parse(STORED, "p").unwrap()
}

/// Files of an earlier nimctl, which have to be read for ever.
#[test]
fn golden_passports_are_read() {
    let stored = stored();
    assert_eq!(stored.validation.word(), "executed");
    assert!(matches!(stored.bench, BenchStatus::Measured(_)));
    assert!(stored.graphs["text"].lowering.total_ms() > 0);
    let Status::Static(validation) = Passport::parse(STATIC, "p").unwrap().validation else { panic!() };
    assert!(validation.not_executed_because.is_some());
    let released = Passport::parse(RELEASED, "p").unwrap();
    assert_eq!(released.graphs["text"].lowering.measurements, None);
}

/// What a release holds of a profile must not depend on the nimctl that wrote it.
#[test]
fn released_bytes_are_those_of_an_earlier_nimctl() {
    let released = Passport::parse(RELEASED, "p").unwrap();
    assert_eq!(String::from_utf8(released.for_release()).unwrap(), String::from_utf8_lossy(RELEASED));
    let of_store = Passport { bench: released.bench.clone(), ..stored() };
    assert_eq!(String::from_utf8(of_store.for_release()).unwrap(), String::from_utf8_lossy(RELEASED));
}

#[test]
fn what_is_stored_comes_back() {
    let text = serde_json::to_vec_pretty(&stored()).unwrap();
    assert_eq!(Passport::parse(&text, "p").unwrap(), stored());
    let value: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value, serde_json::from_slice::<Value>(STORED).unwrap());
}

/// What is called as a measurement is, and is none, stays.
#[test]
fn a_graph_called_timings_is_in_a_release() {
    let mut passport = stored();
    let graph = passport.graphs["text"].clone();
    passport.graphs =
        BTreeMap::from([("peak_memory_bytes".into(), graph.clone()), ("timings".into(), graph)]);
    let released = Passport::parse(&passport.for_release(), "p").unwrap();
    assert_eq!(released.graphs, passport.without_measurements().graphs);
    assert_eq!(released.graphs.len(), 2);
}

#[test]
fn a_newer_version_of_any_part_is_refused() {
    let text = String::from_utf8_lossy(STORED);
    for schema in ["nimctl.passport/", "nimctl.contents/", "nimctl.build/", "nimctl.build-key/"] {
        let newer = text.replacen(&format!("{schema}1"), &format!("{schema}9"), 1);
        let error = Passport::parse(newer.as_bytes(), "p").unwrap_err().to_string();
        assert!(error.starts_with(&format!("p: written by a newer nimctl (schema {schema}9")), "{error}");
    }
}

/// Replaces the value at a place, counted through the document, or cuts it out.
fn change(value: &mut Value, place: &mut usize, new: Option<&Value>) {
    match value {
        Value::Object(members) => {
            let names: Vec<String> = members.keys().cloned().collect();
            for name in names {
                if *place == 0 {
                    match new {
                        Some(new) => _ = members.insert(name, new.clone()),
                        None => _ = members.remove(&name),
                    }
                    *place = usize::MAX;
                    return;
                }
                *place -= 1;
                change(&mut members[&name], place, new);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                change(item, place, new);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        _ => {}
    }
}

fn any_value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        any::<i64>().prop_map(|number| Some(number.into())),
        any::<u64>().prop_map(|number| Some(number.into())),
        any::<f64>().prop_map(|number| Some(number.into())),
        ".{0,9}".prop_map(|text| Some(text.into())),
        Just(Some(Value::Array(vec![Value::Null]))),
        Just(Some(serde_json::json!({ "a": 1 }))),
    ]
}

proptest! {
    /// A passport in which anything was changed is read or refused; what is read is written, and read again.
    #[test]
    fn changed_passports(place in 0_usize..400, new in any_value()) {
        let mut value: Value = serde_json::from_slice(STORED).unwrap();
        let mut left = place;
        change(&mut value, &mut left, new.as_ref());
        let text = serde_json::to_vec(&value).unwrap();
        if let Ok(passport) = Passport::parse(&text, "p") {
            let again = serde_json::to_vec(&passport).unwrap();
            prop_assert_eq!(&Passport::parse(&again, "p").unwrap(), &passport);
            let released = Passport::parse(&passport.for_release(), "p").unwrap();
            prop_assert_eq!(released.graphs, passport.without_measurements().graphs);
            let _ = passport.contents.tags(&crate::digest::Sha256::of(b""));
            let _ = passport.contents.to_canonical_json();
        }
    }

    #[test]
    fn any_bytes_are_no_passport(bytes: Vec<u8>) {
        prop_assert!(Passport::parse(&bytes, "p").is_err());
    }
}

#[test]
fn a_passport_is_that_of_its_id() {
    for golden in [STORED, STATIC, RELEASED] {
        assert_eq!(Passport::parse(golden, "p").unwrap().check_identity(), Ok(()));
    }
    let mut other_file = stored();
    other_file.contents.files[0].sha256 = Sha256::of(b"other");
    let mut other_tags = stored();
    other_tags.tags.insert("more".into(), "x".into());
    let mut other_key: Value = serde_json::from_slice(STORED).unwrap();
    other_key["graphs"]["text"]["lowering"]["key"] = Sha256::of(b"other").to_string().into();
    let other_key = Passport::parse(other_key.to_string().as_bytes(), "p").unwrap();
    for (changed, why) in [
        (other_file, "its contents are those of profile"),
        (other_tags, "its tags are not those"),
        (other_key, "the build key of graph `text`"),
    ] {
        let error = changed.check_identity().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// What another store made results of is not to be taken over here.
#[test]
fn a_released_passport_has_no_keys_of_results() {
    let made_of = Origins { validation_key: Some(Sha256::of(b"key")), ..Origins::default() };
    let forged = serde_json::to_vec(&Passport { made_of, ..stored() }).unwrap();
    assert_eq!(Passport::parse(&forged, "p").unwrap().made_of, made_of);
    assert_eq!(Passport::parse_released(&forged, "p").unwrap().made_of, Origins::default());
}

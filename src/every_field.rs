//! A property for whatever has a digest: a change of any field, at any depth, changes it.
//!
//! Two arbitrary documents are crossed: each field of the one is replaced with the same field of the other, alone. Which
//! fields there are comes from the JSON schema, so a new one is tried by itself, and a test fails whose documents never
//! differ in it.

use std::collections::BTreeSet;
use std::fmt::Debug;

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const CASES: usize = 200;

/// Fails unless each field of a document changes its digest.
pub(crate) fn changes_the_digest<T, D>(documents: impl Strategy<Value = T>, digest: impl Fn(&T) -> D)
where
    T: Serialize + DeserializeOwned + JsonSchema + Debug,
    D: PartialEq + Debug,
{
    let fields = fields::<T>();
    let names: BTreeSet<&str> = fields.iter().flat_map(|field| field.split('/')).collect();
    let mut runner = TestRunner::deterministic();
    let mut draw = || documents.new_tree(&mut runner).unwrap().current();
    let mut changed = BTreeSet::new();
    for _ in 0..CASES {
        let (document, other) = (draw(), draw());
        let before = digest(&document);
        let (document, other) = [document, other].map(|one| serde_json::to_value(one).unwrap()).into();
        for place in places(&document) {
            let (Some(old), Some(new)) = (document.pointer(&place), other.pointer(&place)) else { continue };
            if old == new {
                continue;
            }
            let mut crossed = document.clone();
            *crossed.pointer_mut(&place).unwrap() = new.clone();
            let crossed: T = serde_json::from_value(crossed).unwrap();
            assert_ne!(digest(&crossed), before, "{place}, {old} or {new}: the same digest of {crossed:?}");
            let segment =
                |segment: &str| if names.contains(segment) { segment.to_owned() } else { "*".into() };
            changed.insert(place.split('/').map(segment).collect::<Vec<_>>().join("/"));
        }
    }
    let missed: Vec<&String> = fields.difference(&changed).collect();
    assert!(missed.is_empty(), "the documents of this test never differ in {missed:?}");
}

/// Returns the JSON pointers of all values below a document's root, the inner ones first: a failure names the innermost.
fn places(document: &Value) -> Vec<String> {
    let members: Vec<(String, &Value)> = match document {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let below = |(name, value): &(String, &Value)| -> Vec<String> {
        let inside = places(value).into_iter().map(|place| format!("/{name}{place}"));
        inside.chain(std::iter::once(format!("/{name}"))).collect()
    };
    members.iter().flat_map(below).collect()
}

/// Returns the paths of the fields that a type's JSON schema has, with `*` for the keys of a map and the items of a list.
fn fields<T: JsonSchema>() -> BTreeSet<String> {
    fn walk(schema: &Value, root: &Value, path: &str, out: &mut BTreeSet<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            walk(root.pointer(name.trim_start_matches('#')).unwrap(), root, path, out);
        }
        for choices in ["anyOf", "oneOf", "allOf"] {
            let choices = schema[choices].as_array().into_iter().flatten();
            choices.for_each(|choice| walk(choice, root, path, out));
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            walk(member, root, &path, out);
            out.insert(path);
        }
        for inside in ["items", "additionalProperties"] {
            if schema[inside].is_object() {
                walk(&schema[inside], root, &format!("{path}/*"), out);
            }
        }
    }
    let root = schemars::schema_for!(T).to_value();
    let mut fields = BTreeSet::new();
    walk(&root, &root, "", &mut fields);
    assert!(fields.len() > 3, "{root}");
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape_range::ShapeRange;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = (ShapeRange, u8)> {
        let shape = || proptest::collection::vec(1..9_i64, 1..3);
        (shape(), shape(), shape(), any::<u8>())
            .prop_map(|(min, opt, max, number)| (ShapeRange { min, opt, max }, number))
    }

    #[test]
    #[should_panic(expected = "/range/max")]
    fn a_field_that_is_forgotten_is_found() {
        let ranges = ranges().prop_map(|(range, _)| Named { name: "x".into(), range, note: None });
        changes_the_digest(ranges, |Named { name, range: ShapeRange { min, opt, max: _ }, note }| {
            format!("{name:?} {min:?} {opt:?} {note:?}")
        });
    }

    #[test]
    #[should_panic(expected = "never differ in [\"/note\"]")]
    fn a_field_that_is_never_tried_is_found() {
        let ranges =
            ranges().prop_map(|(range, number)| Named { name: number.to_string(), range, note: None });
        changes_the_digest(ranges, |named| format!("{named:?}"));
    }

    #[derive(Debug, Serialize, serde::Deserialize, JsonSchema)]
    struct Named {
        name: String,
        range: ShapeRange,
        note: Option<String>,
    }
}

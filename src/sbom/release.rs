//! The bill of a release, from the passports of its profiles.

use std::collections::{BTreeMap, BTreeSet};

use super::cyclonedx::{
    Aggregate, Bom, Component, Composition, Dependency, Kind, License, Metadata, Property, Tools,
};
use super::tools::{PinnedTool, tools_of};
use super::{datasets, model_card};
use crate::benchmark::BenchStatus;
use crate::canonical;
use crate::digest::Sha256;
use crate::onnx::GraphDigest;
use crate::passport::Passport;
use crate::profile::{CONTENTS_FILE, ModelRelease};

/// How many hex digits of a digest tell two graphs of one name apart.
const REFERENCE_DIGITS: usize = 16;
/// The name of the tag with the digest of `contents.json`.
const CONTENT_TAG: &str = "content";

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseToList<'a> {
    /// The model and its release.
    pub model: &'a ModelRelease,
    /// The passports of its profiles.
    pub passports: &'a [Passport],
    /// Whether these are all of its profiles.
    pub is_complete: bool,
    /// The tools that nimctl pins.
    pub pinned: &'a [PinnedTool],
}

/// Returns the bill of a release.
pub fn of_release(release: &ReleaseToList<'_>) -> Bom {
    let ReleaseToList { model, passports, is_complete, pinned } = release;
    let reference = format!("release:{}@{}", model.name, model.release);
    let mut known = BTreeMap::new();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for passport in *passports {
        let data = datasets::data_of(passport, &mut known);
        let mut needed = tools_of(passport, pinned, &mut known);
        needed.extend(passport.contents.graphs.iter().map(|(name, digest)| graph(name, digest, &mut known)));
        let profile = profile(passport, &data);
        needed.extend(data);
        needs.entry(reference.clone()).or_default().insert(profile.bom_ref.clone());
        needs.insert(profile.bom_ref.clone(), needed);
        known.insert(profile.bom_ref.clone(), profile);
    }
    let root = Component {
        version: Some(model.release.clone()),
        ..Component::new(Kind::MachineLearningModel, &reference, &model.name)
    };
    let all = known.keys().chain([&reference]).collect::<BTreeSet<_>>();
    let dependencies = all.into_iter().map(|of| Dependency {
        of: of.clone(),
        depends_on: needs.get(of).into_iter().flatten().cloned().collect(),
    });
    let aggregate = if *is_complete { Aggregate::Complete } else { Aggregate::Incomplete };
    Bom::new(
        Metadata { tools: Tools { components: vec![this_program()] }, component: root },
        known.values().cloned().collect(),
        dependencies.collect(),
        vec![Composition { aggregate, assemblies: vec![reference] }],
    )
}

/// Returns what writes the bill.
fn this_program() -> Component {
    let version = env!("CARGO_PKG_VERSION");
    Component {
        version: Some(version.into()),
        licenses: vec![License::Expression(env!("CARGO_PKG_LICENSE").into())],
        ..Component::new(Kind::Application, format!("nimctl@{version}"), "nimctl")
    }
}

fn profile(passport: &Passport, data: &BTreeSet<String>) -> Component {
    let contents = &passport.contents;
    let reference = format!("profile:{}", passport.id);
    let file = |path: &str, sha256: &Sha256| Component::file(format!("{reference}/{path}"), path, sha256);
    let mut files: Vec<Component> = contents
        .files
        .iter()
        .map(|listed| Component {
            properties: vec![Property::new("size_bytes", listed.size_bytes)],
            ..file(&listed.path, &listed.sha256)
        })
        .collect();
    if let Some(sha256) = passport.tags.get(CONTENT_TAG).and_then(|hex| Sha256::from_hex(hex).ok()) {
        files.push(file(CONTENTS_FILE, &sha256));
    }
    files.sort_by(|a, b| a.bom_ref.cmp(&b.bom_ref));
    let mut properties = vec![
        Property::new("profile_id", passport.id),
        Property::new("backend", &contents.backend),
        Property::new("precision", contents.precision),
        Property::new("target", &contents.target),
        Property::new("validation", passport.validation.word()),
    ];
    match passport.validation.validation() {
        Some(validation) => {
            properties.push(Property::new("validation.passed", validation.passed));
            properties.push(Property::new("validation.ran_on", &validation.ran_on));
            let why = &validation.not_executed_because;
            properties.extend(why.iter().map(|why| Property::new("validation.not_executed_because", why)));
        }
        None => {
            if let crate::passport::Status::Skipped(why) = &passport.validation {
                properties.push(Property::new("validation.skipped_because", why));
            }
        }
    }
    match &passport.bench {
        BenchStatus::Measured(_) => properties.push(Property::new("bench", "measured")),
        BenchStatus::Failed(why) => properties.push(Property::new("bench.failed_because", why)),
        BenchStatus::Skipped(why) => properties.push(Property::new("bench.skipped_because", why)),
    }
    Component {
        version: Some(contents.model.release.clone()),
        components: files,
        model_card: Some(model_card::model_card(passport, data)),
        properties,
        ..Component::new(Kind::MachineLearningModel, &reference, &passport.name)
    }
}

/// Adds a source graph to `known`, and returns its reference.
fn graph(name: &str, digest: &GraphDigest, known: &mut BTreeMap<String, Component>) -> String {
    let of_files = Sha256::of(canonical::to_string(digest).unwrap_or_default().as_bytes()).to_hex();
    let reference = format!("graph:{name}@{}", &of_files[..REFERENCE_DIGITS]);
    let files = digest.files.iter().map(|file| Component {
        properties: vec![Property::new("size_bytes", file.size_bytes)],
        ..Component::file(format!("{reference}/{}", file.path), &file.path, &file.sha256)
    });
    let component = Component {
        description: Some("the source graph, before lowering".into()),
        components: files.collect(),
        ..Component::new(Kind::MachineLearningModel, &reference, name)
    };
    known.insert(reference.clone(), component);
    reference
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::ProfileId;

    const GOLDEN: &str = include_str!("../../tests/fixtures/formats/passport.json");

    fn golden() -> Passport {
        Passport::parse(GOLDEN.as_bytes(), "p").unwrap()
    }

    fn bill(passports: &[Passport]) -> Bom {
        let model = &passports[0].contents.model;
        of_release(&ReleaseToList { model, passports, is_complete: true, pinned: &[] })
    }

    #[test]
    fn the_order_of_profiles_changes_nothing() {
        let (first, mut second) = (golden(), golden());
        second.id = ProfileId::from_hex(&"0".repeat(64)).unwrap();
        let bom = bill(&[first.clone(), second.clone()]);
        assert_eq!(bom, bill(&[second, first]));
        // Both need the same graph and tools, which are listed once.
        let profiles = bom.components.iter().filter(|component| component.bom_ref.starts_with("profile:"));
        assert_eq!(profiles.count(), 2);
        let graphs = bom.components.iter().filter(|component| component.bom_ref.starts_with("graph:"));
        assert_eq!(graphs.count(), 1);
    }

    #[test]
    fn every_reference_is_that_of_one_component() {
        fn references<'a>(components: &'a [Component], found: &mut Vec<&'a str>) {
            for component in components {
                found.push(&component.bom_ref);
                references(&component.components, found);
            }
        }
        let bom = bill(&[golden()]);
        let mut found = vec![bom.metadata.component.bom_ref.as_str()];
        references(&bom.components, &mut found);
        let unique: BTreeSet<&str> = found.iter().copied().collect();
        assert_eq!(unique.len(), found.len(), "{found:?}");
        let needed = bom.dependencies.iter().flat_map(|one| one.depends_on.iter().chain([&one.of]));
        for reference in needed {
            assert!(unique.contains(reference.as_str()), "{reference}");
        }
    }
}

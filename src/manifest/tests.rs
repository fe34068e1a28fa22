//! Tests of manifests: what we write, what we read, what we refuse.

use super::*;
use crate::digest::Blake3;

fn profile(tags: &[(&str, &str)]) -> ManifestProfile {
    let tags: Tags = tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let file = ManifestFile {
        uri: Some(store_uri(&Sha256::of(b"x"))),
        checksum: Some(Blake3::of(b"x").to_string()),
    };
    ManifestProfile {
        id: ProfileId::of_tags(&tags).unwrap().to_string(),
        tags,
        workspace: Workspace { files: BTreeMap::from([("vision/model.plan".into(), file)]) },
    }
}

fn release() -> ModelRelease {
    ModelRelease { name: "m".into(), release: "2.0.0".into() }
}

/// The golden text: a change here changes every committed manifest.
#[test]
fn golden_text() {
    let manifest = Manifest::new(&release(), vec![profile(&[("gpu", "l4"), ("batch_size", "64")])]).unwrap();
    insta::assert_snapshot!(manifest.to_yaml().unwrap(), @r#"
    schema_version: "2.0"
    profile_selection_criteria: auto
    model: m
    release: "2.0.0"
    profiles:
    - id: 639755899cd1a9e84692b84591e74522a18c0c1729bbd123b4079eedb27ed616
      tags:
        batch_size: "64"
        gpu: l4
      workspace:
        files:
          vision/model.plan:
            uri: store:sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881
            checksum: blake3:3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5
    "#);
    assert_eq!(Manifest::parse(&manifest.to_yaml().unwrap(), "m.yaml").unwrap(), manifest);
}

#[test]
fn equal_tags_are_refused() {
    let twice =
        vec![profile(&[("gpu", "l4"), ("content", "a")]), profile(&[("gpu", "l4"), ("content", "b")])];
    assert!(matches!(Manifest::new(&release(), twice), Err(ManifestError::EqualTags { .. })));
}

#[test]
fn other_versions_are_named() {
    let error =
        Manifest::parse("schema_version: '3.0'\nprofile_selection_criteria: auto\nprofiles: []\n", "m.yaml");
    insta::assert_snapshot!(error.unwrap_err(), @"m.yaml has schema version 3.0; this nimctl reads 2.0");
}

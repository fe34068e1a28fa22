//! Tests of manifests: what nimctl writes, reads and refuses.

use super::*;
use crate::digest::{Blake3, Sha256};

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

/// The golden file: a change here changes every committed manifest.
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
    insta::assert_snapshot!(error.unwrap_err(), @"m.yaml: written by a newer nimctl (schema 3.0, this nimctl reads 2.0): upgrade nimctl");
}

fn document(text: &str) -> ManifestDocument {
    ManifestDocument::parse(text.as_bytes(), "m.yaml").unwrap()
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = ManifestDocument::parse(text.as_bytes(), "m.yaml").unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

/// The 2024 form: a mapping by id, YAML tags, files by name only, undocumented keys.
const OF_2024: &str = "\
27af4b1ba53d08ec58bd3b4d5e3dbb8a58ac22ea22dbb06b32fd33f5b5ba5a5b:
  model: acme/embedder
  release: 1.2.0
  container_url: registry.example/acme/embedder:1.2.0
  tags:
    llm_engine: tensorrt_llm
    gpu: L40S
    gpu_device: 26b9:10de
    precision: fp16
    tp: '2'
    profile: latency
  workspace: !workspace
    components:
    - dst: engine
      src:
        repo_id: ngc://acme/embedder:l40s
        files:
        - !name rank0.engine
        - !name 'config.json'
    - src: {files: [!name LICENSE]}
e6c1b2a4-0f7d-4d6e-9d52-0f4c7f3a9b11:
  model: acme/embedder
  release: 1.2.0
  tags: {backend: onnx, precision: fp32}
";

#[test]
fn the_form_of_2024() {
    let document = document(OF_2024);
    assert_eq!(document.form(), Form::Map2024);
    let manifest = document.manifest();
    assert_eq!(
        (manifest.model.as_deref(), manifest.release.as_deref()),
        (Some("acme/embedder"), Some("1.2.0"))
    );
    let first = &manifest.profiles[0];
    let files: Vec<_> =
        first.workspace.files.iter().map(|(path, file)| (path.as_str(), file.uri.as_deref())).collect();
    assert_eq!(
        files,
        [
            ("LICENSE", None),
            ("engine/config.json", Some("ngc://acme/embedder:l40s?file=config.json")),
            ("engine/rank0.engine", Some("ngc://acme/embedder:l40s?file=rank0.engine")),
        ]
    );
    assert_eq!(first.readable_name(), "tensorrt_llm-l40s-fp16-tp2-latency");
    let kinds: Vec<_> = manifest.profiles.iter().map(|profile| document.id_kind(profile).word()).collect();
    assert_eq!(kinds, ["opaque", "opaque"]);
    // Written back, it has the same meaning; written again, the same bytes.
    let text = document.to_yaml();
    assert!(text.contains("workspace: !workspace\n    components:"), "{text}");
    let again = self::document(&text);
    assert_eq!(again.tree(), document.tree());
    assert_eq!(again.to_yaml(), text);
}

#[test]
fn converted_it_keeps_what_it_said() {
    let converted = convert(&document(OF_2024), "m.yaml").unwrap();
    insta::assert_snapshot!(converted.to_yaml(), @r#"
    schema_version: "2.0"
    profile_selection_criteria: auto
    model: acme/embedder
    release: "1.2.0"
    profiles:
    - id: 27af4b1ba53d08ec58bd3b4d5e3dbb8a58ac22ea22dbb06b32fd33f5b5ba5a5b
      container_url: registry.example/acme/embedder:1.2.0
      tags:
        gpu: L40S
        gpu_device: 26b9:10de
        llm_engine: tensorrt_llm
        precision: fp16
        profile: latency
        tp: "2"
      workspace:
        files:
          LICENSE: {}
          engine/config.json:
            uri: ngc://acme/embedder:l40s?file=config.json
          engine/rank0.engine:
            uri: ngc://acme/embedder:l40s?file=rank0.engine
    - id: e6c1b2a4-0f7d-4d6e-9d52-0f4c7f3a9b11
      tags:
        backend: onnx
        precision: fp32
      workspace:
        files: {}
    "#);
    let manifest = document(OF_2024).into_manifest();
    assert_eq!(converted.manifest().profiles, manifest.profiles);
    assert_eq!(convert(&converted, "m.yaml").unwrap().to_yaml(), converted.to_yaml());
}

/// What other tools write as schema 2.0: the longer version, numbers without quotes, short files, unknown keys.
const OF_OTHERS: &str = "\
schema_version: 2.0.0
profile_selection_criteria: default
x-owner: {team: vision}
profiles:
  - id: 425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd
    tags: {gpu: a6000}
    x-note: by hand
    workspace:
      files:
        engine: ngc://acme/cv:1?file=engine
        config: {uri: 'ngc://acme/cv:1?file=config', size: 12}
  - id: some words
    tags: {tp: 8, pp:}
";

#[test]
fn schema_2_of_others() {
    let document = document(OF_OTHERS);
    let kinds: Vec<_> =
        document.manifest().profiles.iter().map(|profile| document.id_kind(profile).word()).collect();
    assert_eq!(kinds, ["nim-tags", "opaque"]);
    let text = document.to_yaml();
    for kept in ["x-owner:\n  team: vision", "x-note: by hand", "size: 12", "tp: 8", "pp: null"] {
        assert!(text.contains(kept), "{kept} in\n{text}");
    }
    assert_eq!(self::document(&text).tree(), document.tree());
    assert_eq!(document.positions()[1].to_string(), "12:9");
}

/// Five ids of public manifests, as NIM's rule gives them.
#[test]
fn public_ids_are_not_wrong() {
    for (tags, id) in [
        ("{gpu: a6000}", "425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd"),
        ("{llm_engine: vllm}", "e2f00b2cbfb168f907c8d6d4d40406f7261111fbab8b3417a485dcd19d10cc98"),
        (
            "{model_type: onnx, precision: fp16}",
            "e28f17c9c13a99055d065f88d725bf93c23b3aab14acd68f16323de1353fc528",
        ),
        (
            "{backend: tensorrt, gpu: l4, model_type: tensorrt, precision: fp8}",
            "737a0c2191e21c442c4b041bddbd7099681cc5b8aeb42c8f992311b807f8d5d3",
        ),
        (
            "{gpu: RTX4090, gpu_device: '2684:10de', model_type: tensorrt, precision: fp16}",
            "c761e52b62df2a2a46047aed74dd6e1da8826f3596bec3c197372c7592478f6b",
        ),
    ] {
        let text = format!("schema_version: '2.0'\nprofiles: [{{id: {id}, tags: {tags}}}]");
        let document = document(&text);
        assert_eq!(document.id_kind(&document.manifest().profiles[0]), IdKind::NimTags);
        let other = self::document(
            &text
                .replace("profiles: [{id", "profiles: [{tags: {gpu: l4}, x")
                .replace("x:", "id:")
                .replace(", tags: ", ", y: "),
        );
        assert!(matches!(other.id_kind(&other.manifest().profiles[0]), IdKind::Wrong { computed: Some(_) }));
    }
}

#[test]
fn what_is_no_manifest_is_refused_with_its_position() {
    refused("[a]", "m.yaml:1:1: a manifest must be a mapping, not a list");
    refused("{}", "an empty mapping is not a manifest");
    refused("a: b", "m.yaml:1:1: this is not a manifest");
    refused("profiles: []", "`schema_version` is missing");
    refused("schema_version: '2.0'", "`profiles` is missing");
    refused("schema_version: '1.0'\nsimple: {profiles: []}", "nimctl manifest import");
    refused("schema_version: '2.0'\nprofiles: {}", "m.yaml:2:11: `profiles` must be a list, not a mapping");
    refused("schema_version: '2.0'\nprofiles:\n- tags: {}", "m.yaml:3:3: this profile has no `id`");
    refused("schema_version: '2.0'\nprofiles:\n- id: [a]", "m.yaml:3:7: an id must be a string, not a list");
    refused("schema_version: '2.0'\nprofiles: [{id: a, tags: [b]}]", "`tags` must be a mapping");
    refused(
        "schema_version: '2.0'\nprofiles: [{id: a, tags: {b: [c]}}]",
        "a tag's value must be a string, not a list",
    );
    refused(
        "schema_version: '2.0'\nprofiles: [{id: a, workspace: {files: [b]}}]",
        "`files` must be a mapping",
    );
    refused(
        "schema_version: '2.0'\nprofiles: [{id: a}, {id: b}, {id: a}]",
        "m.yaml:2:35: duplicate profile a: the first one is at 2:17",
    );
    refused("a: {tags: {}}\nb: {tags: {}}\na: {tags: {}}", "m.yaml:3:1: duplicate key `a`, first at 1:1");
    for id in ["../x", "a/b", "..", ".", "a\\\\b", "a\\u0007b", " ", ""] {
        refused(&format!("schema_version: '2.0'\nprofiles: [{{id: \"{id}\"}}]"), "m.yaml:2:17: ");
    }
    for path in ["../x", "/etc/passwd", "a/../../b", "a\\\\b", "a\\nb", ""] {
        let text = format!(
            "schema_version: '2.0'\nprofiles: [{{id: a, workspace: {{files: {{\"{path}\": {{}}}}}}}}]"
        );
        refused(&text, "is not a path inside the workspace");
    }
}

#[test]
fn differences() {
    let file = |checksum: &str, uri: &str| format!("{{uri: {uri}, checksum: {checksum}}}");
    let manifest = |profiles: &[(&str, &str, String)]| {
        let profile = |(id, tags, file): &(&str, &str, String)| {
            format!("- {{id: {id}, tags: {{{tags}}}, workspace: {{files: {{f: {file}}}}}}}\n")
        };
        let profiles: String = profiles.iter().map(profile).collect();
        document(&format!("schema_version: '2.0'\nprofiles:\n{profiles}")).into_manifest()
    };
    let old = manifest(&[
        ("gone", "gpu: l4", file("c", "u")),
        ("same", "gpu: l40s", file("c", "u")),
        ("moved", "gpu: a10", file("c", "u")),
        ("old", "gpu: a10g, content: 'x'", file("c", "u")),
        ("tags", "gpu: a30, note: 'x'", file("c", "u")),
    ]);
    let new = manifest(&[
        ("new", "gpu: a10g, content: 'y'", file("d", "u")),
        ("same", "gpu: l40s", file("c", "u")),
        ("moved", "gpu: a10", file("c", "v")),
        ("tags", "gpu: a30, note: 'y'", file("c", "u")),
        ("more", "gpu: t4", file("c", "u")),
    ]);
    let difference = diff(&old, &new);
    assert_eq!(difference.removed, [("gone".to_owned(), "l4".to_owned())]);
    assert_eq!(difference.added, [("more".to_owned(), "t4".to_owned())]);
    assert_eq!(difference.unchanged, 1);
    let changed: Vec<_> = difference
        .changed
        .iter()
        .map(|changed| {
            (changed.old_id.as_str(), changed.new_id.as_str(), changed.changes_bytes(), changed.tags.len())
        })
        .collect();
    assert_eq!(changed, [("moved", "moved", false, 0), ("tags", "tags", false, 1), ("old", "new", true, 1)]);
    assert_eq!(difference.changed[0].files["f"], FileChange::Moved);
    assert!(diff(&new, &new).is_empty());
}

#[test]
fn merging() {
    let named = |text: &str| ("m.yaml".to_owned(), document(text));
    let a = "schema_version: '2.0'\nmodel: m\nx: y\nprofiles:\n- {id: a, tags: {gpu: l4}}\n- {id: b, tags: {gpu: t4}}\n";
    let b =
        "schema_version: '2.0'\nprofiles:\n- {id: c, tags: {gpu: a10}, z: 1}\n- {id: b, tags: {gpu: t4}}\n";
    let merged = merge(&[named(a), named(b), named(OF_2024.replace("acme/embedder", "m").as_str())]).unwrap();
    let ids: Vec<&str> = merged.manifest().profiles.iter().map(|profile| profile.id.as_str()).collect();
    assert_eq!(ids[..3], ["a", "b", "c"]);
    assert_eq!(ids.len(), 5);
    let text = merged.to_yaml();
    assert!(text.contains("x: y") && text.contains("z: 1"), "{text}");
    let fails = |b: &str| merge(&[named(a), named(b)]).unwrap_err().to_string();
    assert!(fails(&b.replace("t4", "t40")).contains("profile b has different tags or files"));
    assert!(fails(&b.replace("id: b", "id: d")).contains("profiles b and d have equal tags"));
    assert!(fails(&b.replace("profiles:", "model: n\nprofiles:")).contains("has model m, and m.yaml has n"));
    assert!(matches!(merge(&[]), Err(MergeError::Nothing)));
}

#[test]
fn importing() {
    let text = "---\nschema_version: '1.0'\nmodel: acme/cv\nrelease: rc1\nsimple:\n  profiles:\n    - model_version: a6000_trt10\n      tags:\n        gpu: a6000\n";
    let files = BTreeMap::from([(
        "a6000_trt10".to_owned(),
        BTreeMap::from([("m.engine".to_owned(), Blake3::of(b"x"))]),
    )]);
    let manifest = import(text.as_bytes(), "p.yaml", &files).unwrap();
    insta::assert_snapshot!(manifest.to_yaml(), @r#"
    schema_version: "2.0"
    profile_selection_criteria: auto
    model: acme/cv
    release: rc1
    profiles:
    - id: 425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd
      tags:
        gpu: a6000
      workspace:
        files:
          m.engine:
            uri: ngc://acme/cv:a6000_trt10?file=m.engine
            checksum: blake3:3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5
    "#);
    let fails = |text: &str| import(text.as_bytes(), "p.yaml", &files).unwrap_err().to_string();
    assert!(fails("a: b").contains("p.yaml:1:1: a profiles file needs the string `schema_version` here"));
    assert!(fails(&text.replace("1.0", "2.0")).contains("of schema version 1.0, found 2.0"));
    assert!(fails(&text.replace("simple", "complex")).contains("needs the list `simple.profiles`"));
}

//! Building: what runs, what doesn't, and why; what is the same the next time.

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, X_RANGE, home_with_graph, recipe};

fn manifest(home: &Home) -> Vec<u8> {
    fs_err::read(home.path("manifests/r/model_manifest.yaml")).unwrap()
}

/// Runs a build and returns its JSON report.
fn build(home: &Home, arguments: &[&str]) -> serde_json::Value {
    home.set_up(&[&["build", "r.yaml", "--output", "json"], arguments].concat()).exits(0).json()
}

fn reasons(report: &serde_json::Value) -> Vec<(String, String)> {
    let jobs = report["jobs"].as_array().unwrap();
    jobs.iter().map(|job| (job["title"].as_str().unwrap().to_owned(), job["reason"].to_string())).collect()
}

#[test]
fn the_second_build_does_nothing() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    let first = build(&home, &[]);
    assert!(reasons(&first).iter().all(|(_, reason)| reason == "\"new\""), "{first:#}");
    let bytes = manifest(&home);
    let second = build(&home, &[]);
    assert!(reasons(&second).iter().all(|(_, reason)| reason == "null"), "{second:#}");
    assert_eq!(second["manifest_changed"], false);
    assert_eq!(manifest(&home), bytes);
}

#[test]
fn a_deleted_store_gives_the_same_manifest() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    build(&home, &[]);
    let bytes = manifest(&home);
    fs_err::remove_dir_all(home.path("data/store")).unwrap();
    fs_err::remove_dir_all(home.path("manifests")).unwrap();
    build(&home, &[]);
    assert_eq!(manifest(&home), bytes);
}

#[test]
fn a_changed_shape_says_what_changed_and_rebuilds_only_plans() {
    let home = home_with_graph(FAKE);
    build(&home, &[]);
    home.write("r.yaml", recipe(&X_RANGE.replace("max: [8", "max: [16"), FAKE));
    let report = build(&home, &["--dry-run"]);
    let changed = r#"{"changed":[{"field":"shape_ranges.x.max","old":"[8,4]","new":"[16,4]"}]}"#;
    for (title, reason) in reasons(&report) {
        assert_eq!(reason, if title.contains("lower") { "null" } else { changed }, "{title}");
    }
    home.run(&["build", "r.yaml", "--dry-run"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_lost_blob_is_built_again() {
    let home = home_with_graph(FAKE);
    build(&home, &[]);
    let plan = nimctl::digest::Sha256::of(b"plan");
    fs_err::remove_file(home.path("data/store/blobs/sha256").join(plan.to_hex())).unwrap();
    let reasons = reasons(&build(&home, &[]));
    assert!(reasons.iter().any(|(_, reason)| reason.contains("output_missing")), "{reasons:?}");
    assert!(home.path("data/store/blobs/sha256").join(plan.to_hex()).exists());
}

#[test]
fn a_dry_run_builds_nothing() {
    let home = home_with_graph(FAKE);
    home.run(&["build", "r.yaml", "--dry-run"]).exits(0);
    assert!(!home.path("manifests").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn only_what_is_selected() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    home.run(&["build", "r.yaml", "--only", "compute_capability=8.9"]).exits(0);
    home.run(&["build", "r.yaml", "--only", "*-sm90-*"]).exits(0);
    home.run(&["build", "r.yaml", "--only", "gpu=l4"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn what_cannot_be_built_here_is_listed_and_is_an_error_only_if_asked() {
    let hopper = "  - { backend: tensorrt, precisions: [fp16], targets: { gpus: [h100-sxm] } }\n";
    let home = home_with_graph(&format!("{GENERIC}{hopper}"));
    home.run(&["build", "r.yaml"]).exits(0);
    fs_err::remove_dir_all(home.path("manifests")).unwrap();
    home.run(&["build", "r.yaml", "--require-all"]).exits(5);
    assert!(!home.path("manifests").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn equal_plans_share_one_file() {
    let home = home_with_graph(FAKE);
    let report = build(&home, &[]);
    let profiles = report["profiles"].as_array().unwrap();
    assert_ne!(profiles[0]["id"], profiles[1]["id"]);
    let text = String::from_utf8(manifest(&home)).unwrap();
    assert_eq!(text.matches(&format!("uri: store:{}", nimctl::digest::Sha256::of(b"plan"))).count(), 2);
}

#[test]
fn the_store_is_an_oci_layout_whose_blobs_match_their_names() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    build(&home, &[]);
    let store = home.path("data/store");
    let json = |path: std::path::PathBuf| {
        serde_json::from_slice::<serde_json::Value>(&fs_err::read(path).unwrap()).unwrap()
    };
    assert_eq!(json(store.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let blob = |digest: &serde_json::Value| {
        store.join("blobs/sha256").join(digest.as_str().unwrap().strip_prefix("sha256:").unwrap())
    };
    let index = json(store.join("index.json"));
    let entries = index["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        let manifest = json(blob(&entry["digest"]));
        for descriptor in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"], entry]) {
            let (digest, size) = nimctl::digest::Sha256::of_file(&blob(&descriptor["digest"])).unwrap();
            assert_eq!(
                (descriptor["digest"].as_str(), descriptor["size"].as_u64()),
                (Some(digest.to_string().as_str()), Some(size))
            );
        }
    }
}

#[test]
fn a_store_that_cannot_be_written() {
    let home = home_with_graph(GENERIC);
    home.write("file", "");
    home.run(&["build", "r.yaml", "--store", "file/store"]).exits(1);
    assert!(!home.path("manifests").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_manifest_that_cannot_be_written() {
    let home = home_with_graph(GENERIC);
    home.write("file", "");
    home.run(&["build", "r.yaml", "--manifest", "file/m.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

/// The golden passport, less what is measured and the digest of the scripted worker: a change here is a change of
/// `nimctl.passport/1`.
#[test]
fn the_passport_of_a_plan() {
    let home = home_with_graph("  - { backend: fake, precisions: [fp16], targets: { gpus: [l4] } }\n");
    let report = build(&home, &[]);
    let path = report["profiles"][0]["passport"].as_str().unwrap();
    let bytes = fs_err::read(home.path(path.strip_prefix("~/").unwrap())).unwrap();
    let passport: nimctl::passport::Passport = serde_json::from_slice(&bytes).unwrap();
    let text = serde_json::to_string_pretty(&passport.without_measurements()).unwrap();
    let worker =
        nimctl::digest::Sha256::of_file(&crate::home::scripted_backends().join("nimctl-backend-fake"))
            .unwrap()
            .0;
    let text = text.replace(&worker.to_string(), "<worker>");
    insta::with_settings!({ filters => vec![
        // What follows from the worker's digest.
        (r#""(id|content|key)": "(sha256:)?[0-9a-f]{64}""#, r#""$1": "<digest>""#),
    ] }, { insta::assert_snapshot!(text) });
}

/// `--only` in a store that has nothing else must not shrink a manifest that others rely on.
#[test]
fn only_does_not_forget_the_profiles_of_the_manifest() {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    build(&home, &[]);
    let bytes = manifest(&home);
    fs_err::remove_dir_all(home.path("data/store")).unwrap();
    home.run(&["build", "r.yaml", "--only", "*-sm89-*"]).exits(0);
    assert_eq!(manifest(&home), bytes);
    // A whole build may drop some, and says which.
    home.write("r.yaml", recipe(X_RANGE, GENERIC));
    home.run(&["build", "r.yaml"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

/// Two graphs with the same bytes share jobs, and are both in the profile; files are listed by path.
#[test]
fn two_graphs_from_one_source() {
    let home = home_with_graph(FAKE);
    let graph = format!("    source: {{ path: graph.onnx }}\n    shapes: {{ {X_RANGE} }}\n");
    let head = "schema: nimctl.recipe/1\nmodel: { name: m, release: 1.0.0 }\ngraphs:\n";
    home.write("r.yaml", format!("{head}  text:\n{graph}  text-2:\n{graph}profiles:\n{FAKE}"));
    build(&home, &[]);
    let text = String::from_utf8(manifest(&home)).unwrap();
    assert_eq!((text.matches("text/model.plan").count(), text.matches("text-2/model.plan").count()), (2, 2));
    let contents = home.run(&["hash-profile", "r.yaml", "--explain"]).stdout;
    assert!(contents.find("\"text-2/model.plan\"") < contents.find("\"text/model.plan\""), "{contents}");
}

#[test]
fn looking_writes_nothing() {
    let home = home_with_graph(FAKE);
    home.run(&["build", "r.yaml", "--dry-run"]).exits(0);
    home.run(&["hash-profile", "r.yaml"]).exits(1);
    assert!(!home.path("data/store").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_name_to_keep_that_no_node_has_is_an_error() {
    let home = home_with_graph(&FAKE.replace("targets", "lowering: { keep_ops: [Reluu] }, targets"));
    home.run(&["build", "r.yaml"]).exits(1);
    assert!(!home.path("manifests").exists(), "a manifest was written");
    insta::assert_snapshot!(home.transcript());
}

/// Simple readers of YAML know no folded strings; `tests/recompute_ids.py` is one.
#[test]
fn the_longest_names_build_and_stand_on_one_line() {
    let home = home_with_graph(GENERIC);
    let (model, graph) = ("m".repeat(128), "g".repeat(128));
    let long = recipe(X_RANGE, GENERIC).replace("name: m,", &format!("name: {model},"));
    home.write("r.yaml", long.replace("  main:", &format!("  {graph}:")));
    build(&home, &[]);
    let manifest = home.read("manifests/r/model_manifest.yaml");
    assert!(manifest.contains(&format!("\nmodel: {model}\n")), "{manifest}");
    assert!(manifest.contains(&format!(" {graph}/model.onnx:\n")), "{manifest}");
}

#[test]
fn a_recipe_in_a_folder_that_is_not_utf8_is_built() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = home_with_graph(GENERIC);
    let folder = home.folder().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs_err::create_dir(&folder).unwrap();
    fs_err::copy(home.path("graph.onnx"), folder.join("graph.onnx")).unwrap();
    fs_err::copy(home.path("r.yaml"), folder.join("r.yaml")).unwrap();
    let mut command = home.command(&["build", "--manifest", "m.yaml"]);
    home.printed(&command.arg(folder.join("r.yaml")).output().unwrap()).exits(0);
}

#[test]
fn a_job_that_runs_again_replaces_a_damaged_blob() {
    let home = home_with_graph(GENERIC);
    build(&home, &[]);
    let graph = fs_err::read(home.path("graph.onnx")).unwrap();
    let blob = home.path("data/store/blobs/sha256").join(nimctl::digest::Sha256::of(&graph).to_hex());
    let mut damaged = graph.clone();
    damaged[10] ^= 1;
    fs_err::write(&blob, damaged).unwrap();
    fs_err::remove_dir_all(home.path("data/store/nimctl/builds")).unwrap();
    build(&home, &[]);
    assert_eq!(fs_err::read(&blob).unwrap(), graph);
}

#[test]
fn an_index_that_is_damaged_or_gone_lists_all_profiles_again() {
    let home = home_with_graph(FAKE);
    let other = recipe(X_RANGE, GENERIC).replace("name: m,", "name: other,");
    home.write("other.yaml", other);
    build(&home, &[]);
    home.set_up(&["build", "other.yaml"]).exits(0);
    let index = home.path("data/store/index.json");
    let whole = fs_err::read(&index).unwrap();
    for damaged in [Some("{"), Some("[]"), Some("{\"schemaVersion\": 2, \"manifests\": {}}"), None] {
        match damaged {
            Some(damaged) => fs_err::write(&index, damaged).unwrap(),
            None => fs_err::remove_file(&index).unwrap(),
        }
        build(&home, &[]);
        assert_eq!(fs_err::read(&index).unwrap(), whole, "{damaged:?}");
    }
}

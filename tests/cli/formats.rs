//! Every stored format in two versions: the golden file of today's, which has to be read for ever, and one of a later
//! version, which is refused and stays as it is.
//!
//! Formats that only one module reads have their golden files tested beside it: build records and keys (`src/worklist`),
//! passports, origins, mixed precision and precision checks (`src/store`), the digest cache (`src/files`), installed tools and lists of exported ones (`src/toolchain`),
//! requests and results of a fleet (`src/exchange`), what an executor is (`src/ops/fleet`).
//! Here is what a user sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nimctl::benchmark::BenchDocument;
use nimctl::device::Host;
use nimctl::fleet::Fleet;
use nimctl::manifest::Manifest;
use nimctl::passport::Passport;
use nimctl::profile::Contents;
use nimctl::recipe::Recipe;
use nimctl::release::Policy;
use nimctl::toolchain::Lock;
use nimctl::trust::Trust;

use crate::home::Home;
use crate::recipes::{FAKE, home_with_graph};

const NEWER: &str = "written by a newer nimctl";

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(name)
}

fn golden(name: &str) -> String {
    fs_err::read_to_string(golden_path(name)).unwrap()
}

#[test]
fn golden_files_are_read() {
    let recipe = Recipe::parse(&golden("recipe.yaml"), "r").unwrap();
    assert_eq!(recipe.profiles.len(), 2);
    let manifest = Manifest::parse(&golden("manifest.yaml"), "m").unwrap();
    assert_eq!(manifest.profiles.len(), 2);
    for profile in &manifest.profiles {
        assert_eq!(profile.computed_id().unwrap().to_string(), profile.id);
    }
    for name in ["contents-1.json", "contents.json"] {
        let text = golden(name);
        let contents = Contents::parse(text.as_bytes(), name).unwrap();
        assert_eq!(contents.to_canonical_json().unwrap(), text);
    }
    for name in ["passport.json", "passport-static.json", "passport-released.json"] {
        let passport = Passport::parse(golden(name).as_bytes(), name).unwrap();
        assert!(manifest.profiles.iter().any(|profile| profile.id == passport.id.to_string()));
    }
    assert_eq!(BenchDocument::parse(golden("bench.json").as_bytes(), "b").unwrap().profiles.len(), 2);
    assert_eq!(Policy::parse(&golden("release-policy.yaml"), "p").unwrap().required, ["onnx-*"]);
    let key = |name: &str| fs_err::read_to_string(crate::signing::fixtures().join(name));
    assert_eq!(Trust::parse(&golden("trust.yaml"), "t", &key).unwrap().rules()[0].line(), 3);
    let fleet = Fleet::parse(&golden("fleet.yaml"), "f").unwrap();
    assert_eq!(fleet.executors.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["hopper", "rest", "pods"]);
    assert_eq!(Host::read(&golden("devices.json"), "d").unwrap().devices.len(), 1);
    assert_eq!(Lock::parse(&golden("toolchain-lock.yaml"), "l").unwrap().tools.len(), 3);
}

/// Writes a file of a later version with something in it that this nimctl can't know.
fn write_newer(home: &Home, name: &str, schema: &str) {
    let newer = format!("{{\"schema\": \"{schema}/2\", \"what\": [{{\"else\": 1}}]}}\n");
    home.write(name, newer);
}

/// Returns every file of the home with its bytes; the lock and the cache of digests aside.
fn files(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    walkdir::WalkDir::new(home.folder())
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file() && !path.ends_with("lock") && !path.ends_with("digest-cache.json"))
        .map(|path| (path.clone(), fs_err::read(&path).unwrap()))
        .collect()
}

/// Runs commands, each of which refuses the same file; nothing in the home may change.
#[track_caller]
fn refused(home: &Home, file: &str, schema: &str, commands: &[&[&str]]) {
    let before = files(home);
    for command in commands {
        let said = home.run(command);
        said.exits(1).has(&[NEWER, schema, "upgrade nimctl"]);
        assert!(said.stderr.contains(file), "{file} is not named in\n{said}");
        assert_eq!(files(home), before, "{command:?}");
    }
}

#[test]
fn a_newer_recipe_is_refused() {
    let home = Home::new();
    home.write("r.yaml", "model: { name: m }\nschema: nimctl.recipe/2\nnetworks:\n  main: { from: x }\n");
    let commands: &[&[&str]] = &[
        &["recipe", "check", "r.yaml"],
        &["build", "r.yaml"],
        &["validate", "r.yaml"],
        &["bench", "r.yaml"],
        &["release", "r.yaml", "-o", "out"],
        &["hash-profile", "r.yaml"],
    ];
    refused(&home, "r.yaml:2:9", "nimctl.recipe/2", commands);
    home.run(&["recipe", "check", "r.yaml"]).exits(1);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_newer_manifest_is_refused_and_not_overwritten() {
    let home = home_with_graph(FAKE);
    let manifest = "manifests/r/model_manifest.yaml";
    home.write(manifest, "schema_version: '3.0'\nprofiles: {a: {b: c}}\n");
    home.write("old.yaml", golden("manifest.yaml"));
    let commands: &[&[&str]] = &[
        &["list-model-profiles", "-m", manifest, "--device", "l4"],
        &["select", "-m", manifest, "--device", "l4"],
        &["manifest", "lint", manifest],
        &["manifest", "convert", "old.yaml", "-o", manifest],
        &["hash-profile", manifest],
        &["build", "r.yaml"],
    ];
    refused(&home, manifest, "schema 3.0", commands);
    assert!(!home.path("data/store").exists(), "nothing was built for nothing");
}

/// Builds, and returns the one file below a folder of the store whose text has this piece.
fn built(folder: &str, piece: &str) -> (Home, String) {
    let home = home_with_graph(FAKE);
    home.set_up(&["build", "r.yaml"]).exits(0);
    let folder = home.path("data/store/nimctl").join(folder);
    let found =
        walkdir::WalkDir::new(&folder).sort_by_file_name().into_iter().map(Result::unwrap).find(|entry| {
            entry.file_type().is_file() && fs_err::read_to_string(entry.path()).unwrap().contains(piece)
        });
    let path = found.unwrap().into_path();
    let name = path.strip_prefix(home.folder()).unwrap().to_str().unwrap().to_owned();
    (home, name)
}

#[test]
fn a_newer_passport_is_refused_and_not_overwritten() {
    let (home, passport) = built("passports", "\"fake-sm89-fp16\"");
    write_newer(&home, &passport, "nimctl.passport");
    let manifest = "manifests/r/model_manifest.yaml";
    let commands: &[&[&str]] = &[
        &["build", "r.yaml"],
        &["report", "r.yaml"],
        &["select", "-m", manifest, "--device", "l4"],
        &["list-model-profiles", "-m", manifest, "--device", "l4"],
    ];
    refused(&home, &passport, "nimctl.passport/2", commands);
}

#[test]
fn a_newer_build_record_is_refused_and_not_overwritten() {
    let (home, record) = built("builds", "\"compile\"");
    write_newer(&home, &record, "nimctl.build");
    let commands: &[&[&str]] =
        &[&["build", "r.yaml"], &["build", "r.yaml", "--dry-run"], &["report", "r.yaml"]];
    refused(&home, &record, "nimctl.build/2", commands);
}

#[test]
fn a_newer_document_of_what_was_built_last_is_refused_and_not_overwritten() {
    let (home, last) = built("last", "\"compile\"");
    let (_, record) = built("builds", "\"compile\"");
    write_newer(&home, &last, "nimctl.build-key");
    // Only a job that must run asks what was built last.
    let key = Path::new(&record).file_name().unwrap();
    for entry in fs_err::read_dir(home.path("data/store/nimctl/builds")).unwrap() {
        fs_err::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(key.to_str().unwrap().ends_with(".json"));
    refused(&home, &last, "nimctl.build-key/2", &[&["build", "r.yaml"], &["build", "r.yaml", "--dry-run"]]);
}

#[test]
fn newer_contents_are_refused() {
    let home = Home::new();
    home.write("profile/contents.json", "{\"schema\": \"nimctl.contents/3\", \"what\": []}\n");
    refused(&home, "profile/contents.json", "nimctl.contents/3", &[&["hash-profile", "profile"]]);
}

#[test]
fn a_newer_origin_is_refused() {
    let home = Home::new();
    let id = "a".repeat(64);
    let origin = format!("data/store/nimctl/origins/{id}.json");
    write_newer(&home, &origin, "nimctl.origin");
    refused(&home, &origin, "nimctl.origin/2", &[&["validate", &id]]);
}

#[test]
fn newer_files_of_toolchains_are_refused() {
    let home = Home::new();
    write_newer(&home, "lock.yaml", "nimctl.toolchain-lock");
    let commands: &[&[&str]] = &[
        &["toolchain", "path", "onnxruntime", "--toolchain-lock", "lock.yaml"],
        &["toolchain", "install", "onnxruntime", "--toolchain-lock", "lock.yaml"],
    ];
    refused(&home, "lock.yaml", "nimctl.toolchain-lock/2", commands);

    let lock = Lock::embedded();
    let tool = lock.tools.values().find(|tool| tool.package == "onnxruntime").unwrap();
    let sha256 = tool.hosts["x86_64-linux"].wheel.sha256.to_hex();
    let installed = format!("data/toolchains/onnxruntime/{}-{}/installed.json", tool.version, &sha256[..12]);
    write_newer(&home, &installed, "nimctl.installed-tool");
    refused(&home, &installed, "nimctl.installed-tool/2", &[&["toolchain", "path", "onnxruntime"]]);
    let said = home.run(&["toolchain", "install", "onnxruntime"]);
    said.exits(1).has(&[NEWER]);
    assert!(home.read(&installed).contains("nimctl.installed-tool/2"));
}

#[test]
fn newer_files_that_a_user_names_are_refused() {
    let home = home_with_graph(FAKE);
    write_newer(&home, "devices.json", "nimctl.devices");
    refused(&home, "devices.json", "nimctl.devices/2", &[&["doctor", "--device-file", "devices.json"]]);
    write_newer(&home, "policy.yaml", "nimctl.release-policy");
    let release: &[&str] = &["release", "r.yaml", "-o", "out", "--policy", "policy.yaml"];
    refused(&home, "policy.yaml", "nimctl.release-policy/2", &[release]);
    write_newer(&home, "trust.yaml", "nimctl.trust");
    refused(&home, "trust.yaml", "nimctl.trust/2", &[&["trust", "check", "trust.yaml"]]);
    home.run(&["verify", ".", "--trust", "trust.yaml"]).exits(3).has(&["nimctl.trust/2"]);
    write_newer(&home, "bench.json", "nimctl.bench");
    refused(&home, "bench.json", "nimctl.bench/2", &[&["bench", "r.yaml", "--baseline", "bench.json"]]);
}

/// A cache costs time, nothing else.
#[test]
fn a_newer_digest_cache_is_not_used_and_not_overwritten() {
    let home = home_with_graph(FAKE);
    write_newer(&home, "data/digest-cache.json", "nimctl.digest-cache");
    home.run(&["build", "r.yaml"]).exits(0);
    assert!(home.read("data/digest-cache.json").contains("nimctl.digest-cache/2"));
}

/// What can be made again counts as absent when it is damaged.
#[test]
fn damaged_files_of_the_store_are_made_again() {
    for (folder, piece) in [("passports", "fake-sm89-fp16"), ("builds", "\"compile\"")] {
        for damage in ["", "{ not json", "{\"schema\": \"nimctl.other/1\"}"] {
            let (home, file) = built(folder, piece);
            let whole = home.read(&file);
            home.write(&file, damage);
            home.run(&["build", "r.yaml"]).exits(0);
            let again = home.read(&file);
            let schema = |text: &str| text.lines().find(|line| line.contains("schema")).map(str::to_owned);
            assert_eq!(schema(&again), schema(&whole), "{file}");
        }
    }
}

/// A stranger's contents and passports, through the commands that read them.
#[test]
fn hostile_contents_are_refused() {
    let home = Home::new();
    let golden = golden("contents.json");
    let replaced = |old: &str, new: &str| {
        assert!(golden.contains(old), "{old}");
        golden.replace(old, new)
    };
    let least = i64::MIN.to_string();
    for (text, problem) in [
        (replaced("[1,77]", &format!("[{least},77]")), "has no canonical form"),
        (replaced("\"size_bytes\":4", &format!("\"size_bytes\":{}", u64::MAX)), "has no canonical form"),
        (replaced("\"size_bytes\":4", "\"size_bytes\":4.0"), "invalid type"),
        (replaced("\"text/model.plan\"", "\"../../etc/passwd\""), "not a path inside the profile"),
        (replaced("\"text/model.plan\"", "\"/etc/passwd\""), "not a path inside the profile"),
        (format!(" {golden}"), "not in canonical form"),
        (replaced("\"backend\":\"fake\"", "\"backend\":\"fake\",\"backend\":\"fake\""), "duplicate field"),
        ("[".repeat(100_000), "contents.json"),
        (String::new(), "EOF"),
        ("null".into(), "contents.json"),
    ] {
        home.write("profile/contents.json", &text);
        let said = home.run(&["hash-profile", "profile"]);
        said.exits(1).has(&[problem]);
    }
}

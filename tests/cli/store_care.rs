//! `nimctl store`: what is in a store, what goes and what stays, what is found wrong and repaired.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nimctl::profile::ProfileId;
use nimctl::store::{Store, StoreError};
use serde_json::Value;

use crate::home::Home;
use crate::recipes::{FAKE, GENERIC, home_with_graph, recipe};

const STORE: &str = "data/store";
/// Profiles of the recipe.
const PROFILES: usize = 3;

/// A home whose recipe was built twice: with a larger batch the second time, so that each profile is there in two builds.
fn built_twice() -> Home {
    let home = home_with_graph(&format!("{FAKE}{GENERIC}"));
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.write(
        "r.yaml",
        recipe("x: { min: [1, 4], opt: [2, 4], max: [16, 4] }", &format!("{FAKE}{GENERIC}")),
    );
    home.set_up(&["build", "r.yaml"]).exits(0);
    home
}

fn json(home: &Home, arguments: &[&str]) -> Value {
    home.set_up(&[arguments, &["--output", "json"]].concat()).json()
}

fn profiles(home: &Home) -> Vec<Value> {
    json(home, &["store", "ls"])["profiles"].as_array().unwrap().clone()
}

/// Returns the ids of the profiles that are or aren't their recipe's last build.
fn ids(home: &Home, last_build: bool) -> Vec<String> {
    let profiles = profiles(home).into_iter().filter(|profile| profile["last_build"] == last_build);
    profiles.map(|profile| profile["profile_id"].as_str().unwrap().to_owned()).collect()
}

/// Runs `store fsck`, which must find as many problems.
#[track_caller]
fn fsck(home: &Home, options: &[&str], wrong: u64) -> Value {
    let printed = home.set_up(&[&["store", "fsck", "--output", "json"], options].concat());
    printed.exits(if wrong == 0 { 0 } else { 3 });
    let view = printed.json();
    assert_eq!(view["wrong"], wrong, "{view:#}");
    view
}

fn store_files(home: &Home) -> Vec<(PathBuf, Vec<u8>)> {
    let files = walkdir::WalkDir::new(home.path(STORE)).sort_by_file_name().into_iter();
    let files = files.map(|entry| entry.unwrap().into_path());
    files
        .filter(|path| path.is_file() && path.extension().is_none_or(|extension| extension != "lock"))
        .map(|path| (path.clone(), fs_err::read(path).unwrap()))
        .collect()
}

fn ages_ago(path: &Path, days: u64) {
    let time = SystemTime::now() - Duration::from_secs(days * 86_400);
    let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
    file.into_parts().0.set_modified(time).unwrap();
}

#[test]
fn what_is_there_is_listed_and_counted() {
    let home = built_twice();
    let listed = profiles(&home);
    assert_eq!(listed.len(), 2 * PROFILES);
    for profile in &listed {
        assert!(profile["recipe"].as_str().unwrap().ends_with("/r.yaml"), "{profile:#}");
        assert_eq!((&profile["complete"], &profile["pinned"]), (&true.into(), &false.into()));
        assert!(profile["since"].as_str().unwrap().ends_with('Z'));
    }
    // Both builds of the generic profile have the same graph.
    let shared = listed.iter().filter(|profile| profile["unique_bytes"] == 0).count();
    assert!(shared >= 2, "{listed:#?}");
    let usage = json(&home, &["store", "du"]);
    let sum: u64 =
        usage["kinds"].as_array().unwrap().iter().map(|kind| kind["size_bytes"].as_u64().unwrap()).sum();
    assert_eq!(usage["total_bytes"], sum);
    let bytes: u64 = store_files(&home).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(usage["total_bytes"], bytes);
    assert!(usage.to_string().contains("shared_files") && usage.to_string().contains("intermediate"));
    home.set_up(&["store", "ls"]).exits(0).has(&["fake-sm89-fp16", "last build"]);
    home.set_up(&["store", "du"]).exits(0).has(&["files of several profiles", "total"]);
    fsck(&home, &[], 0);
}

#[test]
fn without_a_limit_every_profile_stays() {
    let home = built_twice();
    let before = store_files(&home);
    home.run(&["store", "gc"]).exits(0).has(&["nothing removed"]);
    assert_eq!(store_files(&home), before);
    // What nothing refers to goes.
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    home.write(&format!("{STORE}/blobs/sha256/{digest}"), b"");
    home.write(
        &format!("{STORE}/nimctl/origins/{digest}.json"),
        r#"{"schema":"nimctl.origin/1","recipe":"/r"}"#,
    );
    let planned = json(&home, &["store", "gc", "--dry-run"]);
    assert_eq!(planned["removed"].as_array().unwrap().len(), 2, "{planned:#}");
    assert!(home.path(&format!("{STORE}/blobs/sha256/{digest}")).exists());
    home.run(&["store", "gc"]).exits(0).has(&["1 file, 0 B"]);
    assert_eq!(store_files(&home), before);
}

#[test]
fn older_builds_go_and_the_last_one_stays() {
    let home = built_twice();
    let (old, last) = (ids(&home, false), ids(&home, true));
    assert_eq!((old.len(), last.len()), (PROFILES, PROFILES));
    let before = store_files(&home);
    let planned = json(&home, &["store", "gc", "--keep-last", "1", "--dry-run"]);
    assert_eq!(store_files(&home), before);
    assert!(old.iter().all(|id| planned.to_string().contains(id)), "{planned:#}");
    let done = json(&home, &["store", "gc", "--keep-last", "1"]);
    assert_eq!(done["removed"], planned["removed"]);
    assert_eq!(done["freed_bytes"], planned["freed_bytes"]);
    let bytes: u64 = store_files(&home).iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(done["after_bytes"], bytes, "what was promised is free");
    assert_eq!((ids(&home, false), ids(&home, true)), (Vec::new(), last.clone()));
    assert!(!home.path(&format!("{STORE}/nimctl/in-use/{}.lock", old[0])).exists());
    fsck(&home, &[], 0);
    home.run(&["build", "r.yaml"]).exits(0).has(&["nothing to do"]);
    // The last build stays, whatever the limit.
    let printed = home.set_up(&["store", "gc", "--max-size", "1kB"]);
    printed.exits(3).has(&["it is its recipe's last build", "more than 1.0 kB"]);
    assert_eq!(ids(&home, true), last);
}

#[test]
fn pins_keep_profiles() {
    let home = built_twice();
    let old = ids(&home, false);
    // Two builds have its name.
    home.set_up(&["store", "pin", "onnx-fp32"]).exits(1).has(&["matches 2 profiles"]);
    home.set_up(&["store", "pin", "onnx-fp8"]).exits(1).has(&["no profile is called"]);
    home.set_up(&["store", "pin", &old[0][..12], "--note", "in production"]).exits(0).has(&["is pinned"]);
    home.set_up(&["store", "ls"]).has(&["pinned (in production)"]);
    home.run(&["store", "gc", "--keep-last", "1"]).exits(0).has(&["stays: it is pinned"]);
    assert_eq!(ids(&home, false), [old[0].clone()]);
    home.set_up(&["store", "unpin", &old[0]]).exits(0).has(&["is no longer pinned"]);
    home.set_up(&["store", "unpin", &old[0]]).exits(0).has(&["was not pinned"]);
    home.run(&["store", "gc", "--keep-last", "1"]).exits(0);
    assert_eq!(ids(&home, false), Vec::<String>::new());
    fsck(&home, &[], 0);
}

#[test]
fn what_a_process_uses_stays() {
    let home = built_twice();
    let old = ids(&home, false);
    let used = ProfileId::from_hex(&old[0]).unwrap();
    let store = Store::open(&home.path(STORE)).unwrap();
    let ((), in_use) = store.hold(|| Ok::<_, StoreError>(((), vec![used]))).unwrap();
    home.run(&["store", "gc", "--keep-last", "1"]).exits(0).has(&["stays: a running process uses it"]);
    assert_eq!(ids(&home, false), [old[0].clone()]);
    drop(in_use);
    // A build comes first.
    let building = store.lock(|| (), &|| false).unwrap();
    let mut waiting = home.command(&["store", "gc", "--keep-last", "1"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait for the build");
    drop(building);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(ids(&home, false), Vec::<String>::new());
}

#[test]
fn what_a_pull_left_stays_for_a_week() {
    let home = home_with_graph(GENERIC);
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:layout"]).exits(0);
    home.set_up(&["pull", "oci:layout", "--all", "--store", "s"]).exits(0);
    let view = json(&home, &["store", "ls", "--store", "s"]);
    let profile = &view["profiles"][0];
    let place = profile["place"].as_str().unwrap();
    assert!(place.ends_with("/layout"), "{place}");
    // As if the pull had been killed after its last file: a record that is not complete, and no passport.
    let id = profile["profile_id"].as_str().unwrap();
    let record = format!("s/nimctl/pulls/{id}.json");
    home.write(&record, home.read(&record).replace("\"is_complete\": true", "\"is_complete\": false"));
    fs_err::remove_file(home.path(&format!("s/nimctl/passports/{id}.json"))).unwrap();
    fs_err::write(home.path("s/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let partial = "s/nimctl/partial/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    home.write(partial, b"half");
    home.write(&format!("{partial}.lock"), b"");
    let gc = |home: &Home| home.set_up(&["store", "gc", "--store", "s"]).exits(0).to_string();
    gc(&home);
    assert!(home.path(&record).exists() && home.path(partial).exists());
    let checked = home.set_up(&["store", "fsck", "--store", "s"]);
    checked.exits(0).has(&["ended early", "nimctl pull oci:"]);
    let again = json(&home, &["pull", "oci:layout", "--all", "--store", "s"]);
    assert_eq!(again["profiles"][0]["fetched_bytes"], 0, "what was here was collected: {again:#}");
    fs_err::remove_file(home.path(&format!("s/nimctl/passports/{id}.json"))).unwrap();
    fs_err::write(home.path("s/index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    home.write(&record, home.read(&record).replace("\"is_complete\": true", "\"is_complete\": false"));
    ages_ago(&home.path(&record), 8);
    ages_ago(&home.path(partial), 8);
    gc(&home);
    assert!(!home.path(&record).exists() && !home.path(partial).exists());
    assert_eq!(fs_err::read_dir(home.path("s/nimctl/partial")).unwrap().count(), 0);
    assert_eq!(fs_err::read_dir(home.path("s/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn damage_is_found_and_repaired() {
    let home = built_twice();
    home.set_up(&["publish", "r.yaml", "--to", "oci:layout"]).exits(0);
    let in_store = |name: &str| home.path(STORE).join(name);
    let first_in = |folder: &str| {
        let mut files: Vec<PathBuf> = walkdir::WalkDir::new(in_store(folder))
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        files.remove(0)
    };
    let last = ids(&home, true);
    home.set_up(&["store", "pin", &last[0], "--note", "x"]).exits(0);
    let whole = store_files(&home);
    let damage: [(&str, PathBuf, u64); 7] = [
        ("last", first_in("nimctl/last"), 1),
        ("record", first_in("nimctl/builds"), 1),
        ("origin", first_in("nimctl/origins"), 1),
        ("pin", first_in("nimctl/pins"), 1),
        ("index", in_store("index.json"), 1),
        ("layout", in_store("oci-layout"), 1),
        // Its profile is still listed.
        ("passport", first_in("nimctl/passports"), 2),
    ];
    for (what, path, wrong) in damage {
        fs_err::write(&path, "{ not json").unwrap();
        let damaged = store_files(&home);
        let checked = fsck(&home, &["--check-only"], wrong);
        assert_eq!(store_files(&home), damaged, "{what}: looking changes nothing");
        let shown = path.strip_prefix(home.path(STORE)).unwrap().display().to_string();
        assert!(checked.to_string().contains(&shown), "{what}: {checked:#}");
        if what != "origin" && what != "layout" {
            home.set_up(&["store", "gc", "--dry-run"]).exits(3).has(&["nimctl store fsck"]);
        }
        let repaired = fsck(&home, &[], wrong);
        assert_eq!(checked["findings"], repaired["findings"], "{what}");
        fsck(&home, &[], 0);
        home.set_up(&["store", "gc", "--dry-run"]).exits(0);
        home.set_up(&["build", "r.yaml"]).exits(0);
        for (path, bytes) in &whole {
            if !path.exists() {
                fs_err::create_dir_all(path.parent().unwrap()).unwrap();
                fs_err::write(path, bytes).unwrap();
            }
        }
        fs_err::write(
            in_store("index.json"),
            &whole.iter().find(|(path, _)| path.ends_with("index.json")).unwrap().1,
        )
        .unwrap();
    }
}

#[test]
fn a_damaged_file_is_removed_and_made_again() {
    let home = built_twice();
    let blobs = home.path(STORE).join("blobs/sha256");
    let all: Vec<PathBuf> = fs_err::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    let last = ids(&home, true);
    for path in all {
        let bytes = fs_err::read(&path).unwrap();
        let mut damaged = bytes.clone();
        damaged[0] ^= 1;
        fs_err::write(&path, &damaged).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let found = home.set_up(&["store", "fsck"]);
        found.exits(3).has(&[name]);
        assert!(fs_err::read(&path).map_or(true, |found| found == bytes), "{name} is still damaged");
        // Files of the last builds are made again; those of older recipes need the recipe of then.
        home.set_up(&["build", "r.yaml"]).exits(0);
        fs_err::write(&path, &bytes).unwrap();
        home.set_up(&["build", "r.yaml"]).exits(0);
        home.set_up(&["store", "fsck"]).exits(0);
    }
    let sorted = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<String>>();
    assert_eq!(sorted(ids(&home, true)), sorted(last));
}

#[test]
fn chunk_lists_are_made_again() {
    let home = Home::new();
    home.write(
        "r.yaml",
        "\
schema: nimctl.recipe/1
model: { name: m, release: 1.0.0 }
graphs:
  vision:
    source: { synth: { model: nvclip, size: tiny, tower: vision, seed: 20 } }
    shapes: { IMAGE: { min: [1, 3, 224, 224], opt: [8, 3, 224, 224], max: [64, 3, 224, 224] } }
profiles:
  - { backend: onnxruntime, precisions: [fp32], targets: generic }
",
    );
    home.set_up(&["build", "r.yaml"]).exits(0);
    let lists = home.path(STORE).join("nimctl/chunks");
    let list = fs_err::read_dir(&lists).unwrap().next().unwrap().unwrap().path();
    let text = fs_err::read_to_string(&list).unwrap();
    // Missing: what a kill may leave. Another file's: damage.
    fs_err::remove_file(&list).unwrap();
    fsck(&home, &[], 0);
    assert_eq!(fs_err::read_to_string(&list).unwrap(), text);
    let at = text.rfind("\",").map_or(text.len() - 8, |at| at - 3);
    let digit = if &text[at..=at] == "0" { "1" } else { "0" };
    fs_err::write(&list, format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap();
    let found = fsck(&home, &[], 1);
    assert!(found.to_string().contains("nimctl/chunks/"), "{found:#}");
    assert_eq!(fs_err::read_to_string(&list).unwrap(), text);
    let blob = home.path(STORE).join("blobs/sha256").join(list.file_stem().unwrap());
    fs_err::remove_file(&blob).unwrap();
    let lost = home.set_up(&["store", "fsck"]);
    lost.exits(3).has(&["is missing or damaged", "run `nimctl build "]);
    assert!(!list.exists());
    home.run(&["build", "r.yaml"]).exits(0).has(&["1 of 1 job ran"]);
    fsck(&home, &[], 0);
}

#[test]
fn there_must_be_a_store_and_a_command() {
    let home = Home::new();
    for command in ["ls", "du", "gc", "fsck"] {
        home.run(&["store", command]).exits(1);
    }
    home.run(&["store", "pin", "x"]).exits(1);
    home.run(&["store", "gc", "--max-size", "5 parsecs"]).exits(2);
    home.run(&["store", "gc", "--keep-last", "0"]).exits(2);
    assert_eq!(home.names(), Vec::<String>::new());
    insta::assert_snapshot!(home.transcript());
}

/// Another user's store: it can be looked at and selected from, and what would change it says so.
#[test]
fn a_store_of_another_user() {
    let home = built_twice();
    let old = ids(&home, false);
    home.set_up(&["store", "pin", &old[1]]).exits(0);
    let nobody: &[&str] = &["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let tried = std::process::Command::new("setpriv").args(nobody).arg("true").status();
        assert!(tried.unwrap().success(), "setpriv (package util-linux) can't run a program as another user");
        // What leads to the home, and the home itself.
        let command = home.command(&[]);
        for path in [home.folder(), Path::new(command.get_program()).parent().unwrap()] {
            fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
    } else {
        for entry in walkdir::WalkDir::new(home.path(STORE)) {
            let path = entry.unwrap().into_path();
            let mode = if path.is_dir() { 0o555 } else { 0o444 };
            fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        }
    }
    let run = |arguments: &[&str]| {
        let command = home.command(arguments);
        if !is_root {
            return home.printed(&home.command(arguments).output().unwrap());
        }
        let mut other = std::process::Command::new("setpriv");
        other.args(nobody).arg("--").arg(command.get_program()).args(command.get_args());
        other.current_dir(home.folder()).env_clear();
        other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        home.printed(&other.output().unwrap())
    };
    let before = store_files(&home);
    run(&["store", "ls"]).exits(0).has(&["last build"]);
    run(&["store", "du"]).exits(0);
    run(&["store", "fsck", "--check-only"]).exits(0).has(&["nothing is wrong"]);
    run(&["store", "gc", "--keep-last", "1", "--dry-run"]).exits(0).has(&[&old[0]]);
    run(&["select", "-m", "manifests/r/model_manifest.yaml", "--device", "none"]).exits(0);
    for command in
        [&["store", "gc"][..], &["store", "fsck"], &["store", "pin", &old[0]], &["store", "unpin", &old[1]]]
    {
        run(command).exits(1).has(&["cannot write the store at ~/data/store"]);
    }
    assert_eq!(store_files(&home), before);
    if !is_root {
        for entry in walkdir::WalkDir::new(home.path(STORE)) {
            let path = entry.unwrap().into_path();
            fs_err::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
}

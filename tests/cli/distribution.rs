//! `publish`, `bundle`, `pull` and `mirror`, with folders and archives as places.

use std::path::Path;

use nimctl::digest::Sha256;
use nimctl::oci::{
    Descriptor, INDEX_TYPE, ImageIndex, ImageManifest, Layout, MANIFEST_TYPE, PACK_INDEX_TYPE, Place as _,
    Which,
};
use nimctl::ops::pull::{PullError, PullOptions, RemoteRelease};
use nimctl::store::Store;
use serde_json::{Value, json};

use crate::home::Home;

pub(crate) const RECIPE: &str = "\
schema: nimctl.recipe/1
model: { name: m, release: 1.0.0 }
graphs:
  vision:
    source: { synth: { model: nvclip, size: tiny, tower: vision, seed: 20 } }
    shapes:
      IMAGE: { min: [1, 3, 224, 224], opt: [8, 3, 224, 224], max: [64, 3, 224, 224] }
profiles:
  - { backend: onnxruntime, precisions: [fp32, fp16], targets: generic }
";

/// A home with a recipe that is built, published to `layout`.
pub(crate) fn published() -> Home {
    let home = Home::new();
    home.write("r.yaml", RECIPE);
    home.set_up(&["build", "r.yaml"]).exits(0);
    home.set_up(&["publish", "r.yaml", "--to", "oci:layout"]).exits(0);
    home
}

fn json(home: &Home, arguments: &[&str]) -> Value {
    home.set_up(&[arguments, &["--output", "json"]].concat()).exits(0).json()
}

/// Pulls everything with the library.
pub(crate) fn pull_all(layout: &Path, store: &Path) -> Result<(), PullError> {
    let layout = Layout::open(layout)?;
    let release = RemoteRelease::open(&layout, &Which::Tag("1.0.0".into()))?;
    let store = Store::open(store)?;
    let options = PullOptions { parallel: 2, cancelled: &|| false, on_bytes: &|_, _| () };
    for profile in &release.manifest.profiles {
        release.pull(&profile.id, &store, &options)?;
    }
    Ok(())
}

/// Files of a folder by path, with their digests.
pub(crate) fn files(folder: &Path) -> Vec<(String, Sha256)> {
    let mut files = Vec::new();
    if !folder.exists() {
        return files;
    }
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            files.push((path, Sha256::of(&fs_err::read(entry.path()).unwrap())));
        }
    }
    files
}

#[test]
fn what_is_published_is_pulled_verified_and_the_same() {
    let home = published();
    let built = json(&home, &["build", "r.yaml"]);
    let pulled = json(&home, &["pull", "oci:layout", "--all", "--store", "second", "-o", "release"]);
    let ids = |view: &Value, list: &str| -> Vec<String> {
        let profiles = view[list].as_array().unwrap().iter();
        profiles.map(|profile| profile["profile_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&pulled, "profiles").len(), 2);
    for id in ids(&pulled, "profiles") {
        assert!(built.to_string().contains(&id), "{id}");
    }
    home.set_up(&["verify", "release"]).exits(0);
    home.set_up(&["select", "-m", "release/model_manifest.yaml", "--device", "none"]).exits(0);
    // The store has what a build would have left, and the next pull has nothing to do.
    let again = json(&home, &["pull", "oci:layout", "--all", "--store", "second"]);
    assert_eq!(again["profiles"][0]["fetched_bytes"], 0);
    assert_eq!(again["profiles"][1]["here_bytes"], again["profiles"][1]["files_bytes"]);
    // FP32 weights that FP16 has too don't exist; the host without a GPU takes one profile.
    let one = json(&home, &["pull", "oci:layout", "--device", "none", "--store", "third"]);
    assert_eq!(one["profiles"].as_array().unwrap().len(), 1);
}

#[test]
fn publishing_again_sends_nothing_and_names_no_place_twice() {
    let home = published();
    let before = files(&home.path("layout"));
    let again = json(&home, &["publish", "r.yaml", "--to", "oci:layout"]);
    assert!(again["sent_bytes"].as_u64().unwrap() < 20_000, "{again:#}");
    assert_eq!(files(&home.path("layout")), before);
    let from = home.set_up(&["publish", "r.yaml", "--to", "oci:layout:2", "--from", "0.9"]);
    from.exits(1).has(&["has no release 0.9 to start from"]);
    let second = json(&home, &["publish", "r.yaml", "--to", "oci:layout:2", "--from", "1.0.0"]);
    assert!(second["sent_bytes"].as_u64().unwrap() < 20_000, "{second:#}");
    home.set_up(&["pull", "oci:layout", "--all", "--store", "s"])
        .exits(1)
        .has(&["name one of its tags, 1.0.0, 2"]);
    home.set_up(&["pull", "oci:layout:2", "--all", "--store", "s"]).exits(0);
}

#[test]
fn a_bundle_is_one_file_and_pulled_like_a_registry() {
    let home = published();
    home.set_up(&["bundle", "r.yaml", "-o", "a.tar"]).exits(0);
    home.set_up(&["bundle", "r.yaml", "-o", "b.tar"]).exits(0);
    assert_eq!(fs_err::read(home.path("a.tar")).unwrap(), fs_err::read(home.path("b.tar")).unwrap());
    home.set_up(&["pull", "a.tar", "--profile", "onnx-fp16", "--store", "s", "-o", "release"]).exits(0);
    home.set_up(&["verify", "release"]).exits(0);
    // One more profile into the same folder, in which a pull was killed; another release is refused.
    home.write("release/.pull-dead/profile/file", "x");
    home.write("release/.pull-dead.lock", "");
    home.set_up(&["pull", "a.tar", "--profile", "onnx-fp32", "--store", "s", "-o", "release"]).exits(0);
    let view = json(&home, &["verify", "release"]);
    assert_eq!(view["profiles"].as_array().unwrap().len(), 2);
    home.write("other/file", "x");
    home.set_up(&["pull", "a.tar", "--all", "--store", "s", "-o", "other"])
        .exits(1)
        .has(&["name another one"]);
    home.set_up(&["mirror", "a.tar", "oci:copy", "--quiet"]).exits(1).has(&["name the tag"]);
    home.set_up(&["mirror", "oci-archive:a.tar:1.0.0", "oci:copy"]).exits(0);
    home.set_up(&["pull", "oci:copy", "--all", "--store", "t"]).exits(0);
    let names: Vec<String> = home.names().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn files_as_layers() {
    let home = published();
    let sent = json(&home, &["publish", "r.yaml", "--to", "oci:plain", "--layout", "files"]);
    assert_eq!(sent["files_bytes"], sent["distinct_bytes"]);
    let packed = json(&home, &["pull", "oci:layout", "--all", "--store", "store-packed"]);
    let plain = json(&home, &["pull", "oci:plain", "--all", "--store", "store-plain"]);
    assert_eq!(packed["profiles"][0]["profile_id"], plain["profiles"][0]["profile_id"]);
    let blobs = |store: &str| -> Vec<(String, Sha256)> { files(&home.path(store).join("blobs")) };
    assert_eq!(blobs("store-packed"), blobs("store-plain"));
}

#[test]
fn some_profiles_of_a_recipe_are_published() {
    let home = published();
    let view = json(&home, &["publish", "r.yaml", "--only", "precision=fp16", "--to", "oci:layout:some"]);
    assert_eq!(view["profiles"].as_object().unwrap().len(), 1);
    home.set_up(&["bundle", "r.yaml", "--only", "onnx-fp16", "-o", "some.tar"]).exits(0);
    for place in ["oci:layout:some", "some.tar"] {
        let pulled = json(&home, &["pull", place, "--all", "--store", "s"]);
        assert_eq!(pulled["profiles"].as_array().unwrap().len(), 1);
        assert_eq!(pulled["profiles"][0]["name"], "onnx-fp16");
    }
}

#[test]
fn wrong_places() {
    let home = published();
    home.run(&["pull", "./absent"]).exits(1);
    home.run(&["pull", "r.yaml", "--all"]).exits(1);
    home.run(&["pull", "oci:layout:9", "--all"]).exits(1);
    home.run(&["pull", "oci:layout", "--profile", "onnx-fp8"]).exits(1);
    home.run(&["publish", "r.yaml", "--to", "https://host/x"]).exits(1);
    home.run(&["publish", "r.yaml", "--to", "oci:data"]).exits(1);
    home.run(&["publish", "absent.yaml", "--to", "oci:new"]).exits(1);
    home.run(&["publish", "layout", "--to", "oci:new"]).exits(1);
    home.run(&["publish", "r.yaml", "--to", "host/Name:1"]).exits(1);
    home.run(&["publish", "r.yaml", "--only", "onnx-fp8", "--to", "oci:new"]).exits(1);
    home.run(&["publish", "data", "--only", "onnx-*", "--to", "oci:new"]).exits(1);
    home.run(&["release", "r.yaml", "-o", "out", "--publish-to", "https://host/x"]).exits(1);
    home.run(&["release", "r.yaml", "-o", "out", "--publish-to", "127.0.0.1:1/x:1", "--time-limit", "1"])
        .exits(5);
    home.run(&["bundle", "r.yaml", "-o", "r.yaml"]).exits(1);
    home.run(&["pull", "oci:layout", "--all", "-o", "r.yaml"]).exits(1);
    home.run(&["pull", "oci:layout", "--parallel", "0"]).exits(2);
    home.run(&["pull", "oci:layout", "--time-limit", "0"]).exits(2);
    home.run(&["pull", "oci:layout", "--mirror", "x"]).exits(2);
    // Nothing was made, and nothing fetched.
    assert!(!home.path("new").exists() && !home.path("out").exists());
    assert!(!home.path("data/store/nimctl/partial").exists());
    insta::assert_snapshot!(home.transcript());
}

/// Whatever byte of a release is another one, what is pulled is right, or nothing is.
#[test]
fn no_flipped_byte_reaches_the_store() {
    let home = published();
    let layout = home.path("layout");
    let all: Vec<_> = files(&layout);
    pull_all(&layout, &home.path("good")).unwrap();
    let good = files(&home.path("good/blobs"));
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..120 {
        let (name, _) = &all[random.usize(..all.len())];
        let path = layout.join(name);
        let bytes = fs_err::read(&path).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let mut changed = bytes.clone();
        changed[random.usize(..bytes.len())] ^= 1 << random.u8(..8);
        fs_err::write(&path, &changed).unwrap();
        let store = home.path(&format!("store-{round}"));
        if let Err(error) = pull_all(&layout, &store) {
            assert!(!error.to_string().is_empty());
        }
        for (path, digest) in files(&store).into_iter().filter(|(path, _)| path.starts_with("blobs/")) {
            assert_eq!(path, format!("blobs/sha256/{}", digest.to_hex()), "{name}");
            let is_good = good.iter().any(|(_, good)| *good == digest);
            // The profile's manifest in the store lists what was pulled: small, and of this run.
            assert!(
                is_good || fs_err::metadata(store.join(&path)).unwrap().len() < 4096,
                "{name} gave {path}"
            );
        }
        let _ = fs_err::remove_dir_all(&store);
        fs_err::write(&path, bytes).unwrap();
    }
}

/// Damage at the place is named, exits 3, and is healed by publishing again.
#[test]
fn damage_is_named_and_healed() {
    let home = published();
    let blobs = home.path("layout/blobs/sha256");
    let largest = fs_err::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let pack = largest.max_by_key(|path| fs_err::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs_err::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&pack, bytes).unwrap();
    home.set_up(&["pull", "oci:layout", "--all", "--store", "s"]).exits(3).has(&["has other bytes at"]);
    home.set_up(&["publish", "r.yaml", "--to", "oci:layout"]).exits(0);
    home.set_up(&["pull", "oci:layout", "--all", "--store", "s"]).exits(0);
}

/// What a kill left of a file is gone on from, and what is wrong there is fetched again.
#[test]
fn a_partial_file_is_gone_on_from() {
    let home = published();
    let view = json(&home, &["pull", "oci:layout", "--profile", "onnx-fp32", "--store", "whole"]);
    let whole = view["profiles"][0]["fetched_bytes"].as_u64().unwrap();
    let blobs = home.path("whole/blobs/sha256");
    let largest = fs_err::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let blob = largest.max_by_key(|path| fs_err::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs_err::read(&blob).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(7);
    let name = blob.file_name().unwrap().to_str().unwrap();
    home.write(&format!("killed/nimctl/partial/{name}"), &bytes);
    let view = json(&home, &["pull", "oci:layout", "--profile", "onnx-fp32", "--store", "killed"]);
    let fetched = view["profiles"][0]["fetched_bytes"].as_u64().unwrap();
    assert!(fetched < whole * 3 / 4, "{fetched} of {whole}");
    assert_eq!(files(&home.path("killed/blobs")), files(&home.path("whole/blobs")));
    assert_eq!(fs_err::read_dir(home.path("killed/nimctl/partial")).unwrap().count(), 0);
}

/// Rewrites the first profile's pack index with every digest above it, as someone who owns the place could.
fn forge(layout: &Layout, change: Change<'_>) {
    let (bytes, _) = layout.manifest(&Which::Tag("1.0.0".into())).unwrap().unwrap();
    let mut index = ImageIndex::parse(&bytes, "index").unwrap();
    let profile = index.manifests.iter_mut().find(|found| !found.annotations.is_empty()).unwrap();
    let (bytes, _) = layout.manifest(&Which::Digest(profile.digest)).unwrap().unwrap();
    let mut manifest = ImageManifest::parse(&bytes, "manifest").unwrap();
    let layer = manifest.layers.iter_mut().find(|layer| layer.media_type == PACK_INDEX_TYPE).unwrap();
    let mut packs: Value =
        serde_json::from_slice(&nimctl::oci::fetch_small(layout, layer, 1 << 30).unwrap()).unwrap();
    change(&mut packs);
    let packs = packs.to_string();
    *layer = Descriptor::of(PACK_INDEX_TYPE, packs.as_bytes());
    layout.put_blob(&layer.digest, packs.as_bytes()).unwrap();
    let manifest = manifest.to_json();
    (profile.digest, profile.size) = (Sha256::of(&manifest), manifest.len() as u64);
    layout.put_manifest(None, MANIFEST_TYPE, &manifest).unwrap();
    layout.put_manifest(Some("1.0.0"), INDEX_TYPE, &index.to_json()).unwrap();
}

/// What a forger changes in a pack index.
type Change<'a> = &'a dyn Fn(&mut Value);

#[test]
fn forged_indexes_are_refused() {
    let home = published();
    let digest = Sha256::of(b"other");
    let forgeries: [(&str, Change<'_>); 8] = [
        ("chunks overlap in pack", &|index| {
            let list = index["files"][0]["chunks"].as_array_mut().unwrap();
            let offset = list[1][1].as_u64().unwrap();
            list[1][1] = json!(offset - 1);
        }),
        ("lies outside of its pack", &|index| index["files"][0]["chunks"][0][1] = json!(1_u64 << 63)),
        ("is longer than 64 MiB", &|index| index["packs"][0]["size_bytes"] = json!(1_u64 << 63)),
        ("lists other files", &|index| index["files"][0]["path"] = json!("other")),
        ("is empty, `.` or `..`", &|index| index["files"][0]["path"] = json!("../../escaped")),
        ("lists other files", &|index| index["files"][0]["sha256"] = json!(digest)),
        ("none of its layers", &|index| index["packs"][0]["digest"] = json!(digest)),
        ("has other bytes at", &|index| {
            let list = index["files"][0]["chunks"].as_array_mut().unwrap();
            let digest = list[0][3].clone();
            list[1][3] = digest;
        }),
    ];
    for (number, (expected, change)) in forgeries.iter().enumerate() {
        let copy = home.path(&format!("copy-{number}"));
        for (path, _) in files(&home.path("layout")) {
            home.write(
                &format!("copy-{number}/{path}"),
                fs_err::read(home.path("layout").join(path)).unwrap(),
            );
        }
        forge(&Layout::open(&copy).unwrap(), change);
        let printed = home.set_up(&[
            "pull",
            &format!("oci:copy-{number}"),
            "--all",
            "--store",
            &format!("store-{number}"),
        ]);
        printed.exits(3).has(&[expected]);
        assert!(!home.path("escaped").exists() && !home.path("data/escaped").exists());
    }
}

/// skopeo 1.9 writes the index anew when it copies, without artifact types and annotations.
#[test]
fn a_release_whose_index_lost_what_it_says_is_pulled_all_the_same() {
    let home = published();
    let layout = Layout::open(&home.path("layout")).unwrap();
    let (bytes, _) = layout.manifest(&Which::Tag("1.0.0".into())).unwrap().unwrap();
    let mut index = ImageIndex::parse(&bytes, "index").unwrap();
    index.artifact_type = None;
    for descriptor in &mut index.manifests {
        descriptor.artifact_type = None;
        descriptor.annotations.clear();
    }
    layout.put_manifest(Some("copied"), INDEX_TYPE, &index.to_json()).unwrap();
    let plain = json(&home, &["pull", "oci:layout:1.0.0", "--all", "--store", "one"]);
    let copied = json(&home, &["pull", "oci:layout:copied", "--all", "--store", "two"]);
    assert_eq!(plain["profiles"], copied["profiles"]);
    // An index of images is none.
    let image = ImageManifest::new("other/type", Descriptor::of("c/d", b"{}"), Vec::new()).to_json();
    layout.put_blob(&Sha256::of(b"{}"), b"{}").unwrap();
    layout.put_manifest(None, MANIFEST_TYPE, &image).unwrap();
    let index = ImageIndex::new(None, vec![Descriptor::of(MANIFEST_TYPE, &image)]).to_json();
    layout.put_manifest(Some("image"), INDEX_TYPE, &index).unwrap();
    let refused = home.set_up(&["pull", "oci:layout:image", "--all", "--store", "three"]);
    refused.exits(1).has(&["not a release that `nimctl publish` made"]);
}

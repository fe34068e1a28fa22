//! Releases that somebody made to do harm, and every byte of one that is another.

use std::io::Write as _;
use std::path::Path;

use nimctl::digest::Sha256;
use nimctl::oci::{
    DOCUMENTS_ARTIFACT, Descriptor, FILE_TYPE, INDEX_TYPE, ImageIndex, ImageManifest, Layout, MANIFEST_TYPE,
    Place as _, TITLE, Which,
};

use crate::distribution::{files, published, pull_all};

/// A document's title is the name of a file where the release is laid out: others than those of a release are not written.
#[test]
fn a_document_with_a_title_that_leads_elsewhere_is_not_written() {
    let home = published();
    let layout = Layout::open(&home.path("layout")).unwrap();
    let (bytes, _) = layout.manifest(&Which::Tag("1.0.0".into())).unwrap().unwrap();
    let mut index = ImageIndex::parse(&bytes, "index").unwrap();
    let is_documents = |found: &&mut Descriptor| found.artifact_type.as_deref() == Some(DOCUMENTS_ARTIFACT);
    let documents = index.manifests.iter_mut().find(is_documents).unwrap();
    let (bytes, _) = layout.manifest(&Which::Digest(documents.digest)).unwrap().unwrap();
    let mut manifest = ImageManifest::parse(&bytes, "manifest").unwrap();
    let absolute = home.path("absolute").display().to_string();
    for title in ["../escaped", "profiles/../../escaped", &absolute, "SHA256SUMS", "stranger"] {
        let layer = Descriptor::of(FILE_TYPE, b"harm").with(TITLE, title);
        layout.put_blob(&layer.digest, b"harm").unwrap();
        manifest.layers.push(layer);
    }
    let manifest = manifest.to_json();
    (documents.digest, documents.size) = (Sha256::of(&manifest), manifest.len() as u64);
    layout.put_manifest(None, MANIFEST_TYPE, &manifest).unwrap();
    layout.put_manifest(Some("1.0.0"), INDEX_TYPE, &index.to_json()).unwrap();
    home.set_up(&["pull", "oci:layout", "--all", "--store", "s", "-o", "release"]).exits(0);
    home.set_up(&["verify", "release"]).exits(0);
    for name in ["escaped", "absolute", "release/stranger"] {
        assert!(!home.path(name).exists(), "{name}");
    }
    assert!(home.read("release/SHA256SUMS").contains("model_manifest.yaml"));
}

/// A blob of a layout that is a device, a pipe or a folder is not read: a pipe would wait for its writer.
#[test]
fn a_blob_that_is_no_file_is_not_read() {
    let home = published();
    let blobs = home.path("layout/blobs/sha256");
    let size = |path: &Path| fs_err::metadata(path).unwrap().len();
    let all = fs_err::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path());
    let pack = all.max_by_key(|path| size(path)).unwrap();
    let kept = fs_err::read(&pack).unwrap();
    let replace: [(&str, &dyn Fn()); 3] = [
        ("device", &|| fs_err::os::unix::fs::symlink("/dev/zero", &pack).unwrap()),
        ("folder", &|| fs_err::create_dir(&pack).unwrap()),
        ("pipe", &|| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &pack, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }),
    ];
    for (what, replace) in replace {
        if pack.is_dir() {
            fs_err::remove_dir(&pack).unwrap();
        } else {
            fs_err::remove_file(&pack).unwrap();
        }
        replace();
        let printed = home.set_up(&["pull", "oci:layout", "--all", "--store", what]);
        printed.exits(1).has(&["is not a regular file"]);
    }
    fs_err::remove_file(&pack).unwrap();
    fs_err::write(&pack, kept).unwrap();
    home.set_up(&["pull", "oci:layout", "--all", "--store", "good"]).exits(0);
}

#[test]
fn an_index_or_a_tar_that_is_a_pipe_or_endless_is_not_read() {
    let home = published();
    let index = home.path("layout/index.json");
    let pipe = |path: &Path| {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    pipe(&home.path("release.tar"));
    home.set_up(&["pull", "oci-archive:release.tar", "--all"]).exits(1).has(&["is not a regular file"]);
    fs_err::remove_file(&index).unwrap();
    pipe(&index);
    home.set_up(&["pull", "oci:layout", "--all"]).exits(1).has(&["index.json: it is not a regular file"]);
    fs_err::remove_file(&index).unwrap();
    fs_err::File::create(&index).unwrap().set_len(1 << 40).unwrap();
    home.set_up(&["pull", "oci:layout", "--all"])
        .exits(1)
        .has(&["index.json: it is longer than the 4194304 bytes"]);
}

/// Flips one bit in each of so many bytes of a release, one at a time: half of them in a layout, where nothing but what is right may
/// reach the store, and half in a release folder, where `verify` must find it.
fn flip(count: usize, seed: usize) {
    let home = published();
    let (layout, release) = (home.path("layout"), home.path("release"));
    home.set_up(&["pull", "oci:layout", "--all", "--store", "good", "-o", "release"]).exits(0);
    let good = files(&home.path("good/blobs"));
    let mut random = fastrand::Rng::with_seed(seed as u64);
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..count {
        let root = if round % 2 == 0 { &layout } else { &release };
        let mut all = files(root);
        all.retain(|(name, _)| fs_err::metadata(root.join(name)).unwrap().len() > 0);
        let (name, _) = &all[random.usize(..all.len())];
        let path = root.join(name);
        let bytes = fs_err::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[random.usize(..bytes.len())] ^= 1 << random.u8(..8);
        fs_err::write(&path, &changed).unwrap();
        if root == &release {
            let report = nimctl::ops::verify::verify(root).unwrap();
            // A changed list or manifest shows in what it lists, too.
            assert!(!report.findings.is_empty(), "{name} of the folder, round {round}");
            refused += 1;
        } else {
            let store = home.path("store");
            match pull_all(root, &store) {
                Ok(()) => {
                    // Right is whole: every file of every profile is there.
                    let got = files(&store.join("blobs"));
                    let is_file = |name: &str| {
                        fs_err::metadata(home.path("good/blobs").join(name)).unwrap().len() >= 4096
                    };
                    for (path, digest) in good.iter().filter(|(path, _)| is_file(path)) {
                        assert!(got.iter().any(|(_, found)| found == digest), "{name}: {path} is missing");
                    }
                    harmless += 1;
                }
                Err(_) => refused += 1,
            }
            for (path, digest) in files(&store).into_iter().filter(|(path, _)| path.starts_with("blobs/")) {
                assert_eq!(path, format!("blobs/sha256/{}", digest.to_hex()), "{name}, round {round}");
                let is_good = good.iter().any(|(_, good)| *good == digest);
                // The manifest of a profile in the store lists what was pulled: small, and of this run.
                let is_small = || fs_err::metadata(store.join(&path)).unwrap().len() < 4096;
                assert!(is_good || is_small(), "{name} gave {path}, round {round}");
            }
            let _ = fs_err::remove_dir_all(&store);
        }
        fs_err::write(&path, bytes).unwrap();
    }
    // What is changed without harm lies in `oci-layout` and in words of `index.json` that nothing is made of: no digest covers them.
    let _ =
        writeln!(std::io::stdout(), "{count} flips: {refused} refused, {harmless} pulled right all the same");
    assert!(refused > harmless);
}

/// `NIMCTL_FLIPS=10000 cargo nextest run --workspace --no-capture -E 'test(flipped_bytes_are_found)'` takes minutes.
#[test]
fn flipped_bytes_are_found_on_disk_and_in_packs() {
    let number = |variable: &str| std::env::var(variable).ok()?.parse().ok();
    flip(number("NIMCTL_FLIPS").unwrap_or(60), number("NIMCTL_FLIP_SEED").unwrap_or(11));
}

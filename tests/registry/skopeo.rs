//! What is published, as `skopeo` sees and copies it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use nimctl::digest::Sha256;
use serde_json::Value;

use crate::docker::DockerRegistry;
use crate::releases::{RECIPE, nimctl};

/// Runs skopeo, and returns what it prints.
#[track_caller]
fn skopeo(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    let output = command.output().expect("install Debian's `skopeo`, or leave the test out by its name");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn copy(folder: &Path, from: &str, to: &str) {
    let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    skopeo(folder, &[&["copy", "--quiet", "--all"], &plain[..], &[from, to]].concat());
}

/// Pulls all of a place into a store of its own; returns the digests of the files and documents there.
#[track_caller]
fn pulled(folder: &Path, place: &str, store: &str) -> BTreeSet<String> {
    nimctl(folder, &["pull", place, "--all", "--store", store]);
    let blobs = fs_err::read_dir(folder.join(store).join("blobs/sha256")).unwrap();
    blobs.map(|blob| blob.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_release_is_inspected_and_copied_to_another_registry_and_back_with_skopeo() {
    let (first, second) = (DockerRegistry::start(), DockerRegistry::start());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs_err::write(folder.join("r.yaml"), RECIPE).unwrap();
    nimctl(folder, &["build", "r.yaml"]);
    let (here, there) = (format!("{}/m", first.address()), format!("{}/copies/m", second.address()));
    let published = nimctl(folder, &["publish", "r.yaml", "--to", &format!("{here}:1.0.0")]);
    nimctl(folder, &["bundle", "r.yaml", "-o", "r.tar"]);

    let place = format!("docker://{here}:1.0.0");
    let raw = skopeo(folder, &["inspect", "--raw", "--tls-verify=false", &place]);
    assert_eq!(Sha256::of(raw.as_bytes()).to_string(), published["digest"]);
    let index: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    let bundled: Value =
        serde_json::from_str(&skopeo(folder, &["inspect", "--raw", "oci-archive:r.tar:1.0.0"])).unwrap();
    assert_eq!(bundled, index);

    let original = pulled(folder, &format!("{here}:1.0.0"), "s1");
    copy(folder, &place, &format!("docker://{there}:1.0.0"));
    assert_eq!(pulled(folder, &format!("{there}:1.0.0"), "s2"), original);
    copy(folder, &format!("docker://{there}:1.0.0"), "oci:back:1.0.0");
    assert_eq!(pulled(folder, "oci:back:1.0.0", "s3"), original);
    copy(folder, "oci-archive:r.tar:1.0.0", &format!("docker://{there}:of-the-bundle"));
    assert_eq!(pulled(folder, &format!("{there}:of-the-bundle"), "s4"), original);
}

#[test]
fn files_as_layers_are_the_files_with_skopeo() {
    let registry = DockerRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs_err::write(folder.join("r.yaml"), RECIPE).unwrap();
    let built = nimctl(folder, &["build", "r.yaml"]);
    let place = format!("{}/files:1.0.0", registry.address());
    nimctl(folder, &["publish", "r.yaml", "--layout", "files", "--to", &place]);
    copy(folder, &format!("docker://{place}"), "dir:copied");
    let mut found = BTreeSet::new();
    for entry in fs_err::read_dir(folder.join("copied")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // Manifests are there under other names.
        if name.len() == 64 {
            let (sha256, _) = Sha256::of_file(&path).unwrap();
            assert_eq!(sha256.to_hex(), name);
            found.insert(name);
        }
    }
    let graphs = fs_err::read_to_string(folder.join("manifests/r/model_manifest.yaml")).unwrap();
    let graphs: Vec<&str> =
        graphs.lines().filter_map(|line| line.trim().strip_prefix("uri: store:sha256:")).collect();
    assert!(graphs.len() >= 2, "{built}");
    assert!(graphs.iter().all(|graph| found.contains(*graph)), "{graphs:?} in {found:?}");
}

//! The bill of materials of a release in a registry.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::docker::DockerRegistry;
use crate::releases::{RECIPE, nimctl};

#[test]
fn a_release_in_a_registry_is_listed_without_its_files_with_docker_registry() {
    let registry = DockerRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs_err::write(folder.join("r.yaml"), RECIPE).unwrap();
    nimctl(folder, &["build", "r.yaml"]);
    let place = format!("{}/models/m:1.0.0", registry.address());
    nimctl(folder, &["publish", "r.yaml", "--to", &place]);
    let before = registry.requests().len();
    let bill = nimctl(folder, &["sbom", &place]);
    let asked = registry.requests().split_off(before);
    // Two of each profile, and the documents; no pack and no file of a profile.
    let blobs = asked.iter().filter(|request| request.contains("/blobs/")).count();
    assert!(blobs > 0 && blobs < 10, "{asked:#?}");
    let pulled = nimctl(folder, &["pull", &place, "--all", "--store", "s", "-o", "all"]);
    assert_eq!(nimctl(folder, &["sbom", "all"]), bill);
    for profile in pulled["profiles"].as_array().unwrap() {
        let id = profile["profile_id"].as_str().unwrap();
        let passport: Value = serde_json::from_slice(
            &fs_err::read(folder.join(format!("all/profiles/{id}/passport.json"))).unwrap(),
        )
        .unwrap();
        for file in passport["contents"]["files"].as_array().unwrap() {
            let hex = file["sha256"].as_str().unwrap().trim_start_matches("sha256:");
            assert!(bill.to_string().contains(hex));
            assert!(!asked.iter().any(|request| request.contains(hex)), "{asked:#?}");
        }
    }
    assert_eq!(bill["compositions"][0]["aggregate"], "complete");

    // Of a folder with one of two profiles, the other is not known.
    nimctl(folder, &["pull", &place, "--profile", "onnx-fp16", "--store", "s", "-o", "one"]);
    let (one, said) = with_warnings(folder, &["sbom", "one"]);
    assert_eq!(one["compositions"][0]["aggregate"], "incomplete");
    assert!(said.contains("1 of 2 profiles were not pulled into one, and are not listed"), "{said}");
    let is_profile = |component: &&Value| component["bom-ref"].as_str().unwrap().starts_with("profile:");
    assert_eq!(one["components"].as_array().unwrap().iter().filter(is_profile).count(), 1);
}

fn with_warnings(folder: &Path, arguments: &[&str]) -> (Value, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_nimctl")).args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (serde_json::from_slice(&output.stdout).unwrap(), said)
}

/// A container without ca-certificates reaches a registry that speaks plain http; where TLS is needed, it is told what is missing.
#[test]
fn a_host_that_trusts_no_authority_reads_over_plain_http_with_docker_registry() {
    let registry = DockerRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs_err::write(folder.join("r.yaml"), RECIPE).unwrap();
    nimctl(folder, &["build", "r.yaml"]);
    let place = format!("{}/models/m:1.0.0", registry.address());
    nimctl(folder, &["publish", "r.yaml", "--to", &place]);
    let sbom = |place: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
        command.args(["sbom", place]).current_dir(folder).env_clear().env("SSL_CERT_FILE", "missing.pem");
        command.output().unwrap()
    };
    let plain = sbom(&place);
    assert!(plain.status.success(), "{}", String::from_utf8_lossy(&plain.stderr));
    let tls = sbom("registry.invalid/m:1.0.0");
    let said = String::from_utf8_lossy(&tls.stderr);
    assert_eq!(tls.status.code(), Some(5), "{said}");
    assert!(said.contains("No CA certificates") && said.contains("install its certificates"), "{said}");
}

//! Releases as users publish and pull them, through Debian's `docker-registry`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::docker::DockerRegistry;

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

/// Runs nimctl in a folder, with its data there, and returns its result.
#[track_caller]
pub(crate) fn nimctl(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nimctl"));
    command.args(arguments).args(["--output", "json"]).current_dir(folder).env_clear();
    let output =
        command.env("PATH", "/usr/bin:/bin").env("NIMCTL_DATA_DIR", folder.join("data")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stderr}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_release_is_published_extended_and_pulled_with_docker_registry() {
    let registry = DockerRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| nimctl(folder.path(), arguments);
    fs_err::write(folder.path().join("r.yaml"), RECIPE).unwrap();
    run(&["build", "r.yaml"]);
    let place = format!("{}/models/m", registry.address());
    let sent = |view: &Value| view["sent_bytes"].as_u64().unwrap();
    let first = run(&["publish", "r.yaml", "--to", &format!("{place}:1.0.0")]);
    let second = run(&["publish", "r.yaml", "--to", &format!("{place}:1.0.1"), "--from", "1.0.0"]);
    assert!(sent(&second) * 20 < sent(&first), "{} after {}", sent(&second), sent(&first));
    assert_eq!(first["profiles"], second["profiles"]);

    let pulled =
        run(&["pull", &format!("{place}:1.0.1"), "--device", "none", "--store", "s", "-o", "release"]);
    assert_eq!(pulled["profiles"].as_array().unwrap().len(), 1);
    // The other profile is in the manifest, at the registry.
    let manifest = fs_err::read_to_string(folder.path().join("release/model_manifest.yaml")).unwrap();
    assert!(manifest.contains(&format!("oci://{place}@sha256:")) && manifest.contains("uri: file:profiles/"));
    assert_eq!(run(&["verify", "release"])["findings"].as_array().unwrap().len(), 0);
    let all =
        run(&["pull", &format!("{place}@{}", second["digest"].as_str().unwrap()), "--all", "--store", "s"]);
    let here = |profile: &Value| profile["here_bytes"].as_u64().unwrap();
    assert_eq!(all["profiles"].as_array().unwrap().iter().filter(|profile| here(profile) > 0).count(), 1);
    run(&["mirror", &format!("{place}:1.0.0"), "oci:copy"]);
    run(&["pull", "oci:copy", "--all", "--store", "t"]);
}

//! `nimctl release` with a key, as a pipeline runs it: signed, attested, published to a registry, and taken by a host that trusts the key alone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use super::towers::{TEXT, recipe};
use crate::docker::DockerRegistry;
use crate::home::Home;

const FP32: &str = "  - { backend: onnxruntime, precisions: [fp32], targets: generic }\n";
const FP16: &str = "  - { backend: onnxruntime, precisions: [fp16], targets: generic }\n";
const FP16_BUT_SOFTMAX: &str =
    "  - { backend: onnxruntime, precisions: [fp16], targets: generic, lowering: { keep_ops: [Softmax] } }\n";

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/signing/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A home with a recipe of two profiles, and a trust policy for its model.
fn home() -> Home {
    let home = super::home();
    home.write("r.yaml", recipe(&[TEXT], &[FP32, FP16].concat()));
    let key = fixture("p256.pub");
    let policy = format!(
        "schema: nimctl.trust/1\nrules:\n- {{ models: [m], keys: ['{key}'], require: {{ executed_on: any, min_cosine: 0.999, \
         attestations: [provenance, validation] }} }}\n"
    );
    home.write("benchmark.yaml", policy.replace("provenance, validation", "provenance, benchmark"));
    home.write("trust.yaml", policy);
    home
}

/// Returns the bundles that are attached to a manifest, by the list that the registry has under the tag of its digest.
fn attached(registry: &DockerRegistry, digest: &str) -> Vec<Value> {
    let mut stream = TcpStream::connect(registry.address()).unwrap();
    let path = format!("/v2/m/manifests/{}", digest.replace(':', "-"));
    write!(stream, "GET {path} HTTP/1.0\r\nAccept: application/vnd.oci.image.index.v1+json\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    serde_json::from_str::<Value>(body).unwrap()["manifests"].as_array().unwrap().clone()
}

#[test]
fn a_signed_release_goes_from_the_recipe_to_a_host_with_docker_registry() {
    let home = home();
    let registry = DockerRegistry::start();
    let place = format!("{}/m:1", registry.address());
    let key = fixture("p256.key");
    let builder = "https://ci.example.com/nightly";
    let made: Value = home
        .set_up(&[
            "release",
            "r.yaml",
            "-o",
            "out/r1",
            "--no-bench",
            "--key",
            &key,
            "--builder-id",
            builder,
            "--publish-to",
            &place,
            "--output",
            "json",
        ])
        .exits(0)
        .json();
    assert_eq!(made["signature"], "out/r1.sig");
    let profiles = made["attestations"]["profiles"].as_array().unwrap();
    assert_eq!(profiles.len(), 2);
    assert!(
        profiles.iter().all(|profile| profile["attested"] == serde_json::json!(["provenance", "validation"]))
    );
    // Each profile has its own in the registry.
    for digest in made["published"]["profiles"].as_object().unwrap().values() {
        let bundles = attached(&registry, digest.as_str().unwrap());
        let kinds: Vec<&str> = bundles
            .iter()
            .map(|found| found["annotations"]["org.nimctl.attestation.kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["provenance", "validation"]);
    }
    home.set_up(&["verify", "out/r1", "--key", &fixture("p256.pub")])
        .exits(0)
        .has(&["4 attestations of 2 profiles: all accepted"]);
    home.set_up(&["pull", &place, "--all", "--trust", "trust.yaml", "--store", "host", "-o", "pulled"])
        .exits(0)
        .has(&["accepted by the rule in line 3 of trust.yaml"]);
    // Nobody measured it.
    let unmeasured = "has no attestation of its benchmark by somebody whom the rule trusts";
    home.set_up(&["pull", &place, "--all", "--trust", "benchmark.yaml", "--store", "no"])
        .exits(3)
        .has(&[unmeasured]);
    assert!(!home.path("no").exists());
    let validate = ["validate", "pulled", "--store", "host", "--trust"];
    home.set_up(&[&validate[..], &["trust.yaml"]].concat()).exits(0).has(&["onnx-fp16", "passed"]);
    home.set_up(&[&validate[..], &["benchmark.yaml"]].concat()).exits(3).has(&[unmeasured]);
    // What is copied to another registry keeps all of it.
    let copy = DockerRegistry::start();
    let there = format!("{}/m:1", copy.address());
    home.set_up(&["mirror", &place, &there]).exits(0).has(&["5 signatures and attestations"]);
    home.set_up(&["pull", &there, "--all", "--trust", "trust.yaml", "--store", "other"]).exits(0);
    let explained: Value =
        home.set_up(&["explain", &there, "--trust", "trust.yaml", "--output", "json"]).exits(0).json();
    assert_eq!(explained["verdict"]["accepted"], true);
    for profile in explained["profiles"].as_array().unwrap() {
        let attested = profile["attested"].as_array().unwrap();
        assert!(
            attested.len() == 2 && attested.iter().all(|fact| fact["by"]["verified"].is_object()),
            "{attested:?}"
        );
    }
    let story = home.set_up(&["explain", &there, "--key", &fixture("other.pub"), "--only", "onnx-fp16"]);
    story.exits(0).has(&["refused: ", "made with another key", "built on", "not recorded"]);
    holds_no_key(&key, &[home.folder(), &registry.path("registry"), &copy.path("registry")]);
}

/// Fails if a file has a part of the key. Passwords and keys in other forms: `tests/cli/signing_secrets.rs`.
#[track_caller]
fn holds_no_key(key: &str, folders: &[&Path]) {
    let text = fs_err::read_to_string(key).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with("-----")).collect();
    assert!(!lines.is_empty());
    let mut files = 0;
    for entry in folders.iter().flat_map(walkdir::WalkDir::new).map(Result::unwrap) {
        if !entry.file_type().is_file() {
            continue;
        }
        files += 1;
        let bytes = fs_err::read(entry.path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for line in &lines {
            for part in [&line[..line.len() / 2], &line[line.len() / 2..]] {
                assert!(!text.contains(part), "a part of the key is in {}", entry.path().display());
            }
        }
    }
    assert!(files > 20, "only {files} files were searched");
}

#[test]
fn the_next_release_moves_and_attests_only_what_changed_with_docker_registry() {
    let home = home();
    let registry = DockerRegistry::start();
    let place = |tag: &str| format!("{}/m:{tag}", registry.address());
    let key = fixture("p256.key");
    let release = |folder: &str, tag: &str, more: &[&str]| {
        let to = place(tag);
        let all = ["release", "r.yaml", "-o", folder, "--no-bench", "--key", &key, "--publish-to", &to];
        let output = home.set_up(&[&all[..], more, &["--output", "json"]].concat());
        output.exits(0);
        output
    };
    let first: Value = release("out/r1", "1", &[]).json();
    home.write("r.yaml", recipe(&[TEXT], &[FP32, FP16_BUT_SOFTMAX].concat()));
    let output = release("out/r2", "2", &["--baseline", "out/r1", "--publish-from", "1"]);
    let second: Value = output.json();
    // One job ran.
    let jobs: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("building: ")).collect();
    assert!(jobs.len() == 1 && jobs[0].starts_with("building: text: lower to fp16"), "{jobs:?}");
    // The field is named, in the notes and the story, and nothing else.
    let why = "`lowering.keep_ops` [] → [\"Softmax\"] (text: lower)";
    let notes = home.read("out/r2/release-notes.md");
    assert!(notes.contains(&format!("* onnx-fp16: {why}\n")), "{notes}");
    assert!(notes.contains("1 of 2 profiles are byte for byte the same as before"), "{notes}");
    home.set_up(&["explain", &place("2"), "--baseline", &place("1")]).exits(0).has(&[
        &format!("rebuilt     {why} (since 1.0.0)"),
        "unchanged   it is the same profile as in 1.0.0",
    ]);
    // What is the same was not sent again, the attestations of an unchanged profile among it.
    let sent = |release: &Value| release["published"]["sent_bytes"].as_u64().unwrap();
    assert!(sent(&second) * 2 < sent(&first), "{} after {}", sent(&second), sent(&first));
    let digests = |release: &Value| -> Vec<String> {
        let profiles = release["published"]["profiles"].as_object().unwrap();
        profiles.values().map(|digest| digest.as_str().unwrap().to_owned()).collect()
    };
    let (before, now) = (digests(&first), digests(&second));
    let same: Vec<&String> = now.iter().filter(|digest| before.contains(digest)).collect();
    assert_eq!(same.len(), 1);
    assert_eq!(attached(&registry, same[0]).len(), 2);
    let lines = |file: &str| home.read(file).lines().map(str::to_owned).collect::<Vec<_>>();
    let (of_first, of_second) = (lines("out/r1.attestations.jsonl"), lines("out/r2.attestations.jsonl"));
    assert_eq!(of_second.iter().filter(|line| of_first.contains(line)).count(), 2);
    home.set_up(&["pull", &place("2"), "--all", "--trust", "trust.yaml", "--store", "host"]).exits(0);
    let explained: Value =
        home.set_up(&["explain", &place("2"), "--trust", "trust.yaml", "--output", "json"]).exits(0).json();
    let facts =
        explained["profiles"].as_array().unwrap().iter().flat_map(|one| one["attested"].as_array().unwrap());
    assert_eq!(facts.filter(|fact| fact["by"]["verified"].is_object()).count(), 4);
}

/// Workers inherit the environment, and not the variable with the key.
#[test]
fn workers_do_not_get_the_key() {
    let mut home = super::home();
    home.write("r.yaml", recipe(&[TEXT], FP32));
    let folder = home.path("workers");
    fs_err::create_dir_all(&folder).unwrap();
    let real = crate::support::real("onnxruntime").path;
    home.write_executable(
        "workers/nimctl-backend-onnxruntime",
        &format!("#!/bin/sh\nenv >>'{}'\nexec '{}'\n", home.path("environments").display(), real.display()),
    );
    home.set("NIMCTL_BACKENDS", folder);
    home.set("RELEASE_KEY", fs_err::read_to_string(fixture("p256.key")).unwrap());
    home.set("SEEN", "by workers");
    home.set_up(&["release", "r.yaml", "-o", "out", "--no-bench", "--key-env", "RELEASE_KEY"]).exits(0);
    let environments = home.read("environments");
    assert!(environments.contains("SEEN=by workers"), "{environments}");
    assert!(!environments.contains("RELEASE_KEY") && !environments.contains("PRIVATE KEY"), "{environments}");
    assert!(home.path("out.sig").is_file() && home.path("out.attestations.jsonl").is_file());
}

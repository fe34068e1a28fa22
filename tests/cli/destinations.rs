//! What a result may replace: an older result, and nothing else.

use std::os::unix::fs::{FileTypeExt as _, symlink};

use crate::graph::{self, Precision};
use crate::home::Home;
use crate::recipes::{GENERIC, X_RANGE, home_with_graph, recipe};
use crate::trust::release_home;

fn home_with_pipe() -> Home {
    let home = home_with_graph(GENERIC);
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, home.path("pipe"), kind, 0o600.into(), 0).unwrap();
    home
}

#[test]
fn a_manifest_replaces_no_input_and_no_pipe() {
    let home = home_with_pipe();
    symlink("graph.onnx", home.path("link")).unwrap();
    let before = (home.read("r.yaml"), fs_err::read(home.path("graph.onnx")).unwrap());
    for destination in ["r.yaml", "./graph.onnx", "link", ".", "pipe"] {
        home.run(&["build", "r.yaml", "--manifest", destination]).exits(1);
    }
    assert_eq!((home.read("r.yaml"), fs_err::read(home.path("graph.onnx")).unwrap()), before);
    assert!(fs_err::metadata(home.path("pipe")).unwrap().file_type().is_fifo());
    assert!(!home.path("data/store").exists(), "it was built all the same");
    insta::assert_snapshot!(home.transcript());
}

/// Nor what its graphs are run on.
#[test]
fn a_manifest_replaces_no_samples() {
    let home = home_with_graph(GENERIC);
    let samples = "    samples: { x: { npy: x.npy } }\nprofiles:";
    home.write("r.yaml", home.read("r.yaml").replacen("profiles:", samples, 1));
    home.write("x.npy", "samples");
    home.run(&["build", "r.yaml", "--no-check", "--manifest", "x.npy"])
        .exits(1)
        .has(&["would overwrite the input"]);
    assert_eq!(home.read("x.npy"), "samples");
}

#[test]
fn a_manifest_goes_where_a_link_leads() {
    let home = home_with_graph(GENERIC);
    home.write("real/m.yaml", "old");
    symlink("real/m.yaml", home.path("m.yaml")).unwrap();
    home.run(&["build", "r.yaml", "--manifest", "m.yaml"]).exits(0);
    assert!(home.path("m.yaml").is_symlink());
    assert!(home.read("real/m.yaml").contains("\nprofiles:"));
}

#[test]
fn a_manifest_of_another_model_stays() {
    let home = home_with_graph(GENERIC);
    home.set_up(&["build", "r.yaml"]).exits(0);
    let before = home.read("manifests/r/model_manifest.yaml");
    let other = recipe(X_RANGE, GENERIC).replace("name: m,", "name: other,");
    home.write("b/r.yaml", other);
    graph::write(&home.path("b/graph.onnx"), Precision::Float32);
    home.run(&["build", "b/r.yaml"]).exits(1);
    assert_eq!(home.read("manifests/r/model_manifest.yaml"), before);
    home.set_up(&["build", "b/r.yaml", "--manifest", "other.yaml"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn other_results_replace_no_input_either() {
    let home = home_with_pipe();
    home.set_up(&["build", "r.yaml", "--manifest", "m.yaml"]).exits(0);
    let inputs = ["r.yaml", "graph.onnx", "m.yaml"];
    let before = inputs.map(|name| fs_err::read(home.path(name)).unwrap());
    for arguments in [
        ["report", "r.yaml", "-o", "r.yaml"],
        ["report", "r.yaml", "-o", "pipe"],
        ["manifest", "merge", "m.yaml", "-o=m.yaml"],
        ["manifest", "merge", "m.yaml", "-o=pipe"],
        ["init", "graph.onnx", "--force", "-o=graph.onnx"],
    ] {
        home.run(&arguments).exits(1);
    }
    assert_eq!(inputs.map(|name| fs_err::read(home.path(name)).unwrap()), before);
    assert!(fs_err::metadata(home.path("pipe")).unwrap().file_type().is_fifo());
    insta::assert_snapshot!(home.transcript());
}

/// The data of a large graph is looked for beside what the link leads to.
#[test]
fn a_lowered_graph_goes_where_a_link_leads() {
    let home = home_with_graph(GENERIC);
    fs_err::create_dir(home.path("real")).unwrap();
    symlink("real/out.onnx", home.path("out.onnx")).unwrap();
    home.run(&["lower", "graph.onnx", "--precision", "fp16", "-o", "out.onnx"]).exits(0);
    assert!(home.path("out.onnx").is_symlink() && home.path("real/out.onnx").is_file());
}

const KEY: [&str; 2] = ["--key", "keys/p256.key"];

#[test]
fn a_key_is_not_written_over() {
    let home = release_home();
    let key = home.read("keys/leaf.key");
    let with = ["--key", "keys/leaf.key", "--certificate", "keys/leaf.pem", "--chain", "keys/middle.pem"];
    for file in ["keys/leaf.key", "keys/leaf.pem", "keys/middle.pem"] {
        let expected = format!("writing {file} would overwrite the input {file}");
        home.set_up(&[&["sign", "release", "--signature", file], &with[..]].concat())
            .exits(1)
            .has(&[&expected]);
        home.set_up(&[&["attest", "release", "--attestations", file], &with[..]].concat())
            .exits(1)
            .has(&[&expected]);
    }
    assert_eq!(home.read("keys/leaf.key"), key);
}

#[test]
fn a_file_of_the_release_is_not_written_over() {
    let home = release_home();
    let (manifest, sums) = (home.read("release/model_manifest.yaml"), home.read("release/SHA256SUMS"));
    for line in [
        &["sbom", "release", "-o", "release/model_manifest.yaml"][..],
        &["attest", "release", "--attestations", "release/model_manifest.yaml", KEY[0], KEY[1]],
        &["sign", "release", "--signature", "release/SHA256SUMS", KEY[0], KEY[1]],
        &["report", "release", "-o", "release/model_manifest.yaml"],
    ] {
        home.set_up(line).exits(1).has(&["would overwrite a file of release: name a file outside of it"]);
    }
    assert_eq!(home.read("release/model_manifest.yaml"), manifest);
    assert_eq!(home.read("release/SHA256SUMS"), sums);
    // What was written there by the same command may be written again.
    for line in [
        &["sbom", "release", "-o", "release/bill.json"][..],
        &["attest", "release", "--attestations", "release/a.jsonl", KEY[0], KEY[1]],
        &["sign", "release", "--signature", "release/release.sig", KEY[0], KEY[1]],
        &["report", "release", "-o", "release/report.html"],
        &["report", "release", "--format", "json", "-o", "release/report.json"],
    ] {
        home.set_up(line).exits(0);
        home.set_up(line).exits(0);
    }
}

#[test]
fn an_ignored_file_that_is_not_there_is_told() {
    let home = release_home();
    home.set_up(&["sign", "release", "--ignore", "release/nothing", KEY[0], KEY[1]])
        .exits(0)
        .has(&["warning: --ignore release/nothing: there is no such file"]);
}

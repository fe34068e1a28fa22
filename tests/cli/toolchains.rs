//! `nimctl toolchain`, where it fails: no pip, a wrong wheel, an unknown name.

use crate::home::Home;
use crate::recipes::home_with_graph;

#[test]
fn without_python_it_says_what_to_install() {
    let home = Home::new();
    home.run_with(&[("PATH", "")], &["toolchain", "install", "onnxruntime"]).exits(5);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn without_pip_it_says_what_to_install() {
    let home = Home::new();
    home.write_executable("bin/python3", "#!/bin/sh\necho \"No module named pip\" >&2\nexit 1\n");
    let mut command = home.command(&["toolchain", "install", "onnxruntime"]);
    home.output(command.env("PATH", home.path("bin"))).exits(5);
    insta::assert_snapshot!(home.transcript());
}

/// A wheel on the shelf that is not the one of the recipe: refused, named, and nothing kept.
#[test]
fn a_wheel_with_the_wrong_digest_is_refused() {
    let home = home_with_graph("  - { backend: onnxruntime, precisions: [fp32], targets: generic }\n");
    let wheel = make_wheel();
    home.write("wheels/nimctl_fake-1.0-py3-none-any.whl", &wheel);
    let source = |sha256: nimctl::digest::Sha256| {
        format!(
            "pip: {{ package: nimctl-fake, version: \"1.0\", sha256: \"{sha256}\", file: nimctl_fake/graph.onnx }}"
        )
    };
    let right = nimctl::digest::Sha256::of(&wheel);
    let wrong = nimctl::digest::Sha256::of(b"another wheel");
    let recipe = home.read("r.yaml");
    let build = |sha256| {
        home.write("r.yaml", recipe.replace("path: graph.onnx", &source(sha256)));
        let mut command = home.command(&["build", "r.yaml"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", home.path("wheels"))
            .env("PIP_CONFIG_FILE", "/dev/null");
        home.printed(&command.output().unwrap())
    };
    build(wrong).exits(3).has(&["r.yaml:5", &wrong.to_hex(), &right.to_hex()]);
    assert!(!home.path("manifests").exists());
    // With the right digest the same wheel is taken; that its graph is no ONNX is another matter.
    build(right).exits(1).has(&["graph.onnx is not an ONNX model"]);
}

fn make_wheel() -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in [
        ("nimctl_fake/graph.onnx", "no graph\n"),
        ("nimctl_fake-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: nimctl-fake\nVersion: 1.0\n"),
        ("nimctl_fake-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        ("nimctl_fake-1.0.dist-info/RECORD", ""),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn an_unknown_tool_is_an_error_with_the_known_ones() {
    insta::assert_snapshot!(Home::new().run(&["toolchain", "path", "tensorflow"]).exits(1));
}

#[test]
fn a_build_without_its_toolchain_says_how_to_get_it() {
    let home =
        home_with_graph("  - { backend: tensorrt-rtx, precisions: [fp16], targets: { gpus: [l4] } }\n");
    home.write_executable("bin/nimctl-backend-tensorrt-rtx", "#!/bin/sh\n");
    home.output(home.command(&["build", "r.yaml"]).env("NIMCTL_BACKENDS", home.path("bin"))).exits(5);
    insta::assert_snapshot!(home.transcript());
}

//! `nimctl toolchain`, where it fails: no pip, a wrong wheel, an unknown name.

use crate::support::{User, user_with_graph};

#[test]
fn without_python_it_says_what_to_install() {
    let user = User::new();
    let said =
        user.said(&user.command(&["toolchain", "install", "onnxruntime"]).env("PATH", "").output().unwrap());
    said.expect(5, &["no Python was found", "hint: install python3 with pip"]);
}

#[test]
fn without_pip_it_says_what_to_install() {
    let user = User::new();
    user.write("bin/python3", "#!/bin/sh\necho \"No module named pip\" >&2\nexit 1\n");
    fs_err::set_permissions(user.path("bin/python3"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let mut command = user.command(&["toolchain", "install", "onnxruntime"]);
    user.said(&command.env("PATH", user.path("bin")).output().unwrap())
        .expect(5, &["pip", "hint: install pip"]);
}

/// A wheel on the shelf that is not the one of the recipe: refused, named, and nothing kept.
#[test]
fn a_wheel_with_the_wrong_digest_is_refused() {
    let user = user_with_graph("  - { backend: onnxruntime, precisions: [fp32], targets: generic }\n");
    let wheel = make_wheel();
    fs_err::create_dir(user.path("wheels")).unwrap();
    fs_err::write(user.path("wheels/nimctl_fake-1.0-py3-none-any.whl"), &wheel).unwrap();
    let source = |sha256: nimctl::digest::Sha256| {
        format!(
            "pip: {{ package: nimctl-fake, version: \"1.0\", sha256: \"{sha256}\", file: nimctl_fake/graph.onnx }}"
        )
    };
    let right = nimctl::digest::Sha256::of(&wheel);
    let wrong = nimctl::digest::Sha256::of(b"another wheel");
    let recipe = fs_err::read_to_string(user.path("r.yaml")).unwrap();
    let build = |sha256| {
        user.write("r.yaml", &recipe.replace("path: graph.onnx", &source(sha256)));
        let mut command = user.command(&["build", "r.yaml"]);
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("PIP_NO_INDEX", "1")
            .env("PIP_FIND_LINKS", user.path("wheels"))
            .env("PIP_CONFIG_FILE", "/dev/null");
        user.said(&command.output().unwrap())
    };
    build(wrong).expect(3, &["r.yaml:5", &wrong.to_hex(), &right.to_hex()]);
    assert!(!user.path("manifests").exists());
    // With the right digest the same wheel is taken; that its graph is no ONNX is another matter.
    build(right).expect(1, &["graph.onnx is not an ONNX model"]);
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
    User::new().run(&["toolchain", "path", "tensorflow"]).expect(1, &["tensorflow", "onnxruntime"]);
}

#[test]
fn a_build_without_its_toolchain_says_how_to_get_it() {
    let user =
        user_with_graph("  - { backend: tensorrt-rtx, precisions: [fp16], targets: { gpus: [l4] } }\n");
    user.write("bin/nimctl-backend-tensorrt-rtx", "#!/bin/sh\n");
    fs_err::set_permissions(
        user.path("bin/nimctl-backend-tensorrt-rtx"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let mut command = user.command(&["build", "r.yaml"]);
    let said = user.said(&command.env("NIMCTL_BACKENDS", user.path("bin")).output().unwrap());
    said.expect(5, &["backend tensorrt-rtx cannot be used", "nimctl toolchain install tensorrt-rtx"]);
}

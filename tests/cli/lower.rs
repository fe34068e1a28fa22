//! Lowering one model: what is said, what is written, and what is refused.

use crate::graph::{Precision, write_external};
use crate::home::{Home, Printed};
use crate::recipes::{GENERIC, home_with_graph};

/// A home with NV-CLIP's text tower at its smallest: named nodes, shape arithmetic, an operator that stays in FP32.
fn home_with_tower() -> Home {
    let home = Home::new();
    home.set_up(&["model", "synth", "nvclip", "--size", "tiny", "-o", "m"]).exits(0);
    home
}

fn lower(home: &Home, arguments: &[&str]) -> Printed {
    home.run(&[&["lower", "m/text.onnx", "--precision", "fp16"], arguments].concat())
}

/// A snapshot without what differs from run to run.
macro_rules! snapshot {
    ($printed:expr) => {
        insta::with_settings!({ filters => vec![
            (r"(?m)^time( +)[0-9.]+ m?s$", "time$1<time>"),
            (r"(?m)^peak memory  [0-9.]+ [MG]B$", "peak memory  <size>"),
            (r#""(elapsed_ms|peak_memory_bytes)": [0-9]+"#, r#""$1": <measured>"#),
        ] }, { insta::assert_snapshot!($printed) })
    };
}

#[test]
fn text() {
    let home = home_with_tower();
    snapshot!(lower(
        &home,
        &["-o", "out.onnx", "--keep-op", "Softmax", "--keep-node", r".*\.0\.mlp\.gelu\.[^.]*"]
    ));
    assert!(home.path("out.onnx").is_file());
}

#[test]
fn json() {
    let home = home_with_graph(GENERIC);
    snapshot!(home.run(&[
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

#[test]
fn an_operator_set_is_raised() {
    let home = home_with_tower();
    let raise = |version, output: &str| {
        let command = ["lower", "m/text.onnx", "-o", "out.onnx", "--precision", "fp32", "--opset", version];
        home.run(&[&command[..], &["--output", output]].concat())
    };
    let report = raise("23", "json").exits(0).json();
    assert_eq!(report["opset"]["to"], 23);
    assert_eq!(report["report"]["tensors_lowered"], 0);
    home.run(&["inspect", "out.onnx"]).exits(0).has(&["ai.onnx 23"]);
    raise("23", "text").exits(0).has(&[&format!("{} → 23", report["opset"]["from"])]);
    raise("24", "text")
        .exits(1)
        .has(&["m/text.onnx can't be raised to opset 24: expected an opset from 7 to 23"]);
}

/// The report is that of the real run, but for what was written and measured.
#[test]
fn a_dry_run_writes_nothing() {
    let home = home_with_tower();
    let report = |arguments: &[&str]| {
        let printed = lower(&home, &[arguments, &["--output", "json"]].concat());
        printed.exits(0).json()
    };
    let dry = report(&["--dry-run"]);
    assert_eq!((dry["dry_run"].as_bool(), dry["files"].as_array().map(Vec::len)), (Some(true), Some(0)));
    assert_eq!(dry["report"], report(&["--dry-run", "-o", "out.onnx"])["report"]);
    assert!(!home.path("out.onnx").exists());
    assert_eq!(dry["report"], report(&["-o", "out.onnx"])["report"]);
    lower(&home, &["--dry-run"]).exits(0).has(&["nothing (dry run)"]);
}

#[test]
fn inputs_and_outputs_are_lowered_if_asked() {
    let home = home_with_graph(GENERIC);
    let run = |io| {
        let arguments = ["lower", "graph.onnx", "-o", "out.onnx", "--precision", "fp16", "--io", io];
        home.run(&[&arguments[..], &["--output", "json"]].concat())
    };
    run("keep").exits(0).has(&["\"casts_inserted\": 2"]);
    run("lower").exits(0).has(&["\"casts_inserted\": 0"]);
}

#[test]
fn what_matches_nothing_is_a_warning() {
    let home = home_with_tower();
    let arguments = ["--dry-run", "--keep-node", "blocks", "--keep-op", "Softmaxx"];
    snapshot!(lower(&home, &arguments).exits(0));
}

#[test]
fn a_bad_expression_is_a_usage_error_that_shows_where() {
    let home = Home::new();
    insta::assert_snapshot!(lower(&home, &["--dry-run", "--keep-node", "a(b"]).exits(2));
}

#[test]
fn usage() {
    let home = Home::new();
    lower(&home, &[]).exits(2);
    home.run(&["lower", "m.onnx", "-o", "x", "--precision", "fp32"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn places_that_are_refused() {
    let home = home_with_tower();
    let before = fs_err::read(home.path("m/text.onnx")).unwrap();
    fs_err::os::unix::fs::symlink("text.onnx", home.path("m/link.onnx")).unwrap();
    for place in [
        "m/text.onnx",
        "m/../m/text.onnx",
        "m/link.onnx",
        "m",
        "/dev/null",
        "absent/out.onnx",
        "m/text.onnx/out.onnx",
    ] {
        lower(&home, &["-o", place]).exits(1);
        lower(&home, &["-o", place, "--dry-run"]).exits(1);
    }
    assert_eq!(fs_err::read(home.path("m/text.onnx")).unwrap(), before);
    assert!(!home.path("absent").exists());
    insta::assert_snapshot!(home.transcript());
}

/// The weights of a large result go to `<name>.data`, and that may be where the source's are.
#[test]
fn the_weights_of_the_source_are_not_replaced() {
    let home = Home::new();
    write_external(&home.path("graph.onnx"), Precision::Float32);
    fs_err::os::unix::fs::symlink("w.bin", home.path("out.data")).unwrap();
    for place in ["w.bin", "out"] {
        home.run(&["lower", "graph.onnx", "-o", place, "--precision", "fp16"]).exits(1);
    }
    insta::assert_snapshot!(home.transcript());
    home.run(&["lower", "graph.onnx", "-o", "new", "--precision", "fp16"]).exits(0).has(&["new, "]);
}

#[test]
fn a_file_that_is_no_model() {
    let home = Home::new();
    home.write("m/text.onnx", "<!DOCTYPE html>\n");
    lower(&home, &["-o", "out.onnx"]).exits(1);
    assert!(!home.path("out.onnx").exists());
    insta::assert_snapshot!(home.transcript());
}

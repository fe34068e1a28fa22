//! The rules, each over the text of one file.

use super::Finding;
use super::code::{is_of_tests, modules_used, only_code, without_tests, word};

/// Pure: no disk, clock, environment, process, printing.
const CORE: &[&str] = &[
    "attestation",
    "backend",
    "benchmark",
    "canonical",
    "chunks",
    "compute_capability",
    "device",
    "digest",
    "error_kind",
    "execution",
    "fleet",
    "glob",
    "gpu",
    "manifest",
    "manifest_lint",
    "mixed_precision",
    "nearest",
    "onnx",
    "packs",
    "passport",
    "percent",
    "plan",
    "portable_path",
    "precision_check",
    "profile",
    "quantization",
    "recipe",
    "release",
    "report",
    "reproduction",
    "samples",
    "sbom",
    "selection",
    "shape_range",
    "signing",
    "stats",
    "stored_format",
    "synth",
    "text_encoding",
    "trust",
    "validation",
    "worklist",
    "yaml",
];
/// What touches the world.
const EFFECTS: &[&str] = &[
    "engines",
    "exchange",
    "files",
    "machine",
    "nvml",
    "oci",
    "process",
    "registry",
    "source",
    "store",
    "toolchain",
    "uri",
    "worker",
];
/// What a user asks for, one verb a module.
const OPERATIONS: &str = "ops";

/// What tests alone use.
const TESTS: &[&str] = &["every_field"];

/// What the core leaves to the layers above it.
const WORLD: &[(&str, &str)] = &[
    ("fs_err", "the disk"),
    ("std::fs", "the disk"),
    ("Instant::now", "the clock"),
    ("SystemTime::now", "the clock"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("Command::new", "processes"),
    ("std::net", "the network"),
];
/// The files of the core that read or write the disk, each told its path: those that src/lib.rs lists.
const CORE_ON_DISK: &[&str] = &[
    "digest.rs",
    "onnx/external_data.rs",
    "onnx/mapped_file.rs",
    "onnx/quantize/gptq/tokens.rs",
    "onnx/write.rs",
    "plan/header.rs",
    "plan/read.rs",
];

/// The maximum number of lines of a Rust file.
const MAX_LINES: usize = 500;
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "common", "misc"];
/// Where `unsafe` may be: the workers, the one line that maps a file, and the handler for a mapped file that is cut off.
const UNSAFE_PLACES: &[&str] = &["backends/", "src/onnx/mapped_file.rs", "src/bin/nimctl/signals.rs"];
/// Where keys, ids and what is compatible with what are decided: no field may be left out unseen, and no formatter of the
/// compiler's may have a say.
const KEY_FILES: &[&str] = &[
    "src/ops/bench/key.rs",
    "src/ops/run_identity.rs",
    "src/ops/samples/identity.rs",
    "src/ops/validate/key.rs",
    "src/passport/mod.rs",
    "src/profile/contents.rs",
    "src/profile/id.rs",
    "src/profile/spec.rs",
    "src/worklist/build_key.rs",
    "src/worklist/mod.rs",
    "src/worklist/record.rs",
];
/// Registries are reached through their clients, as the user has set them up; in two parts each, so that this file
/// passes.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("static.crates", ".io"),
    ("index.crates", ".io"),
    ("registry.npmjs", ".org"),
    ("deb.debian", ".org"),
];
/// Folders that only one developer's machine has.
const PRIVATE_FOLDERS: &[(&str, &str)] = &[("/ho", "me/"), ("/Use", "rs/"), ("/ro", "ot/"), ("/wo", "rk/")];

/// Returns every rule that a file breaks.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |line: usize, rule: String| findings.push(Finding { path: path.into(), line, rule });
    if path != "Cargo.lock" {
        anywhere(text, &mut found);
    }
    let Some(stem) = path.strip_suffix(".rs") else { return findings };
    if let Some(name) = stem.split('/').find(|name| EMPTY_NAMES.contains(name)) {
        found(1, format!("`{name}` names no concept: say what is in it"));
    }
    let count = text.lines().count();
    if count > MAX_LINES {
        found(
            MAX_LINES + 1,
            format!("{count} lines, and {MAX_LINES} are the most: split it at its second concept"),
        );
    }
    let code = only_code(text);
    for (line, code) in (1..).zip(code.lines()) {
        if word(code, "unsafe").is_some() && !UNSAFE_PLACES.iter().any(|place| path.starts_with(place)) {
            found(
                line,
                "`unsafe` is for workers, src/onnx/mapped_file.rs and src/bin/nimctl/signals.rs".into(),
            );
        }
        if code.contains("#[ignore") {
            found(line, "an ignored test tests nothing".into());
        }
    }
    if KEY_FILES.contains(&path) {
        key_file(text, &code, &mut found);
    }
    if let Some(inner) = path.strip_prefix("src/").filter(|inner| !inner.starts_with("bin/")) {
        library(inner, &code, &mut found);
    }
    findings
}

fn anywhere(text: &str, found: &mut impl FnMut(usize, String)) {
    for (number, line) in (1..).zip(text.lines()) {
        for (name, ending) in REGISTRY_HOSTS {
            if line.contains(&format!("{name}{ending}")) {
                found(number, "names a package registry's host: use its client as it is set up".into());
            }
        }
        for (begin, end) in PRIVATE_FOLDERS {
            let folder = format!("{begin}{end}");
            let starts_a_path = |at: usize| {
                !line[..at].ends_with(|c: char| {
                    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '>' | '~' | '*')
                })
            };
            if line.match_indices(&folder).any(|(at, _)| starts_a_path(at)) {
                found(number, format!("a path in {folder} is only on some machine"));
            }
        }
        for marker in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            if word(line, marker).is_some() {
                found(number, format!("{marker}: do it, or open an issue"));
            }
        }
    }
}

/// The rules of files that make keys; tests are free.
fn key_file(text: &str, code: &str, found: &mut impl FnMut(usize, String)) {
    let lines = text.lines().zip(code.lines()).take_while(|(line, _)| line.trim() != "#[cfg(test)]");
    for (number, (line, code)) in (1..).zip(lines) {
        let code = code.trim();
        if code == ".." || code.contains(".. }") || code.contains("..}") {
            found(number, "`..` could leave a field out of a key: name every field".into());
        }
        if line.contains(":?}") {
            found(number, "`Debug` output is no part of a key: it has no fixed form".into());
        }
    }
}

/// The rules of the library; `path` is below `src/`.
fn library(path: &str, code: &str, found: &mut impl FnMut(usize, String)) {
    for (line, code) in (1..).zip(code.lines()) {
        for name in ["clap", "anyhow"] {
            if word(code, name).is_some_and(|at| code[at + name.len()..].starts_with("::")) {
                found(line, format!("`{name}` is for src/bin and xtask"));
            }
        }
        for name in ["print", "println", "eprint", "eprintln", "dbg"] {
            if word(code, name).is_some_and(|at| code[at + name.len()..].starts_with('!')) {
                found(line, format!("`{name}!`: the library returns, src/bin prints"));
            }
        }
    }
    let module = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    let is_core = CORE.contains(&module);
    if module == "lib" || module == OPERATIONS || TESTS.contains(&module) {
        return;
    }
    if !is_core && !EFFECTS.contains(&module) {
        found(1, format!("module `{module}` is in no layer: add it to one in xtask/src/tidy/rules.rs"));
    }
    if is_core {
        core_is_pure(path, code, found);
    }
    if path.starts_with("onnx/analysis/") {
        for (line, code) in (1..).zip(code.lines()) {
            if word(code, "lower").is_some() {
                found(line, "`onnx/analysis` must not use `onnx/lower`, which stands on it".into());
            }
        }
    }
    for (line, used, below) in modules_used(code, &["crate::", "super::"]) {
        let upwards = used == OPERATIONS || is_core && EFFECTS.contains(&used.as_str());
        // A recipe says where its graphs come from.
        let is_source = module == "recipe" && used == "source" && below == "Source";
        // A lowered graph is gigabytes: it is written as it is made.
        let is_written = module == "onnx" && used == "files" && below.starts_with("atomic_file");
        // A module's own part may have another module's name.
        let is_own = used == module;
        if upwards && !is_source && !is_written && !is_own {
            found(
                line,
                format!("`{module}` must not use `{used}`: bin → ops → effects → core, never upwards"),
            );
        }
    }
}

/// The core returns what it made of its arguments; `path` is below `src/`. Its tests may use the disk.
fn core_is_pure(path: &str, code: &str, found: &mut impl FnMut(usize, String)) {
    if is_of_tests(path) {
        return;
    }
    for (line, code) in (1..).zip(without_tests(code).lines()) {
        for (name, what) in WORLD {
            let is_listed = *what == "the disk" && CORE_ON_DISK.contains(&path);
            if word(code, name).is_some() && !is_listed {
                found(line, format!("`{name}`: the core leaves {what} to the layers above it"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    /// Checks which rules a file breaks, by a part of each one's text.
    #[track_caller]
    fn breaks(path: &str, text: &str, expected: &[(usize, &str)]) {
        let findings = check(path, text);
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, (line, part)) in findings.iter().zip(expected) {
            assert_eq!((finding.path.as_str(), finding.line), (path, *line));
            assert!(finding.rule.contains(part), "{finding:?}");
        }
    }

    #[test]
    fn the_core_is_pure() {
        breaks("src/gpu/mod.rs", "fn f() { fs_err::read(p) }", &[(1, "`fs_err`: the core leaves the disk")]);
        breaks("src/digest.rs", "fn f() { fs_err::read(p); std::env::var(x) }", &[(1, "the environment")]);
        breaks("src/stats/mod.rs", "let t = std::time::Instant::now();", &[(1, "the clock")]);
        breaks("src/gpu/mod.rs", "x\n#[cfg(test)]\nmod tests { fn f() { fs_err::read(p) } }", &[]);
        breaks("src/gpu/tests.rs", "fs_err::read(p)", &[]);
        breaks("src/store/mod.rs", "fs_err::read(p)", &[]);
    }

    #[test]
    fn layers() {
        breaks("src/plan/mod.rs", "use crate::store::Store;", &[(1, "`plan` must not use `store`")]);
        breaks(
            "src/digest.rs",
            "\nuse crate::{\n    ops,\n    worker::x,\n};",
            &[(2, "`ops`"), (2, "`worker`")],
        );
        breaks("src/gpu/mod.rs", "fn f() { super::toolchain::x() }", &[(1, "`toolchain`")]);
        breaks("src/store/mod.rs", "use crate::ops::build;", &[(1, "`store` must not use `ops`")]);
        breaks("src/store/mod.rs", "use crate::{digest::Sha256, worker::host};", &[]);
        breaks("src/ops/build/mod.rs", "use crate::store::Store;", &[]);
        breaks("src/plan/mod.rs", "// use crate::store::Store;", &[]);
        breaks("src/recipe/mod.rs", "use crate::source::Source;", &[]);
        breaks("src/recipe/mod.rs", "use crate::source::fetch;", &[(1, "`source`")]);
        breaks(
            "src/onnx/analysis/scope.rs",
            "use super::super::lower::x;\nuse crate::onnx::{lower, proto};",
            &[(1, "`onnx/lower`"), (2, "`onnx/lower`")],
        );
        breaks("src/onnx/write.rs", "use crate::files::atomic_file;", &[]);
        breaks("src/onnx/write.rs", "use crate::files::direct_file;", &[(1, "`files`")]);
        breaks("src/plan/mod.rs", "use crate::files::atomic_file;", &[(1, "`files`")]);
        breaks("src/novelty.rs", "", &[(1, "in no layer")]);
    }

    #[test]
    fn the_edges_crates_stay_at_the_edge() {
        breaks("src/plan/mod.rs", "use anyhow::Result;", &[(1, "`anyhow`")]);
        breaks("src/ops/mod.rs", "\nclap::Parser", &[(2, "`clap`")]);
        breaks("src/ops/mod.rs", "eprintln!(\"\")", &[(1, "`eprintln!`")]);
        breaks("src/ops/mod.rs", "let x = \"println!\"; // anyhow::", &[]);
        breaks("src/bin/nimctl/main.rs", "use anyhow::Result; println!(\"\")", &[]);
    }

    #[test]
    fn fences() {
        breaks("src/store/mod.rs", "\nunsafe { x() }", &[(2, "`unsafe`")]);
        breaks("src/bin/nimctl/main.rs", "unsafe { x() }", &[(1, "`unsafe`")]);
        breaks("backends/tensorrt/src/x.rs", "unsafe { x() }", &[]);
        breaks("src/onnx/mapped_file.rs", "unsafe { x() }", &[]);
        breaks("tests/x.rs", "#[test]\n#[ignore = \"slow\"]", &[(2, "ignored")]);
        breaks("README.md", concat!("x\nTO", "DO: y"), &[(2, "open an issue")]);
        breaks("a.py", concat!("# FIX", "ME"), &[(1, "open an issue")]);
    }

    #[test]
    fn keys() {
        let key = "src/ops/bench/key.rs";
        breaks(key, "let X { a, .. } = x;", &[(1, "name every field")]);
        breaks(key, "let X {\n    a,\n    ..\n} = x;", &[(3, "name every field")]);
        breaks(key, "format!(\"{x:?}\")", &[(1, "`Debug`")]);
        breaks(key, "for i in 0..9 { Y { a, ..y } }", &[]);
        breaks(key, "#[cfg(test)]\nmod tests { format!(\"{x:?}\") }", &[]);
        breaks("src/ops/bench/mod.rs", "let X { a, .. } = x;", &[]);
    }

    #[test]
    fn sizes_and_names() {
        breaks("tests/x.rs", &"\n".repeat(500), &[]);
        breaks("tests/x.rs", &"\n".repeat(501), &[(501, "501 lines")]);
        breaks("xtask/src/helpers.rs", "", &[(1, "`helpers`")]);
        breaks("tests/common/mod.rs", "", &[(1, "`common`")]);
    }

    #[test]
    fn no_hosts_and_no_machine() {
        breaks("a.yaml", concat!("x: https://py", "pi.org/simple"), &[(1, "registry")]);
        breaks("a.yaml", concat!("x: /ho", "me/me/x"), &[(1, "only on some machine")]);
        breaks("a.sh", "$HOME/home/x frame/work/x", &[]);
        breaks("Cargo.lock", concat!("https://index.crates", ".io"), &[]);
    }
}

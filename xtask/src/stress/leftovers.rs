//! What may be in the folder afterwards: nothing unfinished, and no file whose name lies.

#![expect(
    clippy::disallowed_methods,
    reason = "processes are started to be killed, and nothing written is kept"
)]

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::paths_in;

/// Checks everything below `folder`; `out` is where releases and reports are.
pub(super) fn check(folder: &Path, out: &Path) -> Result<()> {
    let store = folder.join("store");
    let unfinished = paths_in(&store.join("tmp"));
    ensure!(unfinished.is_empty(), "left in tmp/: {unfinished:?}");
    let mut half = Vec::new();
    collect(folder, &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(".tmp-") || name.starts_with(".nimctl-") {
            half.push(path.to_owned());
        }
    });
    ensure!(half.is_empty(), "half written: {half:?}");
    for path in paths_in(&store.join("nimctl/passports")) {
        let text = std::fs::read_to_string(&path)?;
        passport_is_right(&text).with_context(|| path.display().to_string())?;
    }
    for blob in paths_in(&store.join("blobs/sha256")) {
        let said = Command::new("sha256sum").arg(&blob).output().context("sha256sum")?;
        let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure!(
            String::from_utf8_lossy(&said.stdout).starts_with(&name),
            "{} has other bytes than its name says",
            blob.display()
        );
    }
    ensure!(out.is_dir(), "there is no {}", out.display());
    Ok(())
}

/// Checks that a passport names no failure.
pub(super) fn passport_is_right(text: &str) -> Result<()> {
    let passport: serde_json::Value = serde_json::from_str(text)?;
    for status in ["executed", "static"] {
        let found = &passport["validation"][status];
        ensure!(found.is_null() || found["passed"] == true, "it says that validation failed: {found:#}");
    }
    ensure!(passport["bench"]["failed"].is_null(), "it says that the benchmark failed");
    let cases = passport["bench"]["measured"]["cases"].as_array().cloned().unwrap_or_default();
    for case in cases {
        ensure!(case["failure"].is_null() && !case["latency"].is_null(), "a case failed: {case:#}");
    }
    Ok(())
}

fn collect(folder: &Path, found: &mut impl FnMut(&Path)) {
    for path in paths_in(folder) {
        found(&path);
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::passport_is_right;

    #[test]
    fn a_failure_in_a_passport_is_found() {
        let check = |validation: &str, bench: &str| {
            passport_is_right(&format!("{{\"validation\": {validation}, \"bench\": {bench}}}")).is_ok()
        };
        let good = r#"{"measured": {"cases": [{"latency": {"count": 1}}]}}"#;
        assert!(check(r#"{"executed": {"passed": true}}"#, good));
        assert!(check(r#"{"skipped": "why"}"#, r#"{"skipped": "why"}"#));
        assert!(!check(r#"{"static": {"passed": false}}"#, good));
        assert!(!check(r#"{"skipped": "why"}"#, r#"{"measured": {"cases": [{"failure": "x"}]}}"#));
        assert!(!check(r#"{"skipped": "why"}"#, r#"{"failed": "x"}"#));
    }
}

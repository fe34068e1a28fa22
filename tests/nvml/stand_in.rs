//! The stand-in for NVML (`stand_in.c`), compiled by `cc`, which Rust links with anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a library in this folder that plays a host.
pub(crate) fn library(folder: &Path, host: &str) -> PathBuf {
    let library = folder.join("libnvidia-ml.so.1");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml/stand_in.c"))
        .arg(format!("-DHOST_{host}"))
        .output()
        .expect("cc is needed: it links Rust programs too");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

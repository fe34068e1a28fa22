//! The other quantizers, each in the settings that peer.py describes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xshell::cmd;

use super::super::timed::timed;
use super::{Bench, Entry, Outcome, WRITTEN, python_packages};
use crate::project::{run as execute, say};

/// Seconds after which a run is given up.
const LIMIT_S: &str = "600";
/// How `timeout` says that it ended a run.
const LIMIT_STATUS: &str = "124";

const MODELOPT: &str = include_str!("modelopt.txt");

/// The settings that run on the bench's own packages.
const ONNXRUNTIME: [(&str, &str); 5] = [
    ("ort-all", "int8 all operators"),
    ("ort-matmul", "int8 MatMul"),
    ("ort-tuned-MinMax", "int8 tuned MinMax"),
    ("ort-tuned-Percentile", "int8 tuned Percentile"),
    ("ort-rtn-32", "int4 b32 RTN"),
];

/// The settings that need PyTorch, and so run on modelopt's packages.
const WITH_TORCH: [(&str, &str); 8] = [
    ("ort-gptq-32", "int4 b32 GPTQ"),
    ("ort-hqq-32", "int4 b32 HQQ"),
    ("modelopt-int8-max", "int8 max"),
    ("modelopt-int8-entropy", "int8 entropy"),
    ("modelopt-fp8-max", "fp8 max"),
    ("modelopt-int4-rtn_dq", "int4 b128 RTN"),
    ("modelopt-int4-awq_lite", "int4 b128 AWQ"),
    ("modelopt-int4-awq_clip", "int4 b128 AWQ clip"),
];

/// Runs every setting on a prepared model.
pub(super) fn run(bench: &Bench<'_>, folder: &Path, repeat: usize) -> Result<Vec<Entry>> {
    let requirements: Vec<String> = MODELOPT.lines().map(str::to_owned).collect();
    let with_torch = python_packages(bench.project, "quantize-modelopt-0.47.0", &requirements);
    if let Err(error) = &with_torch {
        say(&format!("modelopt is skipped: {error:#}"));
    }
    let reason = "modelopt 0.47.0 and PyTorch can't be installed here (5 GB): pip's message is above";
    let with_torch = with_torch.map_err(|_| reason.to_owned());
    let mut entries = Vec::new();
    for (settings, packages) in
        [(&ONNXRUNTIME[..], Ok(bench.packages.clone())), (&WITH_TORCH[..], with_torch)]
    {
        for &(name, setting) in settings {
            let tool = if name.starts_with("ort") { "ONNX Runtime" } else { "modelopt" };
            let result = match &packages {
                Ok(packages) => measure(bench, folder, name, packages, repeat)?,
                Err(reason) => Outcome::Skipped(reason.clone()),
            };
            entries.push(Entry { tool, setting, result }.said());
        }
    }
    Ok(entries)
}

fn measure(
    bench: &Bench<'_>,
    folder: &Path,
    name: &str,
    packages: &PathBuf,
    repeat: usize,
) -> Result<Outcome> {
    let shell = bench.shell();
    let script = bench.script("peer.py", include_str!("peer.py"))?;
    bench.measure(folder, name, repeat, |out| {
        // modelopt's INT4 rewrites the model that it is given.
        let copy = bench.work.path().join("copy");
        shell.remove_path(&copy)?;
        execute(cmd!(shell, "cp -rL {folder} {copy}"))?;
        let written = out.join(WRITTEN);
        let command = cmd!(shell, "timeout {LIMIT_S} python3 {script} {name} {copy} {written}")
            .env("PYTHONPATH", packages)
            .env("ORT_DISABLE_TELEMETRY", "1");
        Ok(timed(shell, command).map_err(|error| {
            let ended = format!("{error:#}").contains(&format!("exit status: {LIMIT_STATUS}"));
            let limit = || format!("not done in {LIMIT_S} s");
            let reason =
                || shell.read_file(out.join("reason")).unwrap_or_else(|_| "it failed, see above".into());
            let reason = if ended { limit() } else { reason() };
            reason.lines().next().unwrap_or_default().to_owned()
        }))
    })
}

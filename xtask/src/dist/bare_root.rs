//! A trial of a tar on this machine, in a root without Rust, Python and a compiler, as a GPU host may be: libraries and a small release come as
//! files, and no network is asked for anything.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::bare_root::{self, LIBRARIES};
use crate::build_engines::DEMO_RECIPE;
use crate::project::{Project, read, run as execute, say};
use crate::set_up::build;
use crate::test::DEMO_MANIFEST;

/// What the trial itself calls.
const PROGRAMS: [&str; 9] = ["bash", "cat", "cmp", "env", "grep", "gzip", "ls", "sha256sum", "tar"];
/// The C++ runtime, which is no part of glibc: ONNX Runtime's library asks for it, and nearly every host has it.
const CPP_RUNTIME: [&str; 2] = ["libstdc++.so.6", "libgcc_s.so.1"];
/// What is done in the root.
const TRIAL: &str = include_str!("trial.sh");
/// The libraries that are pinned, and work without a GPU.
const TOOLS: [&str; 2] = ["onnxruntime", "tensorrt-rtx"];
/// A model whose profiles ONNX Runtime runs.
const RECIPE: &str = "xtask/src/dist/trial.yaml";

/// Makes the root, puts the tar and a small release in, and runs the trial; or says why not.
pub(super) fn run(project: &Project, out: &Path) -> Result<()> {
    let shell = &project.shell;
    if let Some(why) = bare_root::impossible(shell) {
        say(&format!("skipped: the trial in a bare root: {why}"));
        return Ok(());
    }
    let tar = the_tar(shell, out)?;
    let root = shell.create_temp_dir().context("no temporary folder can be made")?;
    let root = root.path();
    bare_root::make(shell, root, &PROGRAMS)?;
    for library in CPP_RUNTIME {
        let path = read(cmd!(shell, "c++ -print-file-name={library}"))?;
        let path = path.trim();
        read(cmd!(shell, "cp --dereference {path} {root}/{LIBRARIES}/"))?;
    }
    let host = root.join("host");
    shell.create_dir(&host)?;
    let sums = out.join(super::SUMS);
    read(cmd!(shell, "cp {tar} {sums} {host}/"))?;
    bring_along(project, &host)?;
    shell.write_file(host.join("trial.sh"), TRIAL)?;
    say("running the trial in a bare root");
    bare_root::run(project, root, &["/usr/bin/bash", "/host/trial.sh"])?;
    say("the tar works in a bare root");
    Ok(())
}

/// Returns the only tar of a folder.
fn the_tar(shell: &Shell, out: &Path) -> Result<PathBuf> {
    let files = shell.read_dir(out).with_context(|| format!("{} holds no tar", out.display()))?;
    let is_tar = |path: &&PathBuf| path.to_string_lossy().ends_with(".tar.gz");
    let tars: Vec<&PathBuf> = files.iter().filter(is_tar).collect();
    match tars[..] {
        [tar] => Ok(tar.clone()),
        _ => bail!(
            "{} holds {} tars instead of one: make one with `cargo xtask dist`",
            out.display(),
            tars.len()
        ),
    }
}

/// Makes what the host gets beside the tar: libraries as files, a small release, and the demo's recipe and manifest.
fn bring_along(project: &Project, host: &Path) -> Result<()> {
    let shell = &project.shell;
    execute(build(project))?;
    execute(project.nimctl().args(["toolchain", "install"].into_iter().chain(TOOLS)))?;
    let libraries = host.join("toolchain.tar");
    execute(
        project.nimctl().args(["toolchain", "export"].into_iter().chain(TOOLS)).arg("-o").arg(libraries),
    )?;
    read(cmd!(shell, "cp {DEMO_RECIPE} {DEMO_MANIFEST} {host}/"))?;
    let work = shell.create_temp_dir().context("no temporary folder can be made")?;
    let (store, manifest) = (work.path().join("store"), work.path().join("model_manifest.yaml"));
    let release = host.join("release.tar");
    execute(project.nimctl().args(["build", RECIPE, "--manifest"]).arg(manifest).arg("--store").arg(&store))?;
    execute(project.nimctl().args(["bundle", RECIPE, "--destination"]).arg(release).arg("--store").arg(store))
}

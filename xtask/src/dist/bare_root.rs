//! A trial of a tar on this machine, from a model to a host that runs it.
//!
//! The build side is this clone: `cargo xtask release --key … --publish-to …` makes a small release, signs and attests it with a key made for
//! the trial, and publishes it to a registry on the loopback. The deploy host is a root without Rust, Python and a compiler, as a GPU host may be, which
//! gets the tar, libraries as files, the public key and the address of the registry. No other network is asked for anything.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::{Shell, cmd};

use super::registry::{self, Registry};
use crate::bare_root::{self, LIBRARIES};
use crate::build_engines::DEMO_RECIPE;
use crate::project::{Project, output, read, run as execute, say};
use crate::release;
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
/// Its name and release.
const RELEASE: &str = "dist-trial:1.0.0";

/// Returns why this machine can't try a tar, if it can't.
pub(super) fn impossible(project: &Project) -> Option<String> {
    let shell = &project.shell;
    let openssl = || {
        let is_there = output(cmd!(shell, "openssl version")).is_ok_and(|output| output.status.success());
        (!is_there).then(|| "install `openssl`, which makes the keys".to_owned())
    };
    bare_root::impossible(shell).or_else(|| registry::impossible(shell)).or_else(openssl)
}

/// Makes and publishes a release, makes the root, and runs the trial there; or says why not.
pub(super) fn run(project: &Project, out: &Path) -> Result<()> {
    let shell = &project.shell;
    let tar = the_tar(shell, out)?;
    if let Some(why) = impossible(project) {
        say(&format!("skipped: the trial of {}: {why}", tar.display()));
        return Ok(());
    }
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
    let work = shell.create_temp_dir().context("no temporary folder can be made")?;
    let (built, registry) = timed(|| build_side(project, work.path(), &host))?;
    let (brought, ()) = timed(|| bring_along(project, out, &host))?;
    shell.write_file(host.join("trial.sh"), TRIAL)?;
    say("running the trial in a bare root");
    let (deployed, ()) = timed(|| {
        bare_root::run(project, root, &["/usr/bin/bash", "/host/trial.sh", &registry.address, RELEASE])
    })?;
    let seconds = Duration::as_secs_f64;
    say(&format!(
        "the tar works in a bare root: release, signature and publication {:.1} s, files for the host {:.1} s, deploy host {:.1} s; \
         {:.1} s in all",
        seconds(&built),
        seconds(&brought),
        seconds(&deployed),
        seconds(&(built + brought + deployed))
    ));
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    #[expect(clippy::disallowed_methods, reason = "the trial says how long it took")]
    let start = Instant::now();
    let result = work()?;
    Ok((start.elapsed(), result))
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

/// Releases the small model from nothing, signed and attested with a new key, and publishes it; once more with the signature of a key that the
/// host does not trust. The host gets the public key, and the release as an archive with its signature and attestations.
fn build_side(project: &Project, work: &Path, host: &Path) -> Result<Registry> {
    let shell = &project.shell;
    let (folder, store) = (work.join("release"), work.join("store"));
    let words = |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
    for name in ["release", "stranger"] {
        let (key, public) = (work.join(format!("{name}.key")), host.join(format!("{name}.pub")));
        read(cmd!(shell, "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key}"))?;
        read(cmd!(shell, "openssl pkey -in {key} -pubout -out {public}"))?;
    }
    shell.remove_path(host.join("stranger.pub"))?;
    let registry = Registry::start(project, work)?;
    let place = |repository: &str| format!("{}/{repository}{RELEASE}", registry.address);
    let mut arguments = words(&[RECIPE, "--no-bench", "--publish-to", &place(""), "-o"]);
    arguments.extend([folder.display().to_string(), "--store".into(), store.display().to_string()]);
    arguments.extend(["--key".into(), work.join("release.key").display().to_string()]);
    let ended = release::make(project, &arguments)?;
    ensure!(ended.success(), "the release of {RECIPE} failed ({ended})");
    let (key, strange) = (work.join("stranger.key"), work.join("stranger.sig"));
    let sign = project.nimctl();
    execute(sign.arg("sign").arg(&folder).arg("--key").arg(key).arg("--signature").arg(&strange))?;
    let publish = project.nimctl();
    let to = place("stranger/");
    execute(publish.arg("publish").arg(&folder).args(["--to", &to, "--signature"]).arg(&strange))?;
    for file in ["release.sig", "release.attestations.jsonl"] {
        let file = work.join(file);
        read(cmd!(shell, "cp {file} {host}/"))?;
    }
    let archive = format!("oci-archive:{}", host.join("release.tar").display());
    execute(project.nimctl().arg("publish").arg(&folder).args(["--to", &archive]))?;
    Ok(registry)
}

/// Puts what the host gets beside the release: the tar and its digests, libraries as files, and the demo's recipe and manifest.
fn bring_along(project: &Project, out: &Path, host: &Path) -> Result<()> {
    let shell = &project.shell;
    for file in shell.read_dir(out)? {
        if file.is_file() {
            read(cmd!(shell, "cp {file} {host}/"))?;
        }
    }
    execute(project.nimctl().args(["toolchain", "install"].into_iter().chain(TOOLS)))?;
    let libraries = host.join("toolchain.tar");
    execute(
        project.nimctl().args(["toolchain", "export"].into_iter().chain(TOOLS)).arg("-o").arg(libraries),
    )?;
    read(cmd!(shell, "cp {DEMO_RECIPE} {DEMO_MANIFEST} {host}/"))?;
    Ok(())
}

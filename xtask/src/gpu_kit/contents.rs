//! What goes into a kit, and from where.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use xshell::cmd;

use super::packed::library_in;
use crate::build_engines::DEMO_RECIPE;
use crate::project::{Project, read, run as execute};
use crate::set_up::set_up;

/// `nimctl`, and the workers that it finds beside itself.
const EXECUTABLES: [&str; 4] =
    ["nimctl", "nimctl-backend-onnxruntime", "nimctl-backend-tensorrt-rtx", "nimctl-backend-tensorrt"];
/// The pin of ONNX Runtime with its CUDA provider.
const CUDA_LOCK: &str = "xtask/src/gpu_kit/cuda.lock.yaml";
/// The recipes that are for the kit alone.
const RECIPES: [&str; 2] = ["clip-b32.yaml", "clip-b32-rtx.yaml"];
const DEMO_MANIFEST: &str = "manifests/nvclip-demo/model_manifest.yaml";
/// What C++ libraries need and a host without C++ has not.
const CPP_RUNTIME: [&str; 2] = ["libstdc++.so.6", "libgcc_s.so.1"];

/// A file of the kit.
pub(super) struct Content {
    /// Where it is here.
    pub(super) source: PathBuf,
    /// Where it goes on the host, relative.
    pub(super) path: String,
    pub(super) mode: &'static str,
}

impl Content {
    fn file(source: impl Into<PathBuf>, path: impl Into<String>) -> Self {
        Self { source: source.into(), path: path.into(), mode: "644" }
    }

    fn executable(source: impl Into<PathBuf>, name: &str) -> Self {
        Self { source: source.into(), path: format!("bin/{name}"), mode: "755" }
    }
}

/// Builds and installs what a kit holds. Files that every step needs come first; TensorRT for RTX, which does nothing for a
/// GPU that it does not support, comes last.
pub(super) fn gather(project: &Project) -> Result<Vec<Content>> {
    set_up(project)?;
    let built = &project.executables;
    let mut contents = Vec::new();
    for name in EXECUTABLES {
        contents.push(Content::executable(built.join(name), name));
    }
    contents.push(Content::executable(gpu_tests(project)?, "gpu-tests"));
    contents.push(Content::file(DEMO_RECIPE, DEMO_RECIPE));
    contents.push(Content::file(DEMO_MANIFEST, DEMO_MANIFEST));
    for name in RECIPES {
        contents.push(Content::file(format!("xtask/src/gpu_kit/{name}"), format!("recipes/{name}")));
    }
    contents.extend(cpp_runtime(project, &built.join("nimctl-backend-tensorrt-rtx"))?);
    contents.extend(toolchain(project, "onnxruntime", None, "onnxruntime")?);
    contents.extend(toolchain(project, "onnxruntime", Some(CUDA_LOCK), "onnxruntime-cuda")?);
    contents.extend(toolchain(project, "tensorrt-rtx", None, "tensorrt-rtx")?);
    Ok(contents)
}

/// Builds the tests that need a GPU, and returns the executable.
fn gpu_tests(project: &Project) -> Result<PathBuf> {
    let (shell, profile) = (&project.shell, project.profile);
    let printed = read(cmd!(
        shell,
        "cargo test --workspace {profile...} --test gpu --no-run --quiet --message-format json"
    ))?;
    printed
        .lines()
        .filter_map(|line| executable_in(line, "gpu"))
        .next_back()
        .context("cargo built no tests that need a GPU")
}

/// Returns the executable that a line of cargo's messages names, if it is this target's.
fn executable_in(line: &str, target: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_it = message["reason"] == "compiler-artifact" && message["target"]["name"] == target;
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

/// Returns the C++ runtime of this machine, for hosts that have none.
fn cpp_runtime(project: &Project, executable: &Path) -> Result<Vec<Content>> {
    let linked = read(cmd!(project.shell, "ldd {executable}"))?;
    CPP_RUNTIME
        .into_iter()
        .map(|name| {
            let path = library_in(&linked, name)
                .with_context(|| format!("{} does not use {name}", executable.display()))?;
            Ok(Content::file(path, format!("lib/c++/{name}")))
        })
        .collect()
}

/// Installs a pinned library, and returns its files. The user's own libraries are no part of a kit.
fn toolchain(project: &Project, tool: &str, lock: Option<&str>, folder: &str) -> Result<Vec<Content>> {
    let command = |verb: &str| {
        let lock = lock.map(|lock| ["--toolchain-lock", lock]);
        project
            .nimctl()
            .args(["toolchain", verb, tool])
            .args(lock.into_iter().flatten())
            .env_remove("NIMCTL_ONNXRUNTIME_LIB")
            .env_remove("NIMCTL_TENSORRT_RTX_LIB")
    };
    execute(command("install"))?;
    let installed = PathBuf::from(read(command("path"))?.trim());
    let mut libraries: Vec<PathBuf> = project.shell.read_dir(&installed)?;
    libraries.retain(|path| name_of(path).contains(".so"));
    libraries.sort();
    Ok(libraries
        .into_iter()
        .map(|path| {
            let to = format!("lib/{folder}/{}", name_of(&path));
            Content::file(path, to)
        })
        .collect())
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::executable_in;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"gpu"},"executable":"/target/gpu-1"}"#;
        assert_eq!(executable_in(line, "gpu"), Some(PathBuf::from("/target/gpu-1")));
        assert_eq!(executable_in(line, "nimctl"), None);
        assert_eq!(executable_in(&line.replace("\"/target/gpu-1\"", "null"), "gpu"), None);
        assert_eq!(executable_in("   Compiling x", "gpu"), None);
    }
}

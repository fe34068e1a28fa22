//! Libraries that play a GPU's driver and TensorRT (`tests/gpu_stand_in`), compiled once for each flavour, and real workers that
//! load them. What plays TensorRT is compiled with the headers that the bindings were made of, so that it is called as the
//! real library would be.

use std::path::{Path, PathBuf};
use std::process::Command;

use nimctl::digest::Sha256;
use nimctl::worker::host::BackendCommand;
use serde_json::Value;

use crate::support::real;

/// The classes that the stand-in plays, as the headers name their implementations.
const CLASSES: [&str; 6] =
    ["CudaEngine", "ExecutionContext", "HostMemory", "Runtime", "RuntimeCache", "RuntimeConfig"];

/// One of the two TensorRT workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Rtx,
    Plain,
}

impl Flavour {
    pub(crate) const ALL: [Self; 2] = [Self::Rtx, Self::Plain];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rtx => "tensorrt-rtx",
            Self::Plain => "tensorrt",
        }
    }
}

/// Returns the real worker of a flavour on a machine whose driver and TensorRT are played.
pub(crate) fn worker(flavour: Flavour) -> BackendCommand {
    let mut command = real(flavour.name());
    let folder = libraries(flavour);
    let variable = match flavour {
        Flavour::Rtx => "NIMCTL_TENSORRT_RTX_LIB",
        Flavour::Plain => "NIMCTL_TENSORRT_LIB",
    };
    command.environment.insert(variable.into(), folder.clone().into());
    command.environment.insert("LD_LIBRARY_PATH".into(), folder.into());
    command
}

/// Returns the folder of a flavour's libraries.
fn libraries(flavour: Flavour) -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu_stand_in");
    let headers = headers(flavour);
    let stubs = stubs(&fs_err::read_to_string(headers.join("NvInferImpl.h")).unwrap());
    let texts = ["cuda.c", "tensorrt.cpp"].map(|name| fs_err::read_to_string(sources.join(name)).unwrap());
    let digest = Sha256::of([&texts[0], &texts[1], &stubs].map(String::as_str).join("\n").as_bytes());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "gpu-stand-in-{}-{}",
        flavour.name(),
        digest.to_hex()
    ));
    if folder.is_dir() {
        return folder;
    }
    // Several tests may be here at a time: each compiles for itself, and the first one's folder stays.
    let making = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = |name: &str| making.path().join(name);
    fs_err::write(path("stubs.inc"), stubs).unwrap();
    fs_err::write(path("empty.c"), "int nothing;\n").unwrap();
    let (library, parser, define) = match flavour {
        Flavour::Rtx => ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1", "-DRTX"),
        Flavour::Plain => ("libnvinfer.so.11", "libnvonnxparser.so.11", "-DPLAIN"),
    };
    compile(
        Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wl,-soname,libcuda.so.1", "-o"])
            .arg(path("libcuda.so.1"))
            .arg(sources.join("cuda.c")),
    );
    // The name that `cudarc` tries first: a machine with a real driver may have it elsewhere.
    std::os::unix::fs::symlink("libcuda.so.1", path("libcuda.so")).unwrap();
    compile(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(path(parser)).arg(path("empty.c")));
    compile(
        Command::new("c++")
            .args(["-std=c++17", "-shared", "-fPIC", "-O1", "-Wno-deprecated-declarations", define])
            .arg("-I")
            .arg(&headers)
            .arg("-I")
            .arg(headers.parent().unwrap())
            .arg("-I")
            .arg(making.path())
            .arg("-o")
            .arg(path(library))
            .arg(sources.join("tensorrt.cpp"))
            .arg("-ldl"),
    );
    let made = making.keep();
    if fs_err::rename(&made, &folder).is_err() {
        fs_err::remove_dir_all(made).unwrap();
    }
    assert!(folder.is_dir());
    folder
}

fn compile(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the folder of the headers that the bindings of a flavour were made of.
fn headers(flavour: Flavour) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Only this machine's crates are sure to be there: those of other systems are never downloaded to build.
    let output = Command::new(cargo)
        .args(["metadata", "--all-features", "--filter-platform", "host-tuple", "--format-version", "1"])
        .args(["--offline", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let bindings = packages.iter().find(|package| package["name"] == "trtx-sys").unwrap();
    let folder = Path::new(bindings["manifest_path"].as_str().unwrap()).parent().unwrap();
    folder.join("TensorRT-Headers").join(match flavour {
        Flavour::Rtx => "TRT-RTX-1.7",
        Flavour::Plain => "TRT-Enterprise-11.4",
    })
}

/// Writes classes that implement every function of the headers' by ending the process: what the stand-in overrides is left.
fn stubs(header: &str) -> String {
    let code: String = header
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .collect::<Vec<_>>()
        .join(" ")
        .replace("TRT_NODISCARD", "");
    let mut stubs = String::new();
    for class in CLASSES {
        let Some((_, rest)) = code.split_once(&format!("class V{class} : public VRoot {{")) else { continue };
        let body = rest.split("};").next().unwrap_or_default();
        stubs.push_str(&format!("class Stub{class} : public apiv::V{class} {{ public:\n"));
        for function in body.split(';').filter_map(|function| function.trim().strip_suffix("= 0")) {
            let Some((_, signature)) = function.split_once("virtual ") else { continue };
            let name = signature.split('(').next().unwrap_or_default();
            let name = name.rsplit([' ', '*', '&']).next().unwrap_or_default();
            stubs.push_str(&format!("{signature} override {{ unexpected(\"{class}::{name}\"); }}\n"));
        }
        stubs.push_str("};\n");
    }
    assert!(stubs.contains("enqueueV3"), "the headers have another form");
    stubs
}

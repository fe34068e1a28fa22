//! zig, whose linker knows the symbols of every glibc: pinned, fetched with pip, kept in the build folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use super::binaries::{OLDEST_GLIBC, TARGET};
use crate::glibc::Glibc;
use crate::project::{Project, Variables, read, run as execute};
use crate::set_up::python;

const REQUIREMENTS: &str = "xtask/src/dist/requirements.txt";

/// Where the programs are.
pub(super) struct Zig {
    /// The folder of packages.
    pub(super) packages: PathBuf,
}

impl Zig {
    /// Returns `cargo-zigbuild`, of which only `zig cc` is used: it hands rustc's arguments to zig in a form that zig takes.
    fn zigbuild(&self) -> PathBuf {
        self.packages.join("bin/cargo-zigbuild")
    }

    /// Returns `zig`.
    fn zig(&self) -> PathBuf {
        self.packages.join("ziglang/zig")
    }

    /// Returns what makes cargo and build scripts compile and link for the oldest glibc. It is not `cargo zigbuild` that is run: that
    /// would point the bindings' generator to zig's C++ headers, which a libclang of another version can't read.
    pub(super) fn variables(&self, project: &Project, build_folder: &Path) -> Result<Variables> {
        let shell = &project.shell;
        let folder = build_folder.join("zig-cc");
        let (zigbuild, zig) = (self.zigbuild(), self.zig());
        let Glibc(major, minor) = OLDEST_GLIBC;
        let glibc = format!("-target x86_64-linux-gnu.{major}.{minor}");
        let target = TARGET.replace('-', "_");
        let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase());
        let mut variables = vec![
            ("CARGO_ZIGBUILD_ZIG_PATH".to_owned(), zig.into_os_string()),
            // What build scripts link C++ with.
            (format!("CXXSTDLIB_{target}"), "c++".into()),
            (linker, folder.join("cc").into_os_string()),
        ];
        for (program, variable, options) in
            [("cc", "CC", glibc.as_str()), ("c++", "CXX", glibc.as_str()), ("ar", "AR", "")]
        {
            let script = folder.join(program);
            let text =
                format!("#!/bin/sh\nexec '{}' zig {program} -- {options} \"$@\"\n", zigbuild.display());
            shell.write_file(&script, text)?;
            read(cmd!(shell, "chmod +x {script}"))?;
            variables.push((format!("{variable}_{target}"), script.into_os_string()));
        }
        Ok(variables)
    }
}

/// Fetches the programs, unless an earlier build did.
pub(super) fn install(project: &Project) -> Result<Zig> {
    let shell = &project.shell;
    let digest = read(cmd!(shell, "sha256sum {REQUIREMENTS}"))?;
    let digest = digest.get(..12).context("sha256sum printed no digest")?;
    let build_folder = project.executables.parent().context("the executables are in no build folder")?;
    let zig = Zig { packages: build_folder.join(format!("zig-{digest}")) };
    if !zig.packages.is_dir() {
        let python = python(shell)?;
        let new = build_folder.join("zig.new");
        shell.remove_path(&new)?;
        execute(cmd!(
            shell,
            "{python} -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all:
             --require-hashes --target {new} -r {REQUIREMENTS}"
        ))?;
        let packages = &zig.packages;
        read(cmd!(shell, "mv {new} {packages}"))?;
    }
    for program in [zig.zig(), zig.zigbuild()] {
        ensure!(program.is_file(), "{} is missing: remove {}", program.display(), zig.packages.display());
    }
    Ok(zig)
}

//! Python programs that tests compare results with: pinned, fetched with pip, kept in the build folder.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::project::{Project, read, run, say};
use crate::set_up::python;

/// A program that some tests need.
pub(crate) struct Peer {
    /// How the names of these tests end.
    pub(crate) tests: &'static str,
    /// The variable that tells them where it is.
    pub(crate) variable: &'static str,
    /// The package, as pip knows it.
    pub(crate) name: &'static str,
    version: &'static str,
    /// Which of its optional parts are needed: `[a,b]`.
    extras: &'static str,
    /// What it imports, and does not ask for.
    forgotten: &'static [&'static str],
}

/// Signatures of models.
pub(crate) const MODEL_SIGNING: Peer = Peer {
    tests: "_with_model_signing",
    variable: "NIMCTL_TEST_MODEL_SIGNING",
    name: "model-signing",
    version: "1.1.1",
    extras: "",
    forgotten: &["pyOpenSSL==26.4.0"],
};
/// The schemas of bills of materials, and what checks against them.
pub(crate) const CYCLONEDX: Peer = Peer {
    tests: "_with_cyclonedx",
    variable: "NIMCTL_TEST_CYCLONEDX",
    name: "cyclonedx-python-lib",
    version: "11.12.0",
    extras: "[json-validation]",
    forgotten: &[],
};
/// Statements of in-toto, and what verifies the envelopes they are in.
pub(crate) const IN_TOTO: Peer = Peer {
    tests: "_with_in_toto",
    variable: "NIMCTL_TEST_IN_TOTO",
    name: "in-toto-attestation",
    version: "0.9.3",
    extras: "",
    forgotten: &["securesystemslib[crypto]==1.6.0"],
};
/// All of them.
pub(crate) const ALL: [&Peer; 3] = [&MODEL_SIGNING, &CYCLONEDX, &IN_TOTO];

impl Peer {
    /// Returns the folder that it is installed in: with pip the first time, then kept in the build folder.
    pub(crate) fn packages(&self, project: &Project) -> Result<PathBuf> {
        let Self { name, version, extras, forgotten, .. } = self;
        let shell = &project.shell;
        let build_folder = project.executables.parent().context("the executables are in no build folder")?;
        let python = python(shell)?;
        let minor = read(cmd!(shell, "{python} -c 'import sys; print(sys.version_info.minor)'"))?;
        let installed = build_folder.join(format!("{name}-{version}-python3.{}", minor.trim()));
        if installed.is_dir() {
            return Ok(installed);
        }
        say(&format!("installing {name} {version} to {}", installed.display()));
        let new = installed.with_extension("new");
        shell.remove_path(&new)?;
        let others = forgotten.iter();
        let package = format!("{name}{extras}=={version}");
        run(cmd!(
            shell,
            "{python} -m pip install --quiet --disable-pip-version-check --only-binary :all: --target {new} {package}
             {others...}"
        ))?;
        read(cmd!(shell, "mv {new} {installed}"))?;
        Ok(installed)
    }
}

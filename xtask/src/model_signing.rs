//! PyPI's `model-signing`, which tests compare signatures with.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::project::{Project, read, run, say};
use crate::set_up::python;

/// How the names of the tests end that need it.
pub(crate) const TESTS: &str = "_with_model_signing";
/// The variable that tells them where it is.
pub(crate) const VARIABLE: &str = "NIMCTL_TEST_MODEL_SIGNING";
const VERSION: &str = "1.1.1";
/// It imports this one, and does not ask for it.
const FORGOTTEN: &str = "pyOpenSSL==26.4.0";

/// Returns the folder that it is installed in: with pip the first time, then kept in the build folder.
pub(crate) fn packages(project: &Project) -> Result<PathBuf> {
    let shell = &project.shell;
    let build_folder = project.executables.parent().context("the executables are in no build folder")?;
    let python = python(shell)?;
    let version = read(cmd!(shell, "{python} -c 'import sys; print(sys.version_info.minor)'"))?;
    let installed = build_folder.join(format!("model-signing-{VERSION}-python3.{}", version.trim()));
    if installed.is_dir() {
        return Ok(installed);
    }
    say(&format!("installing model-signing {VERSION} to {}", installed.display()));
    let new = installed.with_extension("new");
    shell.remove_path(&new)?;
    let package = format!("model-signing=={VERSION}");
    run(cmd!(
        shell,
        "{python} -m pip install --quiet --disable-pip-version-check --only-binary :all: --target {new} {package} {FORGOTTEN}"
    ))?;
    read(cmd!(shell, "mv {new} {installed}"))?;
    Ok(installed)
}

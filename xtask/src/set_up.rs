//! What a fresh machine needs before engines can be built and tests can run: executables and compiler libraries.

use std::process::Child;

use anyhow::{Context as _, Result, ensure};
use xshell::{Cmd, Shell, cmd};

use crate::project::{Project, Variables, output, read, run, say, start};
use crate::{bindings, libclang};

/// The workers of one package that exclude each other, so that each is built for itself.
pub(crate) const TENSORRT_FLAVOURS: [&str; 2] = ["tensorrt-rtx", "tensorrt"];

/// The libraries that workers load, with the variable by which a user brings their own.
const LIBRARIES: [(&str, &str); 2] =
    [("onnxruntime", "NIMCTL_ONNXRUNTIME_LIB"), ("tensorrt-rtx", "NIMCTL_TENSORRT_RTX_LIB")];

/// What later steps need to know.
pub(crate) struct SetUp {
    /// What makes the bindings of TensorRT compile: to be set for every build that has them in it.
    pub(crate) libclang: Variables,
    /// Where each worker's library is.
    pub(crate) libraries: Variables,
}

/// Builds `nimctl` and all workers, and installs the libraries that they need. Whatever is there already is kept.
pub(crate) fn set_up(project: &Project) -> Result<SetUp> {
    check_prerequisites(project)?;
    let libclang = libclang::variables(project)?;
    let [first, second] = TENSORRT_FLAVOURS;
    run(build_flavour(project, first, &libclang))?;
    // There is a `nimctl` now. While the machine compiles, the network is free.
    let installing = start_installing(project)?;
    run(build_flavour(project, second, &libclang))?;
    bindings::settle(project)?;
    finish_installing(installing)?;
    Ok(SetUp { libclang, libraries: library_folders(project)? })
}

/// Builds what needs no bindings of TensorRT, and installs the libraries that workers load; returns where each is.
pub(crate) fn libraries(project: &Project) -> Result<Variables> {
    check_prerequisites(project)?;
    run(build(project))?;
    finish_installing(start_installing(project)?)?;
    library_folders(project)
}

/// Returns the command that builds everything but the TensorRT workers. It names the whole workspace, as every command that
/// compiles must: cargo gives dependencies the features that the selected packages ask for, and compiles one again that
/// has others.
pub(crate) fn build(project: &Project) -> Cmd<'_> {
    let profile = project.profile;
    cmd!(project.shell, "cargo build --workspace {profile...}")
}

/// Returns the command that builds everything with one of the TensorRT workers.
pub(crate) fn build_flavour<'a>(project: &'a Project, flavour: &str, libclang: &Variables) -> Cmd<'a> {
    build(project)
        .args(["--features", &format!("nimctl-backend-tensorrt/{flavour}")])
        .envs(libclang.iter().map(|(name, value)| (name, value)))
}

/// Starts to install what the user doesn't bring.
fn start_installing(project: &Project) -> Result<Option<Child>> {
    let wanted: Vec<&str> =
        LIBRARIES.iter().filter(|(_, variable)| !project.is_set(variable)).map(|(name, _)| *name).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    start(project.nimctl().args(["toolchain", "install"]).args(wanted)).map(Some)
}

fn finish_installing(installing: Option<Child>) -> Result<()> {
    let Some(mut installing) = installing else { return Ok(()) };
    let status = installing.wait().context("`nimctl toolchain install` cannot be waited for")?;
    ensure!(status.success(), "`nimctl toolchain install` failed ({status}); its message is above");
    Ok(())
}

fn library_folders(project: &Project) -> Result<Variables> {
    LIBRARIES
        .into_iter()
        .map(|(name, variable)| {
            let folder = read(project.nimctl().args(["toolchain", "path", name]))?;
            Ok((variable.into(), folder.trim().into()))
        })
        .collect()
}

/// Returns the name of Python.
pub(crate) fn python(shell: &Shell) -> Result<&'static str> {
    let works =
        |name: &&str| output(cmd!(shell, "{name} --version")).is_ok_and(|output| output.status.success());
    ["python3", "python"].into_iter().find(works).context(
        "there is no Python 3, whose pip fetches the compiler libraries: install it, e.g. `apt-get install python3 \
         python3-pip`",
    )
}

fn check_prerequisites(project: &Project) -> Result<()> {
    let shell = &project.shell;
    let works = |command| output(command).is_ok_and(|output| output.status.success());
    let compiler = shell.var("CXX").unwrap_or_else(|_| "c++".into());
    // The variable may hold a launcher and options too.
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("c++");
    ensure!(
        works(shell.cmd(program).args(words).arg("--version")),
        "there is no C++ compiler (`{compiler} --version` fails), and TensorRT's bindings need one: install g++ or \
         clang, e.g. `apt-get install g++`, or name yours in CXX"
    );
    let python = python(shell)?;
    ensure!(
        works(cmd!(shell, "{python} -m pip --version")),
        "`{python}` has no pip, which fetches the compiler libraries: install it, e.g. `apt-get install python3-pip`, \
         or `{python} -m ensurepip --user`"
    );
    say("a C++ compiler, Python and pip are there");
    Ok(())
}

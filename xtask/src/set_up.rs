//! What a fresh machine needs before engines can be built and tests can run: executables and compiler libraries.

use anyhow::{Result, bail, ensure};
use xshell::cmd;

use crate::libclang;
use crate::project::{Project, Variables, output, read, run, say};

/// The workers that are built with other features than `nimctl`, one build each.
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
    let libraries = libraries(project)?;
    let libclang = libclang::variables(project)?;
    let profile = project.profile;
    for flavour in TENSORRT_FLAVOURS {
        let worker = format!("nimctl-backend-{flavour}");
        run(cmd!(
            project.shell,
            "cargo build {profile...} --package nimctl-backend-tensorrt --features {flavour} --bin {worker}"
        )
        .envs(libclang.iter().map(|(name, value)| (name, value))))?;
    }
    Ok(SetUp { libclang, libraries })
}

/// Builds what needs no bindings of TensorRT, and installs the libraries that workers load; returns where each is.
pub(crate) fn libraries(project: &Project) -> Result<Variables> {
    check_prerequisites(project)?;
    // The whole workspace, as the tests build it: other selections of packages can mean other features of a dependency.
    let profile = project.profile;
    run(cmd!(project.shell, "cargo build {profile...} --workspace"))?;

    let wanted: Vec<&str> =
        LIBRARIES.iter().filter(|(_, variable)| !project.is_set(variable)).map(|(name, _)| *name).collect();
    if !wanted.is_empty() {
        run(project.nimctl().args(["toolchain", "install"]).args(wanted))?;
    }
    LIBRARIES
        .into_iter()
        .map(|(name, variable)| {
            let folder = read(project.nimctl().args(["toolchain", "path", name]))?;
            Ok((variable.into(), folder.trim().into()))
        })
        .collect()
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
    let Some(python) = ["python3", "python"].into_iter().find(|name| works(cmd!(shell, "{name} --version")))
    else {
        bail!(
            "there is no Python 3, whose pip fetches the compiler libraries: install it, e.g. `apt-get install \
             python3 python3-pip`"
        );
    };
    ensure!(
        works(cmd!(shell, "{python} -m pip --version")),
        "`{python}` has no pip, which fetches the compiler libraries: install it, e.g. `apt-get install python3-pip`, \
         or `{python} -m ensurepip --user`"
    );
    say("a C++ compiler, Python and pip are there");
    Ok(())
}

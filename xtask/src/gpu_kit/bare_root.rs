//! A trial of a kit on this machine: a root with glibc, bash and coreutils alone, and a stand-in driver
//! (`tests/gpu_stand_in/cuda.c`, `tests/nvml/stand_in.c`). What needs a real GPU fails there; how it fails is what the
//! trial shows, and that `run.sh` goes on, ends in time and writes its JSON.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use crate::bare_root::{self, LIBRARIES};
use crate::project::{Project, read, say};

/// All that `run.sh` may call on a host.
const PROGRAMS: [&str; 16] = [
    "bash",
    "cat",
    "chmod",
    "cp",
    "date",
    "dirname",
    "env",
    "head",
    "mkdir",
    "mv",
    "nproc",
    "rm",
    "sha256sum",
    "tail",
    "timeout",
    "tr",
];
/// The GPUs of the stand-in for NVML: an L40S at the address where the CUDA stand-in has one too.
const HOST: &str = "-DHOST_MIXED";

/// Makes the root, puts the kit in, and runs it; prints the steps.
pub(super) fn run(project: &Project, kit: &Path) -> Result<()> {
    let shell = &project.shell;
    ensure!(shell.path_exists(kit.join("part-1/run.sh")), "{} holds no kit", kit.display());
    let kit = project.root().join(kit);
    let root = shell.create_temp_dir().context("no temporary folder can be made")?;
    let root = root.path();
    bare_root::make(shell, root, &PROGRAMS)?;
    stand_ins(project, root)?;
    read(cmd!(shell, "cp -r {kit} {root}/kit"))?;
    say("running the kit in a bare root");
    bare_root::run(project, root, &["/usr/bin/bash", "/kit/part-1/run.sh", "-o", "/kit/out"])?;
    let out = root.join("kit/out");
    let text = shell.read_file(out.join("kit.json"))?;
    let found: Value = serde_json::from_str(&text).context("kit.json is no JSON")?;
    ensure!(found["schema"] == "nimctl.gpu-kit/1", "kit.json has the schema {}", found["schema"]);
    let to = kit.with_extension("trial");
    shell.remove_path(&to)?;
    read(cmd!(shell, "cp -r {out} {to}"))?;
    say(&format!("{}: kit.json and kit.log of the trial", to.display()));
    Ok(())
}

/// Compiles the stand-ins for the driver's libraries, to where the loader looks for the real ones.
fn stand_ins(project: &Project, root: &Path) -> Result<()> {
    let shell = &project.shell;
    for (source, library, define) in [
        ("tests/gpu_stand_in/cuda.c", "libcuda.so.1", "-DNDEBUG"),
        ("tests/nvml/stand_in.c", "libnvidia-ml.so.1", HOST),
    ] {
        let to = root.join(LIBRARIES).join(library);
        let name = format!("-Wl,-soname,{library}");
        read(cmd!(shell, "cc -shared -fPIC -O1 {define} {name} -o {to} {source}"))?;
    }
    Ok(())
}

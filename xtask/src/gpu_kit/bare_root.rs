//! A trial of a kit on this machine: a root with glibc, bash and coreutils alone, and a stand-in driver
//! (`tests/gpu_stand_in/cuda.c`, `tests/nvml/stand_in.c`). What needs a real GPU fails there; how it fails is what the
//! trial shows, and that `run.sh` goes on, ends in time and writes its JSON.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use super::packed::library_in;
use crate::project::{Project, Stdout, read, say, status};

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
/// The parts of glibc that the programs above do without.
const GLIBC: [&str; 4] = ["libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"];
/// Where the loader looks without being told.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The GPUs of the stand-in for NVML: an L40S at the address where the CUDA stand-in has one too.
const HOST: &str = "-DHOST_MIXED";

/// Makes the root, puts the kit in, and runs it; prints the steps.
pub(super) fn run(project: &Project, kit: &Path) -> Result<()> {
    let shell = &project.shell;
    ensure!(shell.path_exists(kit.join("part-1/run.sh")), "{} holds no kit", kit.display());
    let kit = project.root().join(kit);
    let root = shell.create_temp_dir().context("no temporary folder can be made")?;
    let root = root.path();
    for folder in ["usr/bin", LIBRARIES, "lib64", "dev", "proc", "tmp", "kit", "root"] {
        shell.create_dir(root.join(folder))?;
    }
    for (link, to) in [("bin", "usr/bin"), ("lib", "usr/lib")] {
        let link = root.join(link);
        read(cmd!(shell, "ln -s {to} {link}"))?;
    }
    for program in PROGRAMS {
        copy_program(project, root, program)?;
    }
    let linked = read(cmd!(shell, "bash -c 'ldd \"$(command -v bash)\"'"))?;
    let libc = library_in(&linked, "libc.so.6").context("bash does not use glibc")?;
    for library in GLIBC {
        let library = Path::new(libc).with_file_name(library);
        read(cmd!(shell, "cp --dereference {library} {root}/{LIBRARIES}/"))?;
    }
    stand_ins(project, root)?;
    read(cmd!(shell, "cp -r {kit}/. {root}/kit"))?;
    say("running the kit in a bare root");
    let script = "mount -t proc proc \"$1/proc\" && touch \"$1/dev/null\" \"$1/dev/urandom\" && \
                  mount --bind /dev/null \"$1/dev/null\" && mount --bind /dev/urandom \"$1/dev/urandom\" && \
                  exec chroot \"$1\" /usr/bin/env -i PATH=/usr/bin HOME=/root \
                  /usr/bin/bash /kit/part-1/run.sh -o /kit/out";
    let namespace = ["--map-root-user", "--mount", "--pid", "--fork"];
    let ended = status(cmd!(shell, "unshare {namespace...} bash -c {script} trial {root}"), Stdout::Passed)?;
    ensure!(ended.success(), "run.sh ended with {ended}");
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

/// Copies a program and all libraries that it loads.
fn copy_program(project: &Project, root: &Path, name: &str) -> Result<()> {
    let shell = &project.shell;
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

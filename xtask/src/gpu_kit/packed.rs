//! Each file compressed with xz, kept from one kit to the next under the digest of what it holds.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::cmd;

use super::contents::Content;
use crate::project::{Project, read, say};

/// Blocks of this size are unpacked side by side.
const BLOCK: &str = "16MiB";

/// A file of the kit, compressed.
pub(super) struct Packed {
    /// Where the file goes on the host, relative.
    pub(super) path: String,
    /// The digest of the file itself.
    pub(super) sha256: String,
    pub(super) mode: &'static str,
    /// The compressed file.
    pub(super) packed: PathBuf,
    pub(super) packed_bytes: u64,
    pub(super) unpacked_bytes: u64,
}

/// Compresses a file, unless an earlier kit did.
pub(super) fn pack(project: &Project, content: &Content) -> Result<Packed> {
    let Content { source, path, mode } = content;
    let shell = &project.shell;
    let printed = read(cmd!(shell, "sha256sum {source}"))?;
    let sha256 = printed.split_whitespace().next().context("sha256sum printed no digest")?.to_owned();
    let kept = folder(project)?;
    shell.create_dir(&kept)?;
    let packed = kept.join(format!("{sha256}.xz"));
    if !packed.is_file() {
        say(&format!("packing {path}"));
        let new = kept.join("new.xz");
        // In one line of bash, since xz writes to its stdout.
        let script = "xz --stdout --threads=0 --block-size=$1 -- \"$2\" > \"$3\"";
        read(cmd!(shell, "bash -c {script} pack {BLOCK} {source} {new}"))?;
        read(cmd!(shell, "mv {new} {packed}"))?;
    }
    Ok(Packed {
        path: path.clone(),
        sha256,
        mode,
        packed_bytes: packed.metadata()?.len(),
        packed,
        unpacked_bytes: source.metadata()?.len(),
    })
}

/// Puts this machine's `xz`, and the library that it needs, beside `run.sh`: a host need not have one.
pub(super) fn copy_decompressor(project: &Project, folder: &Path) -> Result<()> {
    let shell = &project.shell;
    let found = read(cmd!(shell, "bash -c 'readlink -f \"$(command -v xz)\"'"))
        .context("xz is missing: install it, e.g. `apt-get install xz-utils`")?;
    let xz = found.trim();
    read(cmd!(shell, "cp --dereference {xz} {folder}/xz"))?;
    let linked = read(cmd!(shell, "ldd {xz}"))?;
    if let Some(library) = library_in(&linked, "liblzma.so.5") {
        read(cmd!(shell, "cp --dereference {library} {folder}/liblzma.so.5"))?;
    }
    Ok(())
}

/// Returns the path that `ldd` printed for a library.
pub(crate) fn library_in<'a>(linked: &'a str, name: &str) -> Option<&'a str> {
    linked
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix("=> ")?.split(' ').next())
        .filter(|path| path.starts_with('/'))
}

fn folder(project: &Project) -> Result<PathBuf> {
    Ok(project.executables.parent().context("the executables are in no build folder")?.join("gpu-kit/packed"))
}

#[cfg(test)]
mod tests {
    use super::library_in;

    #[test]
    fn paths_of_libraries_are_read_from_ldd() {
        let linked = "\tlinux-vdso.so.1 (0x00007ffd)\n\tliblzma.so.5 => /lib/x/liblzma.so.5 (0x00007f)\n\
                      \tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(library_in(linked, "liblzma.so.5"), Some("/lib/x/liblzma.so.5"));
        assert_eq!(library_in(linked, "libm.so.6"), None);
        assert_eq!(library_in("\tliblzma.so.5 => not found\n", "liblzma.so.5"), None);
    }
}

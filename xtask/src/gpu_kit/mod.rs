//! `gpu-kit`: a folder in parts that shows `nimctl` on a GPU host which has a driver and nothing else.
//!
//! * [`contents`]: which files go in, the ones needed by most steps first.
//! * [`packed`]: each file compressed, once for all kits.
//! * [`parts`]: how the compressed files are cut into parts of at most [`parts::MAX_PART_BYTES`].
//! * [`bare_root`]: a trial of a kit on this machine, in a root with a stand-in driver.
//!
//! `run.sh` is what runs on the host, and `peer.py` its part in Python, for hosts that have it.

mod bare_root;
mod contents;
mod packed;
mod parts;
#[cfg(test)]
mod run_script;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::cmd;

use crate::glibc::{self, Glibc};
use crate::project::{Project, read, say};
use contents::Content;
use packed::Packed;
pub(crate) use packed::library_in;
use parts::{MAX_PART_BYTES, Slice};

const RUN: &str = include_str!("run.sh");
const PEER: &str = include_str!("peer.py");

/// What part 1 keeps free for what is not cut: `run.sh`, `peer.py`, the lists and the decompressor.
const RESERVED_BYTES: u64 = 1_000_000;

enum Order {
    Make(PathBuf),
    Try(PathBuf),
}

/// Makes a kit, or tries one that was made.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    match parse(arguments)? {
        Order::Make(kit) => make(&project.in_release(), &kit),
        Order::Try(kit) => bare_root::run(project, &kit),
    }
}

fn parse(arguments: &[String]) -> Result<Order> {
    match arguments {
        [option, kit] if option == "-o" => Ok(Order::Make(kit.into())),
        [option, kit] if option == "--try" => Ok(Order::Try(kit.into())),
        _ => bail!("gpu-kit takes `-o DIR` to make a kit, or `--try DIR` to try one on this machine"),
    }
}

fn make(project: &Project, kit: &Path) -> Result<()> {
    let shell = &project.shell;
    ensure!(
        !shell.path_exists(kit),
        "{} exists: a kit is written to a folder that does not exist yet",
        kit.display()
    );
    let contents = contents::gather(project)?;
    let needs = newest_glibc(project, &contents)?;
    let packed: Vec<Packed> =
        contents.iter().map(|file| packed::pack(project, file)).collect::<Result<_>>()?;
    let sizes: Vec<u64> = packed.iter().map(|file| file.packed_bytes).collect();
    let slices = parts::plan(&sizes, MAX_PART_BYTES, RESERVED_BYTES);
    let count = slices.iter().map(|slice| slice.part).max().unwrap_or(1);

    // A kit that could not be finished keeps another name.
    let new = kit.with_extension("new");
    shell.remove_path(&new)?;
    for part in 1..=count {
        shell.create_dir(new.join(parts::folder_name(part)))?;
    }
    for slice in &slices {
        write_slice(project, &new, slice, &packed[slice.file])?;
    }
    let first = new.join(parts::folder_name(1));
    shell.write_file(first.join("run.sh"), RUN)?;
    shell.write_file(first.join("peer.py"), PEER)?;
    shell.write_file(first.join("files.txt"), parts::list_of_files(&packed, &slices))?;
    shell.write_file(first.join("needs.txt"), format!("{needs}\n"))?;
    packed::copy_decompressor(project, &first)?;
    write_digests(project, &new)?;
    for part in 1..=count {
        let folder = new.join(parts::folder_name(part));
        let bytes = folder_bytes(project, &folder)?;
        ensure!(
            bytes <= MAX_PART_BYTES,
            "{} has {bytes} bytes, and {MAX_PART_BYTES} are allowed: raise RESERVED_BYTES",
            folder.display()
        );
        println!("{:<8} {:>6.1} MB", parts::folder_name(part), bytes as f64 / 1e6);
    }
    for file in &packed {
        println!(
            "  {:<58} {:>6.1} MB, packed {:>6.1} MB",
            file.path,
            file.unpacked_bytes as f64 / 1e6,
            file.packed_bytes as f64 / 1e6
        );
    }
    println!("needs {needs} or later on the host");
    read(cmd!(shell, "mv {new} {kit}"))?;
    say(&format!("carry the parts of {} side by side, then run `bash part-1/run.sh`", kit.display()));
    Ok(())
}

/// Returns the newest glibc that a file of the kit asks for; those that only hosts without a C++ runtime use aside.
fn newest_glibc(project: &Project, contents: &[Content]) -> Result<Glibc> {
    let is_fallback = |file: &&Content| {
        let name = file.source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["libstdc++.so", "libgcc_s.so"].iter().any(|fallback| name.starts_with(fallback))
    };
    let mut newest = None;
    for file in contents.iter().filter(|file| !is_fallback(file)) {
        newest = newest.max(glibc::needed_by(project, &file.source)?);
    }
    newest.context("no file of the kit asks for a version of glibc")
}

fn write_slice(project: &Project, kit: &Path, slice: &Slice, file: &Packed) -> Result<()> {
    let Slice { file: _, part, number: _, offset, length } = slice;
    let to = kit.join(parts::folder_name(*part)).join(parts::slice_name(file, slice));
    let from = &file.packed;
    let (offset, length) = (offset.to_string(), length.to_string());
    let skip = "iflag=skip_bytes,count_bytes";
    read(cmd!(project.shell, "dd if={from} of={to} {skip} skip={offset} count={length} bs=1M status=none"))?;
    Ok(())
}

/// Writes the digest of every slice, so that a part that arrives damaged can be named.
fn write_digests(project: &Project, kit: &Path) -> Result<()> {
    let shell = &project.shell;
    let _inside = shell.push_dir(kit);
    let digests = read(cmd!(shell, "bash -c 'sha256sum part-*/*.xz.*'"))?;
    shell.write_file(Path::new(&parts::folder_name(1)).join("slices.sha256"), digests)?;
    Ok(())
}

fn folder_bytes(project: &Project, folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in project.shell.read_dir(folder)? {
        bytes += file.metadata()?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Order, parse};

    #[test]
    fn a_kit_is_made_or_tried() {
        let parse = |line: &str| parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(matches!(parse("-o kit"), Ok(Order::Make(_))));
        assert!(matches!(parse("--try kit"), Ok(Order::Try(_))));
        for line in ["", "-o", "kit", "-o a b", "--make a"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}

//! `dist`: one tar with what a GPU host needs, the same bytes from every clone of a commit.
//!
//! * [`zig`]: the linker that knows older versions of glibc than this machine's.
//! * [`binaries`]: the executables, and what they must not need or contain.
//! * [`licences`]: whose code is in it, for `THIRD-PARTY.txt`.
//! * [`archive`]: how the tar is written.
//! * [`bare_root`]: a trial of a tar on this machine, in a root without Rust and Python.

mod archive;
mod bare_root;
mod binaries;
mod licences;
mod zig;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::cmd;

use crate::project::{Project, output, read, say};
use archive::{Member, Members};

/// Where the tar goes without another place being named.
const DEFAULT: &str = "target/dist";
/// The maximum size of the tar.
const MAX_BYTES: u64 = 64_000_000;
/// Texts that the tar has as they are.
const TEXTS: [&str; 5] =
    ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "toolchain.lock.yaml"];
/// The digests of all files that are shipped.
const SUMS: &str = "SHA256SUMS";

enum Order {
    Make(PathBuf),
    Try(PathBuf),
}

/// Makes a tar, or tries one that was made.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    match parse(arguments)? {
        Order::Make(out) => make(&project.in_release(), &out),
        Order::Try(out) => bare_root::run(project, &out),
    }
}

fn parse(arguments: &[String]) -> Result<Order> {
    match arguments {
        [] => Ok(Order::Make(DEFAULT.into())),
        [option, out] if option == "--out" => Ok(Order::Make(out.into())),
        [option, out] if option == "--try" => Ok(Order::Try(out.into())),
        _ => bail!(
            "dist takes nothing or `--out DIR` to make a tar, or `--try DIR` to try one on this machine"
        ),
    }
}

fn make(project: &Project, out: &Path) -> Result<()> {
    let shell = &project.shell;
    let zig = zig::install(project)?;
    let folder = binaries::build(project, &zig)?;
    let mut members = Members::new();
    for name in binaries::NAMES {
        let bytes = shell.read_binary_file(folder.join(name))?;
        members.insert(format!("bin/{name}"), Member { bytes, is_executable: true });
    }
    for name in TEXTS {
        add(&mut members, name, shell.read_binary_file(name)?);
    }
    for path in shell.read_dir("docs")? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(".md") {
            add(&mut members, &format!("docs/{name}"), shell.read_binary_file(&path)?);
        }
    }
    add(&mut members, "THIRD-PARTY.txt", licences::third_party(project, &zig)?.into_bytes());
    add_generated(project, &folder.join("nimctl"), &mut members)?;

    let title = title(project)?;
    let tar = format!("{title}.tar.gz");
    shell.create_dir(out)?;
    let mut bytes = Vec::new();
    archive::write(&mut bytes, &title, &members, time(project)?)?;
    ensure!(
        bytes.len() as u64 <= MAX_BYTES,
        "the tar has {} bytes, and {MAX_BYTES} are the most: see which file of it grew",
        bytes.len()
    );
    shell.write_file(out.join(&tar), &bytes)?;
    // What else is shipped is written here, before its digest is taken: a signature, a bill of materials.
    let shipped = vec![tar];
    write_sums(project, out, &shipped)?;
    for (path, Member { bytes, .. }) in members.iter().filter(|(path, _)| path.starts_with("bin/")) {
        println!("{path:<34} {:>6.1} MB", bytes.len() as f64 / 1e6);
    }
    println!("{} files, {:.1} MB packed", members.len(), bytes.len() as f64 / 1e6);
    print!("{}", shell.read_file(out.join(SUMS))?);
    say(&format!("wrote {}", out.display()));
    Ok(())
}

fn add(members: &mut Members, path: &str, bytes: Vec<u8>) {
    members.insert(path.into(), Member { bytes, is_executable: false });
}

/// Adds what `nimctl` writes itself: completions and man pages. It runs without any environment, which its help would show.
fn add_generated(project: &Project, nimctl: &Path, members: &mut Members) -> Result<()> {
    let shell = &project.shell;
    for (name, path) in [
        ("bash", "share/bash-completion/completions/nimctl"),
        ("zsh", "share/zsh/site-functions/_nimctl"),
        ("fish", "share/fish/vendor_completions.d/nimctl.fish"),
    ] {
        let printed = output(cmd!(shell, "{nimctl} completions {name}").env_clear())?;
        ensure!(printed.status.success(), "`nimctl completions {name}` failed ({})", printed.status);
        add(members, path, printed.stdout);
    }
    let pages = shell.create_temp_dir().context("no temporary folder can be made")?;
    let folder = pages.path();
    read(cmd!(shell, "{nimctl} man-pages {folder}").env_clear())?;
    for page in shell.read_dir(folder)? {
        let name = page.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        add(members, &format!("share/man/man1/{name}"), shell.read_binary_file(&page)?);
    }
    Ok(())
}

/// Writes the digests of files in a folder, as `sha256sum --check` reads them.
fn write_sums(project: &Project, out: &Path, files: &[String]) -> Result<()> {
    let shell = &project.shell;
    let _inside = shell.push_dir(out);
    let sums = read(cmd!(shell, "sha256sum {files...}"))?;
    shell.write_file(SUMS, sums)?;
    Ok(())
}

/// Returns the name of the tar and of the folder in it.
fn title(project: &Project) -> Result<String> {
    let package = read(cmd!(project.shell, "cargo pkgid --package nimctl"))?;
    let version = package.trim().rsplit(['#', '@']).next().context("`cargo pkgid` printed no version")?;
    Ok(format!("nimctl-{version}-x86_64-linux-gnu"))
}

/// Returns the time of every file of a tar: `SOURCE_DATE_EPOCH`, else that of the commit.
fn time(project: &Project) -> Result<u64> {
    let shell = &project.shell;
    let seconds = match shell.var("SOURCE_DATE_EPOCH") {
        Ok(seconds) if !seconds.is_empty() => seconds,
        _ => read(cmd!(shell, "git log -1 --format=%ct"))
            .context("without git, set SOURCE_DATE_EPOCH to the time of the tar's files")?,
    };
    seconds
        .trim()
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH `{}` is not a number of seconds", seconds.trim()))
}

#[cfg(test)]
mod tests {
    use super::{Order, parse};

    #[test]
    fn a_tar_is_made_or_tried() {
        let parse = |line: &[&str]| parse(&line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert!(matches!(parse(&[]), Ok(Order::Make(_))));
        assert!(matches!(parse(&["--out", "x"]), Ok(Order::Make(_))));
        assert!(matches!(parse(&["--try", "x"]), Ok(Order::Try(_))));
        for line in [&["x"][..], &["--out"], &["--out", "a", "b"]] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}

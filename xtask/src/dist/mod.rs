//! `dist`: one tar with what a GPU host needs, the same bytes from every clone of a commit.
//!
//! * [`zig`]: the linker that knows older versions of glibc than this machine's.
//! * [`binaries`]: the executables, and what they must not need or contain.
//! * [`crates`]: which crates are linked into them.
//! * [`licences`]: whose code is in it, for `THIRD-PARTY.txt`.
//! * [`bom`]: the bill of materials beside the tar.
//! * [`archive`]: how the tar is written.
//! * [`bare_root`]: a trial of a tar on this machine: a release is made and published, and used in a root without Rust and Python.
//! * [`registry`]: what the trial publishes to.

mod archive;
mod bare_root;
mod binaries;
mod bom;
mod crates;
mod licences;
mod registry;
mod zig;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use xshell::cmd;

use crate::project::{Project, output, read, run as execute, say};
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
    Make(PathBuf, Option<Signing>),
    Try(PathBuf),
}

/// What a tar is signed with, as `nimctl sign` takes it.
#[derive(Debug, Default, PartialEq)]
struct Signing {
    key: String,
    certificate: Option<String>,
    chain: Vec<String>,
}

/// Makes a tar, or tries one that was made.
pub(crate) fn run(project: &Project, arguments: &[String]) -> Result<()> {
    match parse(arguments)? {
        Order::Make(out, signing) => make(&project.in_release(), &out, signing.as_ref()),
        Order::Try(out) => bare_root::run(project, &out),
    }
}

/// Makes a tar in the build folder, and tries it; or says why this machine can't.
pub(crate) fn check(project: &Project) -> Result<()> {
    if let Some(why) = bare_root::impossible(project) {
        say(&format!("skipped: a tar and its trial: {why}"));
        return Ok(());
    }
    let out = project.executables.with_file_name("dist-trial");
    // One of another version would be a second tar.
    project.shell.remove_path(&out)?;
    make(&project.in_release(), &out, None)?;
    bare_root::run(project, &out)
}

fn parse(arguments: &[String]) -> Result<Order> {
    let usage = "dist takes `--out DIR` to make a tar there, `--key FILE` to sign it, with `--certificate FILE` and `--chain FILE` as \
                 `nimctl sign`, or `--try DIR` to try one on this machine";
    let (mut out, mut signing, mut has_key) = (None, Signing::default(), false);
    let mut words = arguments.iter();
    while let Some(option) = words.next() {
        let value = words.next().cloned().with_context(|| format!("{option} has no value: {usage}"))?;
        match option.as_str() {
            "--try" if arguments.len() == 2 => return Ok(Order::Try(value.into())),
            "--out" if out.is_none() => out = Some(PathBuf::from(value)),
            "--key" if !has_key => (signing.key, has_key) = (value, true),
            "--certificate" if signing.certificate.is_none() => signing.certificate = Some(value),
            "--chain" => signing.chain.push(value),
            _ => bail!("{option} is not expected here: {usage}"),
        }
    }
    let is_alone = signing.certificate.is_some() || !signing.chain.is_empty();
    ensure!(has_key || !is_alone, "--certificate and --chain are those of a --key: {usage}");
    Ok(Order::Make(out.unwrap_or_else(|| DEFAULT.into()), has_key.then_some(signing)))
}

fn make(project: &Project, out: &Path, signing: Option<&Signing>) -> Result<()> {
    let shell = &project.shell;
    if let Some(Signing { key, .. }) = signing {
        // Before anything takes long.
        ensure!(shell.path_exists(key), "there is no key {key}");
    }
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
    let linked = crates::linked(project)?;
    let licences::ThirdParty { text, beside } = licences::third_party(project, &linked, &zig)?;
    add(&mut members, "THIRD-PARTY.txt", text.into_bytes());
    add_generated(project, &folder.join("nimctl"), &mut members)?;

    let version = version(project)?;
    let title = format!("nimctl-{version}-x86_64-linux-gnu");
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
    let digest = bom::sha256(shell, &out.join(&tar))?;
    shell.write_file(out.join(format!("{tar}.sha256")), format!("{digest}  {tar}\n"))?;
    let executables = binaries::NAMES.map(|name| {
        let sha256 = bom::sha256(shell, &folder.join(name))?;
        Ok(bom::Hashed { path: format!("bin/{name}"), sha256 })
    });
    let bill = bom::bill(&bom::Shipped {
        title: &title,
        version: &version,
        tar: &digest,
        executables: &executables.into_iter().collect::<Result<Vec<_>>>()?,
        linked: &linked,
        checksums: &bom::checksums(&shell.read_file("Cargo.lock")?),
        beside: &beside,
    })?;
    let bill_name = format!("{title}.cdx.json");
    shell.write_file(out.join(&bill_name), bill)?;
    // One of an earlier tar would not fit.
    let signature = format!("{tar}.sig");
    shell.remove_path(out.join(&signature))?;
    let mut shipped = vec![tar.clone(), bill_name];
    if let Some(signing) = signing {
        sign(project, &folder.join("nimctl"), &out.join(&tar), signing)?;
        shipped.push(signature);
    }
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

/// Signs a tar with the `nimctl` that is in it; the signature goes beside.
fn sign(project: &Project, nimctl: &Path, tar: &Path, signing: &Signing) -> Result<()> {
    let Signing { key, certificate, chain } = signing;
    let certificate = certificate.iter().flat_map(|file| ["--certificate", file]);
    let chain = chain.iter().flat_map(|file| ["--chain", file]);
    execute(cmd!(project.shell, "{nimctl} sign {tar} --key {key} {certificate...} {chain...}"))
}

/// Writes the digests of files in a folder, as `sha256sum --check` reads them.
fn write_sums(project: &Project, out: &Path, files: &[String]) -> Result<()> {
    let shell = &project.shell;
    let _inside = shell.push_dir(out);
    let sums = read(cmd!(shell, "sha256sum {files...}"))?;
    shell.write_file(SUMS, sums)?;
    Ok(())
}

/// Returns the version of nimctl.
fn version(project: &Project) -> Result<String> {
    let package = read(cmd!(project.shell, "cargo pkgid --package nimctl"))?;
    let version = package.trim().rsplit(['#', '@']).next();
    version.map(str::to_owned).context("`cargo pkgid` printed no version")
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
    use super::{Order, Signing, parse};

    #[test]
    fn a_tar_is_made_signed_or_tried() {
        let parse = |line: &[&str]| parse(&line.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert!(matches!(parse(&[]), Ok(Order::Make(_, None))));
        assert!(matches!(parse(&["--out", "x"]), Ok(Order::Make(_, None))));
        assert!(matches!(parse(&["--try", "x"]), Ok(Order::Try(_))));
        let line = ["--key", "k", "--out", "x", "--chain", "a", "--certificate", "c", "--chain", "b"];
        let Ok(Order::Make(out, Some(signing))) = parse(&line) else { panic!("a signed tar") };
        let expected =
            Signing { key: "k".into(), certificate: Some("c".into()), chain: vec!["a".into(), "b".into()] };
        assert_eq!((out.to_str(), signing), (Some("x"), expected));
        for line in [
            &["x"][..],
            &["--out"],
            &["--out", "a", "b"],
            &["--out", "a", "--out", "b"],
            &["--try", "a", "--key", "k"],
            &["--certificate", "c"],
            &["--chain", "c", "--out", "x"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}

//! `THIRD-PARTY.txt`: whose code the executables contain, and under which terms, from the crates' own files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::bom::Beside;
use super::crates::{Linked, text};
use super::zig::Zig;
use crate::project::{Project, read};

/// How the names of files with terms begin, in lower case.
const NAMES: [&str; 6] = ["licence", "license", "copying", "copyright", "notice", "unlicense"];
/// The parts of LLVM that zig links to executables, each with its own file in zig's folder.
const LLVM: [&str; 3] = ["libcxx", "libcxxabi", "libunwind"];
/// Where rustc keeps the terms of Rust's standard library, below its root.
const RUST_LICENCES: &str = "share/doc/rust/licenses";
const RUST_LIBRARY_LICENCES: [&str; 2] = ["Apache-2.0.txt", "MIT.txt"];

/// What is linked in, and its terms.
struct Part {
    /// `serde 1.0.0`.
    title: String,
    /// The SPDX expression.
    licence: String,
    /// From where it is.
    source: String,
    /// Its files with terms: their names and texts.
    texts: Vec<(String, String)>,
}

/// What `THIRD-PARTY.txt` and the bill of materials say of what is linked in.
pub(super) struct ThirdParty {
    /// The text.
    pub(super) text: String,
    /// What is no crate.
    pub(super) beside: Vec<Beside>,
}

/// Returns both.
pub(super) fn third_party(project: &Project, linked: &Linked, zig: &Zig) -> Result<ThirdParty> {
    let crates = crates(&project.shell, linked)?;
    let parts: BTreeMap<String, Part> = crates.into_iter().map(|part| (part.title.clone(), part)).collect();
    let beside = [rust_library(project)?, llvm(&project.shell, zig)?];
    let listed =
        beside.iter().map(|part| Beside { title: part.title.clone(), licence: part.licence.clone() });
    let listed = listed.collect();
    let parts: Vec<Part> = parts.into_values().chain(beside).collect();
    Ok(ThirdParty { text: page(&parts), beside: listed })
}

/// Writes the list of parts, then each text once.
fn page(parts: &[Part]) -> String {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut texts: Vec<(&str, BTreeSet<String>)> = Vec::new();
    let mut page = format!(
        "The executables of nimctl contain code of {} others. Here are their names, licences and sources, with the numbers of the\n\
         texts below; a text that several have is here once.\n\n",
        parts.len()
    );
    for Part { title, licence, source, texts: own } in parts {
        let mut of_part = Vec::new();
        for (name, text) in own {
            let number = *numbers.entry(text).or_insert_with(|| {
                texts.push((text, BTreeSet::new()));
                texts.len()
            });
            texts[number - 1].1.insert(format!("{title}: {name}"));
            of_part.push(format!("[{number}]"));
        }
        _ = writeln!(page, "{title}\n    {licence}\n    {source}\n    {}", of_part.join(" "));
    }
    for (number, (text, of)) in (1..).zip(&texts) {
        _ = writeln!(page, "\n{}\n[{number}]", "=".repeat(80));
        for of in of {
            _ = writeln!(page, "    {of}");
        }
        _ = writeln!(page, "\n{}", text.trim_matches('\n'));
    }
    page
}

/// Returns the crates of others that are linked in. Our own have no source: their terms are the project's.
fn crates(shell: &Shell, linked: &Linked) -> Result<Vec<Part>> {
    let others = linked.packages.values().filter(|package| !package["source"].is_null());
    others.map(|package| crate_part(shell, package)).collect()
}

fn crate_part(shell: &Shell, package: &Value) -> Result<Part> {
    let title = format!("{} {}", text(&package["name"]), text(&package["version"]));
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    let folder = manifest.parent().with_context(|| format!("{title} has no folder"))?;
    let mut texts = Vec::new();
    find_texts(shell, folder, folder, &mut texts)?;
    let licence = text(&package["license"]);
    if texts.is_empty() {
        // Of these terms there is one text, whoever uses them.
        ensure!(
            licence == "Apache-2.0",
            "{title} ({licence}) comes without the text of its licence: see what its authors publish, and add it to \
             xtask/src/dist/licences.rs"
        );
        texts.push(("not in the crate; the usual text".into(), shell.read_file("LICENSE-APACHE")?));
    }
    let source = match &package["repository"] {
        Value::String(repository) => repository.clone(),
        _ => "crates".to_owned(),
    };
    Ok(Part { title, licence, source, texts })
}

/// Adds every file with terms in a crate, its parts of other origin included.
fn find_texts(shell: &Shell, root: &Path, folder: &Path, texts: &mut Vec<(String, String)>) -> Result<()> {
    for path in shell.read_dir(folder)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let lower = name.to_lowercase();
        if path.is_dir() {
            find_texts(shell, root, &path, texts)?;
        } else if NAMES.iter().any(|start| lower.starts_with(start)) && !is_code(&lower) {
            let bytes = shell.read_binary_file(&path)?;
            let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            texts.push((path.strip_prefix(root).unwrap_or(&path).display().to_string(), text));
        }
    }
    Ok(())
}

fn is_code(name: &str) -> bool {
    [".rs", ".py", ".toml", ".json", ".c", ".h"].iter().any(|ending| name.ends_with(ending))
}

fn rust_library(project: &Project) -> Result<Part> {
    let shell = &project.shell;
    let sysroot = read(cmd!(shell, "rustc --print sysroot"))?;
    let folder = Path::new(sysroot.trim()).join(RUST_LICENCES);
    let texts = RUST_LIBRARY_LICENCES.map(|name| {
        let text = shell.read_file(folder.join(name)).with_context(|| {
            format!("rustc came without {}: install it with rustup", folder.join(name).display())
        })?;
        Ok((name.to_owned(), text))
    });
    let version = read(cmd!(shell, "rustc --version"))?;
    Ok(Part {
        title: format!("Rust's standard library, of {}", version.trim()),
        licence: "MIT OR Apache-2.0".into(),
        source: "https://github.com/rust-lang/rust".into(),
        texts: texts.into_iter().collect::<Result<_>>()?,
    })
}

fn llvm(shell: &Shell, zig: &Zig) -> Result<Part> {
    let texts = LLVM.map(|name| {
        let file = zig.packages.join("ziglang/lib").join(name).join("LICENSE.TXT");
        Ok((format!("{name}/LICENSE.TXT"), shell.read_file(file)?))
    });
    Ok(Part {
        title: "LLVM's libc++, libc++abi and libunwind, and zig's compiler-rt".into(),
        licence: "Apache-2.0 WITH LLVM-exception AND MIT".into(),
        source: "https://ziglang.org".into(),
        texts: texts
            .into_iter()
            .chain([shell
                .read_file(zig.packages.join("ziglang/LICENSE"))
                .map(|text| ("zig/LICENSE".to_owned(), text))
                .map_err(Into::into)])
            .collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Part, page};

    #[test]
    fn a_text_that_several_have_is_written_once() {
        let part = |title: &str, texts: &[&str]| Part {
            title: title.into(),
            licence: "MIT".into(),
            source: "x".into(),
            texts: texts.iter().map(|text| ("LICENSE".to_owned(), (*text).to_owned())).collect(),
        };
        let page = page(&[part("a 1", &["one\n"]), part("b 2", &["two\n", "one\n"])]);
        assert!(page.contains("a 1\n    MIT\n    x\n    [1]\n"), "{page}");
        assert!(page.contains("b 2\n    MIT\n    x\n    [2] [1]\n"), "{page}");
        assert_eq!(page.matches("\none\n").count(), 1, "{page}");
        assert!(page.contains("[1]\n    a 1: LICENSE\n    b 2: LICENSE\n\none\n"), "{page}");
    }
}

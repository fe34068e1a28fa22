//! `tidy`: rules that no compiler checks.

mod circles;
mod code;
mod rules;

use anyhow::{Result, bail};
use xshell::cmd;

use crate::project::{Project, output, read, run as execute, say};

/// A rule that a file breaks.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    rule: String,
}

/// Checks every tracked file, every recipe and every manifest.
pub(crate) fn run(project: &Project) -> Result<()> {
    let shell = &project.shell;
    execute(cmd!(shell, "cargo build --quiet --workspace"))?;
    // Those too that are about to be committed.
    let listed = read(cmd!(shell, "git ls-files --cached --others --exclude-standard"))?;
    let mut findings = Vec::new();
    let mut uses = circles::Uses::default();
    let mut count = 0;
    let mut paths: Vec<&str> = listed.lines().filter(|path| project.root().join(path).is_file()).collect();
    paths.sort_unstable();
    for path in &paths {
        // What is no text has no rules.
        if let Ok(text) = String::from_utf8(shell.read_binary_file(path)?) {
            findings.extend(rules::check(path, &text));
            uses.add(path, &text);
            count += 1;
        }
    }
    findings.extend(uses.circles());
    for path in &paths {
        let verb: &[&str] = match path.split_once('/') {
            Some(("recipes", rest)) if rest.ends_with(".yaml") => &["recipe", "check"],
            Some(("manifests", rest)) if rest.ends_with(".yaml") => &["hash-profile"],
            _ => continue,
        };
        let answer = output(project.nimctl().args(verb).arg(path))?;
        if !answer.status.success() {
            let said = String::from_utf8_lossy(&answer.stderr).trim_end().to_owned();
            let rule = format!("`nimctl {}` refuses it: {said}", verb.join(" "));
            findings.push(Finding { path: (*path).to_owned(), line: 1, rule });
        }
    }
    for Finding { path, line, rule } in &findings {
        eprintln!("{path}:{line}: {rule}");
    }
    if !findings.is_empty() {
        bail!("{} places break a rule", findings.len());
    }
    say(&format!("{count} files are tidy"));
    Ok(())
}

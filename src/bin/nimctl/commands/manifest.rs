//! `nimctl manifest`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::files::atomic_file;
use nimctl::files::destination;
use nimctl::manifest::{self, Changed, FileChange, Form, ManifestDiff, ManifestDocument, file_path};
use nimctl::manifest_lint::{self, Finding, Severity};
use nimctl::ops::import_manifest::import_manifest;
use nimctl::ops::read_manifest::{read_manifest, refuse_newer_manifest};
use nimctl::release::PROFILES_FOLDER;
use serde::Serialize;

use crate::cli::Manifest;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::counted;

pub(crate) fn run(arguments: &Manifest, output: &Output) -> Result<ExitCode, Failure> {
    match arguments {
        Manifest::Lint { manifests } => lint(manifests, output),
        Manifest::Diff { old, new, exit_code } => diff(old, new, *exit_code, output),
        Manifest::Merge { manifests, destination } => {
            let mut documents = Vec::new();
            for path in manifests {
                documents.push((path.display().to_string(), read_manifest(path)?));
            }
            let merged =
                manifest::merge(&documents).map_err(|error| Failure::new(ErrorKind::Input, error))?;
            write(&merged, destination.as_deref(), manifests, output)
        }
        Manifest::Convert { manifest: path, to, destination } => {
            let document = read_manifest(path)?;
            let converted = match to.as_str() {
                "same" => document,
                _ => manifest::convert(&document, &path.display().to_string())
                    .map_err(|error| Failure::new(ErrorKind::Input, error))?,
            };
            write(&converted, destination.as_deref(), std::slice::from_ref(path), output)
        }
        Manifest::Import { profiles, files, destination } => {
            let document = import_manifest(profiles, files.as_deref())?;
            for profile in &document.manifest().profiles {
                if profile.workspace.files.is_empty() {
                    let name = profile.readable_name();
                    output.warning(&format!("profile {name} has no files; give their folder with --files"));
                }
            }
            write(&document, destination.as_deref(), std::slice::from_ref(profiles), output)
        }
    }
}

fn write(
    document: &ManifestDocument,
    destination: Option<&Path>,
    inputs: &[PathBuf],
    output: &Output,
) -> Result<ExitCode, Failure> {
    let text = document.to_yaml();
    let folder = destination.and_then(Path::parent);
    let moves = inputs.iter().any(|input| input.parent() != folder);
    let files = document.manifest().profiles.iter().flat_map(|profile| profile.workspace.files.values());
    let beside = files.filter(|file| file.uri.as_deref().and_then(file_path).is_some()).count();
    if moves && beside > 0 {
        output.warning(&format!(
            "{beside} files are in the folders of the manifests that were read, as their uris say: copy `{PROFILES_FOLDER}` from there to where the new manifest is"
        ));
    }
    match destination {
        None => output.data(&text),
        Some(path) => {
            destination::check(path, inputs.iter().map(PathBuf::as_path))?;
            refuse_newer_manifest(path)?;
            atomic_file::write(path, text.as_bytes())
                .map_err(|error| Failure::new(ErrorKind::Input, error))?;
            output.talk(&format!("wrote {}", path.display()));
        }
    }
    Ok(done())
}

fn lint(paths: &[PathBuf], output: &Output) -> Result<ExitCode, Failure> {
    let mut text = String::new();
    let mut views = Vec::new();
    let mut worst = None;
    for path in paths {
        let document = read_manifest(path)?;
        let findings = manifest_lint::lint(&document, path.parent().unwrap_or(Path::new("")));
        let form = match document.form() {
            Form::Schema2 => "schema 2.0",
            Form::Map2024 => "2024 form",
        };
        for finding in &findings {
            let Finding { position, profile, rule, message } = finding;
            let severity = match rule.severity() {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let path = path.display();
            let _ = writeln!(text, "{path}:{position}: {severity}[{}]: {profile}: {message}", rule.name());
        }
        let count = |severity| findings.iter().filter(|finding| finding.rule.severity() == severity).count();
        let _ = writeln!(
            text,
            "{}: {form}, {}: {}, {}, {}",
            path.display(),
            counted(document.manifest().profiles.len(), "profile"),
            counted(count(Severity::Error), "error"),
            counted(count(Severity::Warning), "warning"),
            counted(count(Severity::Note), "note"),
        );
        worst = worst.max(findings.iter().map(|finding| finding.rule.severity()).max());
        views.push(LintedView {
            path: path.display().to_string(),
            form: document.form(),
            findings: findings.into_iter().map(FindingView::new).collect(),
        });
    }
    output.result(&text, &LintView { schema: "nimctl.manifest-lint/1", manifests: views });
    Ok(if worst == Some(Severity::Error) { ExitCode::from(code(ErrorKind::Refused)) } else { done() })
}

/// `nimctl.manifest-lint/1`.
#[derive(Serialize)]
struct LintView {
    schema: &'static str,
    manifests: Vec<LintedView>,
}

#[derive(Serialize)]
struct LintedView {
    path: String,
    form: Form,
    findings: Vec<FindingView>,
}

#[derive(Serialize)]
struct FindingView {
    line: u32,
    column: u32,
    profile_id: String,
    rule: &'static str,
    severity: Severity,
    message: String,
}

impl FindingView {
    fn new(finding: Finding) -> Self {
        let Finding { position, profile, rule, message } = finding;
        Self {
            line: position.line,
            column: position.column,
            profile_id: profile,
            rule: rule.name(),
            severity: rule.severity(),
            message,
        }
    }
}

fn diff(old: &Path, new: &Path, exit_code: bool, output: &Output) -> Result<ExitCode, Failure> {
    let (old, new) = (read_manifest(old)?, read_manifest(new)?);
    let difference = manifest::diff(old.manifest(), new.manifest());
    let view = DiffView { schema: "nimctl.manifest-diff/1", difference: &difference };
    output.result(&diff_text(&difference), &view);
    Ok(if exit_code && !difference.is_empty() { ExitCode::from(code(ErrorKind::Refused)) } else { done() })
}

/// `nimctl.manifest-diff/1`.
#[derive(Serialize)]
struct DiffView<'a> {
    schema: &'static str,
    #[serde(flatten)]
    difference: &'a ManifestDiff,
}

fn diff_text(difference: &ManifestDiff) -> String {
    let ManifestDiff { added, removed, changed, unchanged } = difference;
    let mut text = String::new();
    for (id, name) in removed {
        let _ = writeln!(text, "- {name}\n    id     {id}");
    }
    for (id, name) in added {
        let _ = writeln!(text, "+ {name}\n    id     {id}");
    }
    for profile in changed {
        let Changed { name, old_id, new_id, tags, files } = profile;
        let what = if profile.changes_bytes() {
            "different files"
        } else if !tags.is_empty() {
            "only tags differ"
        } else {
            "same files, other uris"
        };
        let _ = writeln!(text, "~ {name}: {what}");
        if old_id == new_id {
            let _ = writeln!(text, "    id     {new_id}");
        } else {
            let _ = writeln!(text, "    id     {old_id}\n        →  {new_id}");
        }
        for (key, change) in tags {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "(none)".into());
            let _ = writeln!(text, "    tag    {key}: {} → {}", shown(&change.old), shown(&change.new));
        }
        for (path, change) in files {
            let change = match change {
                FileChange::Added => "added",
                FileChange::Removed => "removed",
                FileChange::Bytes => "different bytes",
                FileChange::Moved => "other uri",
            };
            let _ = writeln!(text, "    file   {path}: {change}");
        }
    }
    let counts = [removed.len(), added.len(), changed.len()];
    let [removed, added, changed] = counts;
    let _ = writeln!(text, "{removed} removed, {added} added, {changed} changed, {unchanged} unchanged");
    text
}

//! `nimctl store`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::ops::store_care::{
    self, Finding, FsckOptions, FsckReport, GcOptions, GcReport, RemovalKind, Seriousness, StoredProfile,
    Usage,
};
use nimctl::store::Store;
use nimctl::worker::host::Cancel;
use serde_json::{Value, json};

use crate::cli::{Global, StoreCare, StoreGc};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::progress::Bytes;
use crate::table::{counted, size, table, utc};

/// As many digits of an id are shown in a table; enough to name it by.
const SHOWN_DIGITS: usize = 12;

pub(crate) fn run(
    arguments: &StoreCare,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let root = environment::store_folder(global)?;
    match arguments {
        StoreCare::Ls => ls(&root, output),
        StoreCare::Du => du(&root, output),
        StoreCare::Gc(arguments) => gc(arguments, &root, output, cancel),
        StoreCare::Fsck { check_only } => fsck(*check_only, &root, output, cancel),
        StoreCare::Pin { profile, note } => pin(profile, note.clone(), &root, output),
        StoreCare::Unpin { profile } => unpin(profile, &root, output),
    }
}

fn ls(root: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let profiles = store_care::list(&Store::look_at_existing(root)?)?;
    let view = json!({
        "schema": "nimctl.store-profiles/1",
        "store": root,
        "profiles": profiles.iter().map(profile_view).collect::<Vec<Value>>(),
    });
    output.result(&ls_text(&profiles), &view);
    Ok(done())
}

fn ls_text(profiles: &[StoredProfile]) -> String {
    if profiles.is_empty() {
        return "the store has no profiles\n".into();
    }
    let row = |profile: &StoredProfile| {
        let model = profile.model.as_ref();
        let mut from = profile.recipe.as_ref().map(|recipe| recipe.display().to_string());
        if let Some(place) = &profile.place {
            from = Some(from.map_or_else(|| place.clone(), |recipe| format!("{recipe}, {place}")));
        }
        vec![
            model.map(|model| format!("{} {}", model.name, model.release)).unwrap_or_else(|| "?".into()),
            if profile.name.is_empty() { "?".into() } else { profile.name.clone() },
            profile.id.to_string()[..SHOWN_DIGITS].to_owned(),
            size(profile.size_bytes),
            size(profile.unique_bytes),
            profile.came_at.map_or_else(|| "?".into(), utc),
            from.unwrap_or_else(|| "?".into()),
            state(profile),
        ]
    };
    let rows: Vec<Vec<String>> = profiles.iter().map(row).collect();
    table(&["model", "profile", "id", "size", "unique", "since", "from", "state"], &rows)
}

fn state(profile: &StoredProfile) -> String {
    let mut words = Vec::new();
    if let Some(pin) = &profile.pin {
        words.push(match &pin.note {
            Some(note) => format!("pinned ({note})"),
            None => "pinned".into(),
        });
    }
    if profile.is_last_build {
        words.push("last build".into());
    }
    if !profile.is_complete {
        words.push("files missing".into());
    }
    words.join(", ")
}

fn profile_view(profile: &StoredProfile) -> Value {
    json!({
        "profile_id": profile.id,
        "name": profile.name,
        "model": profile.model,
        "recipe": profile.recipe,
        "place": profile.place,
        "size_bytes": profile.size_bytes,
        "unique_bytes": profile.unique_bytes,
        "since": profile.came_at.map(utc),
        "pinned": profile.pin.is_some(),
        "note": profile.pin.as_ref().and_then(|pin| pin.note.as_ref()),
        "last_build": profile.is_last_build,
        "complete": profile.is_complete,
    })
}

fn du(root: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let usage: Usage = store_care::usage(&Store::look_at_existing(root)?)?;
    let mut rows: Vec<Vec<String>> = usage
        .kinds
        .iter()
        .map(|(kind, usage)| vec![kind.name().into(), usage.files.to_string(), size(usage.size_bytes)])
        .collect();
    let files: u64 = usage.kinds.values().map(|usage| usage.files).sum();
    rows.push(vec!["total".into(), files.to_string(), size(usage.total_bytes())]);
    let kinds: Vec<Value> = usage
        .kinds
        .iter()
        .map(|(kind, usage)| json!({ "kind": kind.word(), "files": usage.files, "size_bytes": usage.size_bytes }))
        .collect();
    let view = json!({
        "schema": "nimctl.store-usage/1",
        "store": root,
        "kinds": kinds,
        "total_bytes": usage.total_bytes(),
    });
    output.result(&table(&["what", "files", "size"], &rows), &view);
    Ok(done())
}

fn gc(arguments: &StoreGc, root: &Path, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let StoreGc { dry_run, keep_last, max_size } = arguments;
    let store = match dry_run {
        true => Store::look_at_existing(root)?,
        false => Store::open_existing(root)?,
    };
    let options = GcOptions {
        dry_run: *dry_run,
        keep_last: keep_last.map(|keep| keep as usize),
        max_size_bytes: *max_size,
    };
    let waiting = || output.talk(WAITING);
    let report = store_care::gc(&store, &options, waiting, &|| cancel.is_cancelled())?;
    output.result(&gc_text(&report, *dry_run), &gc_view(&report, *dry_run, root));
    if report.is_too_large {
        let max = max_size.unwrap_or_default();
        output.warning(&format!(
            "the store takes {}, more than {}: what is left is pinned, in use, or the last build of a recipe",
            size(report.after_bytes),
            size(max)
        ));
        return Ok(ExitCode::from(code(ErrorKind::Refused)));
    }
    Ok(done())
}

const WAITING: &str = "waiting for another nimctl process that is writing to this store";

fn gc_text(report: &GcReport, dry_run: bool) -> String {
    let mut text = String::new();
    let (removed, freed) = match dry_run {
        true => ("would be removed", "would be freed"),
        false => ("removed", "freed"),
    };
    for removal in report.removed.iter().filter(|removal| removal.kind == RemovalKind::Profile) {
        let _ = writeln!(text, "profile {}: {}", removal.what, removal.why);
    }
    for (kind, name) in [
        (RemovalKind::Blob, ("file", "files")),
        (RemovalKind::Record, ("record of a build", "records of builds")),
        (RemovalKind::Description, ("description of what is gone", "descriptions of what is gone")),
        (RemovalKind::Partial, ("partial fetch", "partial fetches")),
    ] {
        let removals = || report.removed.iter().filter(move |removal| removal.kind == kind);
        let (count, name) = match (removals().count(), name) {
            (0, _) => continue,
            (1, (one, _)) => (1, one),
            (count, (_, many)) => (count, many),
        };
        let bytes: u64 = removals().map(|removal| removal.size_bytes).sum();
        let _ = writeln!(text, "{count} {name}, {}", size(bytes));
        if dry_run {
            for removal in removals() {
                let _ = writeln!(text, "  {}: {}, {}", removal.what, size(removal.size_bytes), removal.why);
            }
        }
    }
    for kept in &report.kept {
        let _ = writeln!(text, "profile {} {} stays: {}", kept.name, kept.id, kept.why);
    }
    if report.removed.is_empty() {
        let _ = writeln!(text, "nothing {removed}; the store takes {}", size(report.after_bytes));
    } else {
        let _ = writeln!(
            text,
            "{} {freed}; the store {} {}",
            size(report.freed_bytes()),
            if dry_run { "would take" } else { "takes" },
            size(report.after_bytes)
        );
    }
    text
}

fn gc_view(report: &GcReport, dry_run: bool, root: &Path) -> Value {
    let removed = report.removed.iter().map(|removal| {
        json!({
            "kind": removal.kind.word(),
            "what": removal.what,
            "size_bytes": removal.size_bytes,
            "why": removal.why,
        })
    });
    let kept =
        report.kept.iter().map(|kept| json!({ "profile_id": kept.id, "name": kept.name, "why": kept.why }));
    json!({
        "schema": "nimctl.store-gc/1",
        "store": root,
        "dry_run": dry_run,
        "removed": removed.collect::<Vec<Value>>(),
        "kept": kept.collect::<Vec<Value>>(),
        "freed_bytes": report.freed_bytes(),
        "before_bytes": report.before_bytes,
        "after_bytes": report.after_bytes,
    })
}

fn fsck(check_only: bool, root: &Path, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let store = match check_only {
        true => Store::look_at_existing(root)?,
        false => Store::open_existing(root)?,
    };
    let bytes = Bytes::new(output, "reading");
    let options = FsckOptions {
        check_only,
        parallel: std::thread::available_parallelism().map_or(1, usize::from),
        cancelled: &|| cancel.is_cancelled(),
        on_bytes: &|done, total| bytes.show(done, total),
    };
    let report = store_care::fsck(&store, &options, || output.talk(WAITING))?;
    bytes.finish();
    output.result(&fsck_text(&report, check_only), &fsck_view(&report, check_only, root));
    Ok(if report.wrong() == 0 { done() } else { ExitCode::from(code(ErrorKind::Refused)) })
}

fn fsck_text(report: &FsckReport, check_only: bool) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let Finding { path, problem, seriousness, repair, command } = finding;
        let mark = match seriousness {
            Seriousness::Wrong => "",
            Seriousness::Unfinished => "left by a process that ended early: ",
        };
        let _ = write!(text, "{path}: {mark}{problem}");
        if let Some(repair) = repair {
            let _ = write!(text, "; {}{repair}", if check_only { "would be " } else { "" });
        }
        if let Some(command) = command {
            let _ = write!(text, "; run `{command}`");
        }
        text.push('\n');
    }
    let verdict = match report.wrong() {
        0 => "nothing is wrong".to_owned(),
        count => counted(count, "problem"),
    };
    let _ = writeln!(
        text,
        "{}, {}, {} read: {verdict}",
        counted(report.profiles, "profile"),
        counted(report.blobs, "file"),
        size(report.read_bytes)
    );
    text
}

fn fsck_view(report: &FsckReport, check_only: bool, root: &Path) -> Value {
    let findings = report.findings.iter().map(|finding| {
        let Finding { path, problem, seriousness, repair, command } = finding;
        json!({
            "path": path,
            "problem": problem,
            "seriousness": seriousness.word(),
            "repair": repair,
            "command": command,
        })
    });
    json!({
        "schema": "nimctl.store-check/1",
        "store": root,
        "check_only": check_only,
        "profiles": report.profiles,
        "files": report.blobs,
        "read_bytes": report.read_bytes,
        "wrong": report.wrong(),
        "findings": findings.collect::<Vec<Value>>(),
    })
}

fn pin(named: &str, note: Option<String>, root: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let profile = store_care::pin(&Store::open_existing(root)?, named, note.clone())?;
    let view = json!({
        "schema": "nimctl.store-pin/1",
        "profile_id": profile.id,
        "name": profile.name,
        "pinned": true,
        "note": note,
    });
    output.result(&format!("{} {} is pinned\n", profile.name, profile.id), &view);
    Ok(done())
}

fn unpin(named: &str, root: &Path, output: &Output) -> Result<ExitCode, Failure> {
    let (profile, had_one) = store_care::unpin(&Store::open_existing(root)?, named)?;
    let view = json!({
        "schema": "nimctl.store-pin/1",
        "profile_id": profile.id,
        "name": profile.name,
        "pinned": false,
        "was_pinned": had_one,
    });
    let what = if had_one { "is no longer pinned" } else { "was not pinned" };
    output.result(&format!("{} {} {what}\n", profile.name, profile.id), &view);
    Ok(done())
}

//! `nimctl build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::manifest::MANIFEST_FILE;
use nimctl::ops::build::{self, BuildOptions, BuildReport, JobLine, Outcome, ProfileLine};
use nimctl::ops::error::PipelineError;
use nimctl::ops::event::OnEvent;
use nimctl::ops::quantize::QuantizeError;
use nimctl::ops::resolve::{RecipeFile, Resolved, resolve};
use nimctl::ops::workspace::Workspace;
use nimctl::recipe::Only;
use nimctl::report::{CompiledGraph, QuantizedGraphFacts};
use nimctl::worker::host::Cancel;
use nimctl::worklist::JobReason;
use serde::Serialize;

use super::precision;
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::progress::BuildProgress;
use crate::table::{counted, duration, size, table};

pub(crate) fn run(
    arguments: &cli::Build,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Build { recipe, manifest, only, fleet, dry_run, require_all, no_check, jobs, job_timeout } =
        arguments;
    let mut workspace = environment::workspace(global, *job_timeout, cancel)?;
    environment::use_fleet(&mut workspace, fleet)?;
    if let Some(jobs) = jobs {
        workspace.parallel_jobs = usize::from(*jobs);
    }
    let options = BuildOptions {
        manifest: manifest.clone().unwrap_or_else(|| default_manifest(recipe)),
        require_all: *require_all,
        check: !no_check,
    };
    let progress = BuildProgress::new(output);
    let show = |event| progress.show(event);
    let report = resolved(&workspace, recipe, only.as_ref(), &show).and_then(|mut resolved| {
        if *dry_run {
            return Ok(build::plan(&resolved, &show));
        }
        build::build(&workspace, &mut resolved, &options, &show)
    });
    progress.finish();
    let report = report?;
    output.result(&text(&report, arguments.dry_run), &View::new(&report));
    precision::warnings(&report.checks).iter().for_each(|warning| output.warning(warning));
    if let (Some(manifest), true) = (&report.manifest, report.manifest_changed) {
        output.talk(&format!("wrote {}", manifest.display()));
    }
    match report.failure() {
        None => {
            tell_dropped(&report, &options.manifest, output);
            Ok(done())
        }
        Some(first) => {
            let manifest = match &report.manifest {
                Some(path) => format!("{} has the others", path.display()),
                None if report.dropped.is_empty() => "no manifest was written".into(),
                None => format!(
                    "{} was not changed, since it has profiles that this store has not built for the current recipe",
                    options.manifest.display()
                ),
            };
            let failed = report.failed();
            let profiles = if failed == 1 { "profile" } else { "profiles" };
            output.problem(&format!(
                "{failed} {profiles} failed: {manifest}; finished jobs are kept in the store"
            ));
            let is_of_graph = !first.source.is::<QuantizeError>();
            if first.kind == ErrorKind::Input && is_of_graph {
                output.hint(&format!(
                    "`nimctl check {}` says which nodes stand in the way, and what to do",
                    recipe.display()
                ));
            }
            Ok(ExitCode::from(code(first.kind)))
        }
    }
}

/// Warns of profiles of the old manifest that were dropped, or would have been.
fn tell_dropped(report: &BuildReport, manifest: &Path, output: &Output) {
    let (count, ids) = (report.dropped.len(), report.dropped.join(", "));
    let profiles = counted(count, "profile");
    if report.manifest.is_some() && count > 0 {
        output.warning(&format!(
            "{} no longer contains {profiles} that this store has not built: {ids}",
            manifest.display()
        ));
    } else if count > 0 {
        output.warning(&format!(
            "{} was not changed: it has {profiles} that this store has not built for the current recipe \
             ({ids}); build them too, or write to another file with --manifest",
            manifest.display()
        ));
    }
}

/// Reads and resolves a recipe.
pub(super) fn resolved(
    workspace: &Workspace,
    recipe: &Path,
    only: Option<&Only>,
    on_event: OnEvent<'_>,
) -> Result<Resolved, PipelineError> {
    resolve(workspace, RecipeFile::read(recipe)?, only, on_event)
}

fn default_manifest(recipe: &Path) -> PathBuf {
    Path::new("manifests").join(recipe.file_stem().unwrap_or_default()).join(MANIFEST_FILE)
}

fn text(report: &BuildReport, dry_run: bool) -> String {
    let BuildReport {
        model: (model, release),
        jobs,
        profiles,
        checks,
        manifest,
        manifest_changed: _,
        dropped: _,
    } = report;
    let mut text = format!("{model} {release}\n\n");
    if dry_run {
        let row = |job: &JobLine| {
            let place = job.executor.clone().unwrap_or_else(|| "here".into());
            let state = if job.reason.is_some() { "run" } else { "up to date" };
            vec![job.title.clone(), place, state.into(), job.reason_lines().join("; ")]
        };
        let mut rows: Vec<Vec<String>> = jobs.iter().map(row).collect();
        let mut heading = vec!["JOB", "WHERE", "STATE", "WHY"];
        if jobs.iter().all(|job| job.executor.is_none()) {
            heading.remove(1);
            rows.iter_mut().for_each(|row| _ = row.remove(1));
        }
        text.push_str(&table(&heading, &rows));
    }
    let rows: Vec<Vec<String>> = profiles.iter().filter_map(row).collect();
    if !rows.is_empty() {
        text.push_str(&table(&["PROFILE", "ID", "SIZE", "BUILD TIME"], &rows));
    }
    let mut others = |heading: &str, pick: &dyn Fn(&Outcome) -> Option<String>| {
        let lines: Vec<String> = profiles
            .iter()
            .filter_map(|ProfileLine { name, outcome }| {
                Some(format!("  {name}: {}\n", pick(outcome)?).replace(": \n", "\n"))
            })
            .collect();
        if !lines.is_empty() {
            text.push_str(&format!("\n{heading}:\n{}", lines.concat()));
        }
    };
    others("to build", &|outcome| matches!(outcome, Outcome::Planned).then(String::new));
    others("up to date", &|outcome| matches!(outcome, Outcome::UpToDate).then(String::new));
    others("not built here", &|outcome| match outcome {
        Outcome::NotBuiltHere(needs) => Some(needs.clone()),
        _ => None,
    });
    others("not selected", &|outcome| matches!(outcome, Outcome::NotSelected).then(String::new));
    others("failed", &|outcome| match outcome {
        Outcome::Failed(error) => Some(error.message.clone()),
        _ => None,
    });
    let rows: Vec<Vec<String>> = profiles.iter().flat_map(quantized_rows).collect();
    if !rows.is_empty() {
        let heading =
            ["QUANTIZED", "GRAPH", "METHOD", "KEPT", "MIN COSINE", "IN THE PLAN", "PRODUCTS", "ATTENTION"];
        text.push_str(&format!("\n{}", table(&heading, &rows)));
    }
    text.push_str(&precision::text(checks));
    if let Some(manifest) = manifest {
        let ran = jobs.iter().filter(|job| job.reason.is_some()).count();
        let what = if ran == 0 {
            "nothing to do".into()
        } else {
            format!("{ran} of {} ran", counted(jobs.len(), "job"))
        };
        text.push_str(&format!("\n{what}; manifest: {}\n", manifest.display()));
    }
    text
}

fn row(profile: &ProfileLine) -> Option<Vec<String>> {
    match &profile.outcome {
        Outcome::Built {
            id,
            tags: _,
            size_bytes,
            total_ms,
            ran_now,
            passport: _,
            quantized: _,
            compiled: _,
        } => {
            let cached = if *ran_now { "" } else { " (earlier)" };
            Some(vec![
                profile.name.clone(),
                id.to_string(),
                size(*size_bytes),
                format!("{}{cached}", duration(*total_ms)),
            ])
        }
        _ => None,
    }
}

/// Returns a row for each quantized graph of a profile: how it was quantized, what it came to on calibration rows, how many of
/// its nodes are so in the plan, and what the compiler made of all.
fn quantized_rows(profile: &ProfileLine) -> Vec<Vec<String>> {
    let Outcome::Built { quantized, compiled, .. } = &profile.outcome else { return Vec::new() };
    let row = |facts: &QuantizedGraphFacts| {
        let of_graph = compiled.iter().find(|one| one.graph == facts.graph);
        let kept = match facts.kept.len() {
            0 => "none".into(),
            count => format!("{count} ({:.1} %)", facts.kept_share * 100.0),
        };
        vec![
            profile.name.clone(),
            facts.graph.clone(),
            facts.method.clone(),
            kept,
            format!("{:.5}", facts.on_calibration.0),
            facts.in_plan.map_or("-".into(), |(found, of)| format!("{found} of {of} nodes")),
            of_graph.map_or("-".into(), |graph| graph.products.clone()),
            of_graph.map_or("-".into(), |graph| graph.attention.clone()),
        ]
    };
    quantized.iter().map(row).collect()
}

/// `nimctl.build-report/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    model: &'a str,
    release: &'a str,
    manifest: Option<&'a Path>,
    manifest_changed: bool,
    dropped: &'a [String],
    jobs: Vec<JobView<'a>>,
    profiles: Vec<ProfileView<'a>>,
    checks: Vec<precision::CheckView<'a>>,
}

#[derive(Serialize)]
struct JobView<'a> {
    title: &'a str,
    key: &'a str,
    profiles: &'a [String],
    reason: Option<&'a JobReason>,
    /// The executor of the fleet that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    executor: Option<&'a str>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    name: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a nimctl::profile::Tags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    built_now: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passport: Option<&'a Path>,
    #[serde(skip_serializing_if = "<[QuantizedGraphFacts]>::is_empty")]
    quantized: &'a [QuantizedGraphFacts],
    #[serde(skip_serializing_if = "<[CompiledGraph]>::is_empty")]
    compiled: &'a [CompiledGraph],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> View<'a> {
    fn new(report: &'a BuildReport) -> Self {
        let BuildReport {
            model: (model, release),
            jobs,
            profiles,
            checks,
            manifest,
            manifest_changed,
            dropped,
        } = report;
        let job = |line: &'a JobLine| {
            let JobLine { title, key, profiles, reason, executor } = line;
            JobView { title, key, profiles, reason: reason.as_ref(), executor: executor.as_deref() }
        };
        Self {
            schema: "nimctl.build-report/1",
            model,
            release,
            manifest: manifest.as_deref(),
            manifest_changed: *manifest_changed,
            dropped,
            jobs: jobs.iter().map(job).collect(),
            profiles: profiles.iter().map(ProfileView::new).collect(),
            checks: checks.iter().map(precision::CheckView::new).collect(),
        }
    }
}

impl<'a> ProfileView<'a> {
    fn new(line: &'a ProfileLine) -> Self {
        let empty = |status, reason| Self {
            name: &line.name,
            status,
            id: None,
            tags: None,
            size_bytes: None,
            build_ms: None,
            built_now: None,
            passport: None,
            quantized: &[],
            compiled: &[],
            reason,
        };
        match &line.outcome {
            Outcome::Built { id, tags, size_bytes, total_ms, ran_now, passport, quantized, compiled } => {
                Self {
                    id: Some(id.to_string()),
                    tags: Some(tags),
                    size_bytes: Some(*size_bytes),
                    build_ms: Some(*total_ms),
                    built_now: Some(*ran_now),
                    passport: Some(passport),
                    quantized,
                    compiled,
                    ..empty("built", None)
                }
            }
            Outcome::Planned => empty("planned", None),
            Outcome::UpToDate => empty("up_to_date", None),
            Outcome::NotBuiltHere(needs) => empty("not_built_here", Some(needs.as_str())),
            Outcome::NotSelected => empty("not_selected", None),
            Outcome::Failed(error) => empty("failed", Some(error.message.as_str())),
        }
    }
}

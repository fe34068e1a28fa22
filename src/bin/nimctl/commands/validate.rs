//! `nimctl validate`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::ops::resolve::resolve;
use nimctl::ops::samples::SeededInput;
use nimctl::ops::validate::{
    ComparedWith, Place, Replay, Subjects, ValidateOptions, ValidateReport, ValidatedProfile, find_subjects,
    replay, validate, validate_pulled,
};
use nimctl::passport::{Passport, Status};
use nimctl::profile::ProfileId;
use nimctl::recipe::Only;
use nimctl::store::Store;
use nimctl::validation::{Emulated, GateResult, gate_is_bound_above};
use nimctl::worker::host::Cancel;
use serde::Serialize;
use serde_json::json;

use super::admission::Admission;
use crate::cli::{self, Global};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::{counted, table};

const GATE_HEADING: [&str; 7] = ["  GATE", "OF", "SHAPES", "FOUND", "WANTED", "WORST ROW", ""];

pub(crate) fn run(
    arguments: &cli::Validate,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Validate {
        subjects,
        only,
        execution,
        fleet,
        trust,
        gates,
        replay: place,
        replay_folder,
        timeout,
    } = arguments;
    let admission = Admission::in_place(trust, global)?;
    let mut workspace = environment::workspace(global, *timeout, cancel)?;
    environment::use_fleet(&mut workspace, fleet)?;
    let execution = execution.wanted();
    let (recipe, ids) = match find_subjects(subjects, &Store::look_at(&workspace.store))? {
        Subjects::OfRecipe { recipe, ids } => (*recipe, ids),
        Subjects::WithoutRecipe { profiles, not_here } => {
            if place.is_some() {
                let error = anyhow::anyhow!("--replay needs the recipe that the profile was built from");
                return Err(Failure::new(ErrorKind::Input, error));
            }
            let profiles = chosen(profiles, only.as_ref())?;
            let gate = match &admission {
                Some(admission) => Some(admission.gate(subjects.iter().map(Path::new), cancel)?),
                None => None,
            };
            if let Some((admission, gate)) = admission.as_ref().zip(gate.as_ref()) {
                admission.check(gate, &profiles, output)?;
            }
            let may_load = |passport: &Passport| match gate.as_ref().map(|gate| gate.admit(passport)) {
                Some(Err(error)) => {
                    output.warning(&format!("nothing is compared with {}: {error}", passport.name));
                    false
                }
                Some(Ok(_)) | None => true,
            };
            let why = "the store does not have it: pull it first";
            let not_here = not_here.into_iter().map(|id| (id.to_string(), why.into())).collect();
            let report =
                validate_pulled(&workspace, &profiles, not_here, &execution, &may_load, &|profile| {
                    output.talk(&format!("{}: {}", profile.name, verdict(profile)));
                })?;
            output.result(&text(&report, *gates), &View::new(&report));
            return Ok(report.failure().map_or_else(done, |kind| ExitCode::from(code(kind))));
        }
    };
    let resolved = resolve(&workspace, recipe, only.as_ref(), &|_| ())?;
    if let Some(admission) = &admission {
        let gate = admission.gate(subjects.iter().map(Path::new), cancel)?;
        let is_named = |passport: &Passport| ids.as_ref().is_none_or(|ids| ids.contains(&passport.id));
        gate.admit_recipe(&resolved, &is_named)?;
    }
    if let Some(place) = place {
        let folder = replay_folder
            .clone()
            .unwrap_or_else(|| PathBuf::from(format!("replay-{}", place.to_string().replace('/', "-"))));
        return Ok(replayed(&replay(&workspace, &resolved, &execution, place, &folder)?, output));
    }
    let options = ValidateOptions { execution: &execution, ids: ids.as_ref(), take_over: false };
    let report = validate(&workspace, &resolved, &options, &|profile| {
        output.talk(&format!("{}: {}", profile.name, verdict(profile)));
    })?;
    output.result(&text(&report, *gates), &View::new(&report));
    if report.profiles.is_empty() {
        let recipe = resolved.file().path.as_path();
        let error =
            anyhow::anyhow!("the store has no profile of {}: nothing was validated", recipe.display());
        return Err(Failure::new(ErrorKind::Refused, error)
            .hint(Some(format!("run `nimctl build {}` first", recipe.display()))));
    }
    Ok(report.failure().map_or_else(done, |kind| ExitCode::from(code(kind))))
}

/// Returns the profiles that `--only` chooses.
fn chosen(profiles: Vec<Passport>, only: Option<&Only>) -> Result<Vec<Passport>, Failure> {
    let Some(only) = only else { return Ok(profiles) };
    let names: Vec<String> = profiles.iter().map(|passport| passport.name.clone()).collect();
    let is_chosen = |passport: &Passport| only.chooses(&passport.name, &passport.tags);
    let chosen: Vec<Passport> = profiles.into_iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        let error = anyhow::anyhow!("--only {only} selects none of the profiles: {}", names.join(", "));
        return Err(Failure::new(ErrorKind::Input, error));
    }
    Ok(chosen)
}

/// Prints the result of a replayed row.
fn replayed(replay: &Replay, output: &Output) -> ExitCode {
    let Replay { name, ran_on, gates, folder } = replay;
    let rows: Vec<Vec<String>> = gates.iter().map(gate_row).collect();
    let text = format!(
        "{name}, ran on {ran_on}\n{}\ninputs and outputs: {}\n",
        table(&GATE_HEADING, &rows),
        folder.display()
    );
    let view = json!({
        "schema": "nimctl.replay/1", "name": name, "ran_on": ran_on, "gates": gates, "folder": folder,
    });
    output.result(&text, &view);
    let passed = gates.iter().all(|gate| gate.passed);
    if passed { done() } else { ExitCode::from(code(ErrorKind::Refused)) }
}

/// Returns what was emulated beside a profile that was executed in another precision than its own.
fn emulated(status: &Status) -> Option<&Emulated> {
    status.validation()?.emulated.as_ref()
}

fn verdict(profile: &ValidatedProfile) -> &'static str {
    match profile.status.validation() {
        Some(validation) if !validation.passed => "failed",
        Some(_) if profile.compared_with == ComparedWith::Nothing => "not compared",
        Some(_) => "passed",
        None => "skipped",
    }
}

/// Says what the gates of a profile that was run by itself checked of its outputs.
fn held(gates: &[GateResult]) -> &'static str {
    let has = |name: &str| gates.iter().any(|gate| gate.gate == name);
    match (has("finite"), has("batch_invariance")) {
        (true, true) => {
            "its outputs are complete, its floating-point outputs finite, and rows alone the same as in a batch"
        }
        (true, false) => "its outputs are complete, and its floating-point outputs finite",
        (false, true) => "its outputs are complete, and rows alone the same as in a batch",
        (false, false) => "its outputs are complete",
    }
}

/// Says what the numbers of profiles without a recipe were compared with, and what their releases found.
fn without_recipe(profiles: &[ValidatedProfile]) -> String {
    let mut text = String::new();
    for ValidatedProfile { name, status, compared_with, of_release, .. } in profiles {
        let Some(of_release) = of_release else { continue };
        let _ = match (compared_with, status) {
            (ComparedWith::Recipe, _) => Ok(()),
            (_, Status::Skipped(why)) => writeln!(text, "\n{name}: {why}"),
            (ComparedWith::Profile { name: fp32, id: _ }, _) if fp32 == name => {
                writeln!(text, "\n{name}: it is the FP32 graph, and was compared with a run of it on the CPU")
            }
            (ComparedWith::Profile { name: fp32, id: _ }, _) => {
                writeln!(text, "\n{name}: compared with {fp32} of the same release")
            }
            (ComparedWith::Nothing, status) => {
                let _ = writeln!(
                    text,
                    "\n{name}: its numbers were compared with nothing: the FP32 profile of its release is not in the store"
                );
                match status.validation().filter(|validation| validation.passed) {
                    None => Ok(()),
                    Some(validation) => {
                        writeln!(text, "  it was loaded and run: {}", held(&validation.gates))
                    }
                }
            }
        };
        let found = match of_release.validation() {
            None => of_release.word().to_owned(),
            Some(validation) => {
                let passed = validation.gates.iter().filter(|gate| gate.passed).count();
                let verdict = if validation.passed { "passed" } else { "failed" };
                format!(
                    "{}, {verdict}, {passed} of {}, {}",
                    of_release.word(),
                    counted(validation.gates.len(), "gate"),
                    validation.ran_on
                )
            }
        };
        let _ = writeln!(text, "  what its release found, which its passport keeps: {found}");
    }
    text
}

fn text(report: &ValidateReport, all_gates: bool) -> String {
    let ValidateReport { model: (model, release), profiles, not_built, seeded } = report;
    let mut text = format!("{model} {release}\n\n");
    let min = |gates: &[GateResult], gate: &str| {
        let values = gates.iter().filter(|result| result.gate == gate).filter_map(|result| result.value);
        values.min_by(f64::total_cmp).map_or_else(|| "-".into(), |value| format!("{value:.7}"))
    };
    let counts = |gates: &[GateResult]| {
        let passed = gates.iter().filter(|gate| gate.passed).count();
        format!("{passed} of {}", gates.len())
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for profile in profiles {
        let ValidatedProfile { name, status, .. } = profile;
        let (cosine, gates) = match status.validation() {
            Some(validation) => (min(&validation.gates, "row_cosine"), counts(&validation.gates)),
            None => ("-".into(), "-".into()),
        };
        rows.push(vec![name.clone(), status.word().into(), verdict(profile).into(), cosine, gates]);
        if let Some(Emulated { gates, precision, .. }) = emulated(status) {
            let passed = if gates.iter().all(|gate| gate.passed) { "passed" } else { "failed" };
            let name = format!("  {precision}");
            let cosine = min(gates, "row_cosine");
            rows.push(vec![name, "emulated".into(), passed.into(), cosine, counts(gates)]);
        }
    }
    text.push_str(&table(&["PROFILE", "STATUS", "VERDICT", "MIN COSINE", "GATES PASSED"], &rows));
    for ValidatedProfile { name, status, .. } in profiles {
        let Some(validation) = status.validation() else { continue };
        if let Some(failure) = &validation.failure {
            let _ = writeln!(text, "\n{name}: {failure}");
        }
        let mut show = |what: &str, gates: &[GateResult]| {
            let shown: Vec<&GateResult> = gates.iter().filter(|gate| all_gates || !gate.passed).collect();
            if !shown.is_empty() {
                let rows: Vec<Vec<String>> = shown.into_iter().map(gate_row).collect();
                let _ = write!(text, "\n{name}, {what}\n{}", table(&GATE_HEADING, &rows));
            }
        };
        show(&format!("ran on {}", validation.ran_on), &validation.gates);
        if let Some(Emulated { gates, precision, .. }) = &validation.emulated {
            show(&format!("lowered graph with {precision} emulated"), gates);
        }
        for what in &validation.not_compared {
            let _ = writeln!(text, "\n{name}: not compared: {what}");
        }
        if let Some(place) = validation.failed().find_map(place_of) {
            let _ = writeln!(text, "\nto inspect this row: --only {name} --replay {place}");
            if name.ends_with("-fp16") || name.ends_with("-bf16") {
                text.push_str(
                    "if the samples are unlike real inputs, name real ones (docs/recipe.md, samples); if they are real, keep more nodes in \
                     FP32:\nadd `search: { min_row_cosine: 0.99999 }` to `lowering` in the recipe (docs/lowering.md)\n",
                );
            }
        }
    }
    if let Some(Emulated { executed_in, precision, .. }) =
        profiles.iter().find_map(|profile| emulated(&profile.status))
    {
        let _ = writeln!(
            text,
            "\nexecuted in {executed_in}: ONNX Runtime computes {precision} in {executed_in} on the CPU; the lowered graph was also run, \
             with {precision} emulated"
        );
    }
    let left_out: Vec<&str> = profiles
        .iter()
        .filter_map(|profile| emulated(&profile.status))
        .flat_map(|emulated| emulated.left_out.iter().map(String::as_str))
        .collect();
    if !left_out.is_empty() {
        let _ = writeln!(text, "not emulated, because it would take long: {}", left_out.join(", "));
    }
    let reasons: Vec<&str> = profiles
        .iter()
        .filter_map(|profile| profile.status.validation()?.not_executed_because.as_deref())
        .collect();
    if let Some(reason) = reasons.first() {
        let _ = writeln!(text, "\nstatic: {reason}; the lowered graph was run on the CPU instead, emulated");
    }
    text.push_str(&without_recipe(profiles));
    if profiles.iter().any(|profile| profile.compared_with == ComparedWith::Nothing) {
        text.push_str("\nto compare numbers, pull the FP32 profile of the same release too, if it has one (`nimctl pull --profile`)\n");
    }
    text.push_str(&match profiles.iter().any(|profile| profile.of_release.is_some()) {
        true => seeded_list(seeded, "a release has no samples"),
        false => seeded_text(seeded),
    });
    if !not_built.is_empty() {
        text.push_str("\nnot validated:\n");
        let (named, ids): (Vec<_>, Vec<_>) =
            not_built.iter().partition(|(name, _)| ProfileId::from_hex(name).is_err());
        for (name, why) in named {
            let _ = writeln!(text, "  {name}: {why}");
        }
        if let [(id, why)] = ids.as_slice() {
            let _ = writeln!(text, "  {id}: {why}");
        } else if !ids.is_empty() {
            let short: Vec<&str> = ids.iter().map(|(id, _)| &id[..12]).collect();
            let _ = writeln!(
                text,
                "  {} profiles that the store does not have: pull them first\n    {}",
                ids.len(),
                short.join(" ")
            );
        }
    }
    text
}

/// Lists the inputs without samples in the recipe, and the values that they were run on.
pub(super) fn seeded_text(seeded: &[SeededInput]) -> String {
    seeded_list(seeded, "the recipe has no `samples` for them")
}

fn seeded_list(seeded: &[SeededInput], because: &str) -> String {
    if seeded.is_empty() {
        return String::new();
    }
    let mut text = format!("\nrun on seeded values because {because}:\n");
    for SeededInput { graph, input, sample } in seeded {
        let _ = writeln!(text, "  {graph}/{input}: {sample}");
    }
    text
}

/// Returns the place to replay the worst row of a gate; `None` for a gate over several graphs.
fn place_of(result: &GateResult) -> Option<Place> {
    let (graph, _) = result.subject.split_once('/')?;
    let shapes = Some(result.shapes.as_str()).filter(|shapes| matches!(*shapes, "min" | "opt" | "max"))?;
    Some(Place { graph: graph.into(), shapes: shapes.into(), row: result.worst_row? })
}

fn gate_row(result: &GateResult) -> Vec<String> {
    let GateResult { gate, subject, shapes, value, threshold, passed, worst_row } = result;
    let sign = if gate_is_bound_above(gate) { "≤" } else { "≥" };
    vec![
        format!("  {gate}"),
        subject.clone(),
        shapes.clone(),
        value.map_or_else(|| "not a number".into(), |value| format!("{value:.7}")),
        format!("{sign} {threshold}"),
        worst_row.map_or_else(|| "-".into(), |row| row.to_string()),
        if *passed { String::new() } else { "FAILED".into() },
    ]
}

/// `nimctl.validation/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    model: &'a str,
    release: &'a str,
    profiles: Vec<ProfileView<'a>>,
    not_validated: Vec<NotValidatedView<'a>>,
    seeded_inputs: Vec<SeededView<'a>>,
}

/// An input without samples in the recipe.
#[derive(Serialize)]
pub(super) struct SeededView<'a> {
    graph: &'a str,
    input: &'a str,
    sample: String,
}

impl<'a> SeededView<'a> {
    pub(super) fn all(seeded: &'a [SeededInput]) -> Vec<Self> {
        let one = |SeededInput { graph, input, sample }: &'a SeededInput| Self {
            graph,
            input,
            sample: sample.to_string(),
        };
        seeded.iter().map(one).collect()
    }
}

#[derive(Serialize)]
struct ProfileView<'a> {
    profile_id: String,
    name: &'a str,
    verdict: &'static str,
    compared_with: ComparedView<'a>,
    status: &'a Status,
    /// What its release found; left out for a profile with a recipe.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_release: Option<&'a Status>,
}

/// What the numbers were compared with.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ComparedView<'a> {
    Recipe,
    Profile { profile_id: String, name: &'a str },
    Nothing,
}

#[derive(Serialize)]
struct NotValidatedView<'a> {
    name: &'a str,
    reason: &'a str,
}

impl<'a> View<'a> {
    fn new(report: &'a ValidateReport) -> Self {
        let ValidateReport { model: (model, release), profiles, not_built, seeded } = report;
        let view = |profile: &'a ValidatedProfile| ProfileView {
            profile_id: profile.id.to_string(),
            name: &profile.name,
            verdict: verdict(profile),
            compared_with: match &profile.compared_with {
                ComparedWith::Recipe => ComparedView::Recipe,
                ComparedWith::Profile { name, id } => {
                    ComparedView::Profile { profile_id: id.to_string(), name }
                }
                ComparedWith::Nothing => ComparedView::Nothing,
            },
            status: &profile.status,
            of_release: profile.of_release.as_ref(),
        };
        Self {
            schema: "nimctl.validation/1",
            model,
            release,
            profiles: profiles.iter().map(view).collect(),
            seeded_inputs: SeededView::all(seeded),
            not_validated: not_built.iter().map(|(name, reason)| NotValidatedView { name, reason }).collect(),
        }
    }
}

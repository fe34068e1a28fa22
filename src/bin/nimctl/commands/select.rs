//! `nimctl select`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use nimctl::device::{Host, ProblemKind, Slot};
use nimctl::error_kind::ErrorKind;
use nimctl::manifest::{ManifestProfile, is_set};
use nimctl::ops::select::{SelectOptions, SelectReport, select};
use nimctl::profile::TagSelector;
use nimctl::profile::Tags;
use nimctl::selection::{self, Answer, Facts, Lora, Rank};
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::admission::Admission;
use crate::cli::{self, Global};
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::table;
use crate::{devices, environment};

pub(crate) fn run(
    arguments: &cli::Select,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Select { selection, profile, tags, allow_unsafe, trust, explain, id } = arguments;
    let admission = Admission::in_place(trust, global)?;
    let host = devices::host(&selection.devices)?;
    warn_of_problems(&host, output);
    let manifest = environment::manifest(selection.manifest.as_deref())?;
    let pin = environment::pinned_profile(profile.as_deref());
    if let (Some((pinned, by)), Some(flag)) = (&pin, profile)
        && pinned != flag
    {
        output.warning(&format!("{by} is set and overrides --profile {flag}"));
    }
    let selector = match environment::tag_selector(tags.as_deref()) {
        Some((text, by)) => text
            .parse::<TagSelector>()
            .map_err(|error| Failure::new(ErrorKind::Input, anyhow::Error::new(error).context(by)))?,
        None => TagSelector::default(),
    };
    let store = environment::store_folder(global).ok();
    let allow_unsafe = *allow_unsafe || environment::allows_unsafe();
    let lora = if environment::requests_lora() { Lora::Preferred } else { Lora::Excluded };
    let manifest = &manifest;
    let options = SelectOptions { manifest, store: store.as_deref(), selector, pin, allow_unsafe, lora };
    let report = select(&options, &host)?;
    for answer in &report.answers {
        warn_of_doubts(&report, answer, output);
    }
    let failure = report.check().err();
    let chosen = report.answers.iter().filter_map(|answer| report.chosen(answer));
    let ids: Vec<String> = chosen.map(|place| report.profiles()[place].id.clone()).collect();
    if let Some(admission) = &admission {
        let gate = admission.gate([manifest.as_path()], cancel)?;
        admission.check_listed(&gate, &report.document, &ids, output)?;
    }
    if *id {
        output.data(&ids.join("\n"));
    } else if failure.is_none() || output.is_json() {
        output.result(&text(&report, *explain), &View::new(&report));
    }
    match failure {
        None => Ok(done()),
        Some(error) if output.is_json() && !*id => {
            // The answers, with every reason, are already printed.
            output.problem(error.to_string().lines().next().unwrap_or_default());
            Ok(ExitCode::from(code(error.kind())))
        }
        Some(error) => Err(error.into()),
    }
}

/// Warns of facts about the host that could not be read, since they decide what fits.
pub(super) fn warn_of_problems(host: &Host, output: &Output) {
    let of_devices = host.devices.iter().flat_map(|device| &device.problems);
    for problem in host.problems.iter().chain(of_devices) {
        if problem.kind != ProblemKind::NoGpu {
            output.warning(&problem.message);
        }
    }
    warn_of_hidden(host, output);
}

/// Warns of GPUs and MIG instances that a variable hides, by name.
fn warn_of_hidden(host: &Host, output: &Output) {
    const SHOWN: usize = 4;
    let mut hidden: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for device in &host.devices {
        let whole = |device| Slot { device, instance: None };
        let parts = device.mig_instances.iter().map(|instance| {
            let slot = Slot { device, instance: Some(instance) };
            (instance.hidden_by.as_ref(), format!("{slot} ({}:{})", device.index, instance.index))
        });
        let name = format!("{} ({})", whole(device), device.index);
        let of_device: Vec<_> = match &device.hidden_by {
            Some(variable) => vec![(Some(variable), name)],
            None => parts.collect(),
        };
        for (variable, name) in of_device {
            if let Some(variable) = variable {
                hidden.entry(variable).or_default().push(name);
            }
        }
    }
    let none_left = host.slots().is_empty();
    for (variable, names) in &hidden {
        let more = names.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
        let which = if none_left { "every GPU that the driver lists, " } else { "" };
        output.warning(&format!("{variable} hides {which}{shown}{more}: unset it to use them"));
    }
}

/// Warns of a choice that may surprise: a profile that doesn't fit, or a generic profile on a GPU.
fn warn_of_doubts(report: &SelectReport<'_>, answer: &Answer<'_>, output: &Output) {
    let Some(place) = report.chosen(answer) else { return };
    let profile = &report.profiles()[place];
    if let Some(reason) = report.why_not(answer, place) {
        let name = profile.readable_name();
        output
            .warning(&format!("{name} is used on {} although it doesn't fit: {reason}", answer.group.name()));
        return;
    }
    if report.lora == Lora::Preferred && !is_set(&profile.tags, "feat_lora") {
        output.warning(&format!(
            "NIM_PEFT_SOURCE is set, but no profile that serves LoRA adapters (feat_lora: true) runs on {}: {} serves none",
            answer.group.name(),
            profile.readable_name()
        ));
    }
    let rank = answer.fitting.iter().find(|(fitting, _, _)| *fitting == place).map(|(_, rank, _)| *rank);
    let has_others = answer.rejected.len() + answer.short_of_memory.len() > 0;
    if report.pinned.is_none() && rank == Some(Rank::Generic) && !answer.group.slots.is_empty() && has_others
    {
        let name = answer.group.name();
        output.warning(&format!("no profile built for {name} fits: a generic profile was chosen"));
    }
}

fn text(report: &SelectReport<'_>, explain: bool) -> String {
    let mut text = String::new();
    for (index, answer) in report.answers.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let count = answer.group.slots.len();
        let times = if count > 1 { format!("{count} × ") } else { String::new() };
        let _ = writeln!(text, "{times}{}", answer.group.name());
        let chosen = report.chosen(answer);
        match chosen {
            Some(place) => text.push_str(&chosen_text(report, answer, place)),
            None => {
                let why_not = report.pinned.and_then(|(place, _)| report.why_not(answer, place));
                let why_not = why_not.map_or_else(
                    || "no profile fits".to_owned(),
                    |reason| format!("the requested profile does not run on this GPU: {reason}"),
                );
                let _ = writeln!(text, "  {why_not}");
            }
        }
        let is_generic = answer.fitting.first().is_some_and(|(_, rank, _)| *rank == Rank::Generic);
        let wants_reasons = chosen.is_none() || is_generic && !answer.group.slots.is_empty();
        if explain || wants_reasons && report.pinned.is_none() {
            text.push_str(&others_text(report, answer, chosen));
        }
    }
    text
}

fn chosen_text(report: &SelectReport<'_>, answer: &Answer<'_>, place: usize) -> String {
    let profile = &report.profiles()[place];
    let mut text = format!("  profile  {}\n  name     {}\n", profile.id, profile.readable_name());
    let mut why = Vec::new();
    if let Some((_, pinned_by)) = report.pinned {
        why.push(format!("requested by {pinned_by}"));
    }
    if let Some(position) = answer.fitting.iter().position(|(fitting, _, _)| *fitting == place) {
        let (_, rank, notes) = &answer.fitting[position];
        why.push(match rank {
            Rank::PciId => "built for this GPU's PCI id".into(),
            Rank::Product => "built for this GPU".into(),
            Rank::ComputeCapability => "built for this GPU's compute capability".into(),
            Rank::Generic => "runs on any machine".into(),
        });
        if let Some((next, next_rank, _)) =
            answer.fitting.get(position + 1).filter(|_| report.pinned.is_none())
        {
            let next = &report.profiles()[*next];
            let reason = selection::reason(
                report.lora,
                (profile, facts(report, profile), *rank),
                (next, facts(report, next), *next_rank),
            );
            why.push(format!("preferred over {} because {}", next.readable_name(), reason.text()));
        }
        why.extend(notes.iter().cloned());
    }
    for (index, line) in why.iter().enumerate() {
        let head = if index == 0 { "why" } else { "" };
        let _ = writeln!(text, "  {head:<7}  {line}");
    }
    text
}

fn others_text(report: &SelectReport<'_>, answer: &Answer<'_>, chosen: Option<usize>) -> String {
    let mut rows = Vec::new();
    let mut row = |place: usize, reason: String| {
        let profile = &report.profiles()[place];
        rows.push(vec![format!("  {}", short_id(&profile.id)), profile.readable_name(), reason]);
    };
    for (place, _, _) in answer.fitting.iter().filter(|(place, _, _)| Some(*place) != chosen) {
        row(*place, "fits, but ranks lower".into());
    }
    for (place, message) in &answer.short_of_memory {
        row(*place, message.clone());
    }
    for (place, rejection) in &answer.rejected {
        row(*place, rejection.to_string());
    }
    if rows.is_empty() {
        return String::new();
    }
    table(&["  not chosen", "name", "why"], &rows)
}

/// Returns the first 12 digits of a digest: enough to name it.
fn short_id(id: &str) -> String {
    if id.len() == 64 && id.is_ascii() { id[..12].to_owned() } else { id.to_owned() }
}

static NOTHING: Facts = Facts { files_size_bytes: None, plan_capabilities: None, validated: None };

fn facts<'a>(report: &'a SelectReport<'_>, profile: &ManifestProfile) -> &'a Facts {
    report.facts.get(&profile.id).unwrap_or(&NOTHING)
}

/// `nimctl.selection/1`.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    pinned: Option<PinView<'a>>,
    answers: Vec<AnswerView<'a>>,
}

#[derive(Serialize)]
struct PinView<'a> {
    profile_id: &'a str,
    by: &'static str,
}

#[derive(Serialize)]
struct AnswerView<'a> {
    gpu: String,
    devices: Vec<SlotView>,
    chosen: Option<ProfileView<'a>>,
    fitting: Vec<ProfileView<'a>>,
    short_of_memory: Vec<RefusedView<'a>>,
    rejected: Vec<RefusedView<'a>>,
}

/// One GPU or MIG instance.
#[derive(Serialize)]
pub(super) struct SlotView {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    mig_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
}

impl SlotView {
    fn new(slot: &Slot<'_>) -> Self {
        let instance = slot.instance;
        Self {
            index: slot.device.index,
            mig_index: instance.map(|instance| instance.index),
            uuid: instance.map_or_else(|| slot.device.uuid.clone(), |instance| instance.uuid.clone()),
        }
    }
}

#[derive(Serialize)]
struct ProfileView<'a> {
    profile_id: &'a str,
    name: String,
    tags: &'a Tags,
    /// `None` if the profile doesn't fit and was chosen anyway.
    match_by: Option<Rank>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct RefusedView<'a> {
    profile_id: &'a str,
    name: String,
    kind: &'static str,
    reason: String,
}

impl<'a> View<'a> {
    fn new(report: &'a SelectReport<'_>) -> Self {
        let profile = |place: usize| &report.profiles()[place];
        let refused = |place: usize, kind: &'static str, reason: String| RefusedView {
            profile_id: &profile(place).id,
            name: profile(place).readable_name(),
            kind,
            reason,
        };
        let view = |place: usize, rank: Option<Rank>, notes: &[String]| ProfileView {
            profile_id: &profile(place).id,
            name: profile(place).readable_name(),
            tags: &profile(place).tags,
            match_by: rank,
            notes: notes.to_vec(),
        };
        let answer = |answer: &'a Answer<'_>| {
            let fitting = || answer.fitting.iter().map(|(place, rank, notes)| (*place, Some(*rank), notes));
            let chosen = report.chosen(answer).map(|chosen| {
                let fits = fitting().find(|(place, _, _)| *place == chosen);
                fits.map_or_else(|| view(chosen, None, &[]), |(place, rank, notes)| view(place, rank, notes))
            });
            AnswerView {
                gpu: answer.group.name(),
                devices: answer.group.slots.iter().map(SlotView::new).collect(),
                chosen,
                fitting: fitting().map(|(place, rank, notes)| view(place, rank, notes)).collect(),
                short_of_memory: answer
                    .short_of_memory
                    .iter()
                    .map(|(place, message)| refused(*place, "short_of_memory", message.clone()))
                    .collect(),
                rejected: answer
                    .rejected
                    .iter()
                    .map(|(place, rejection)| refused(*place, rejection.kind(), rejection.to_string()))
                    .collect(),
            }
        };
        Self {
            schema: "nimctl.selection/1",
            pinned: report.pinned.map(|(place, by)| PinView { profile_id: &profile(place).id, by }),
            answers: report.answers.iter().map(answer).collect(),
        }
    }
}

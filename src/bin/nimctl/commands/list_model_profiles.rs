//! `nimctl list-model-profiles`: NIM's text layout, and JSON with the reasons.

use std::fmt::Write as _;
use std::process::ExitCode;

use nimctl::device::Host;
use nimctl::manifest::is_set;
use nimctl::ops::select::{SelectOptions, SelectReport, select};
use nimctl::profile::TagSelector;
use nimctl::profile::Tags;
use nimctl::selection::{Lora, is_in_use};
use serde::Serialize;

use super::select::warn_of_problems;
use crate::cli::{self, Global};
use crate::exit::{Failure, done};
use crate::output::Output;
use crate::{devices, environment};

pub(crate) fn run(
    arguments: &cli::ListModelProfiles,
    global: &Global,
    output: &Output,
) -> Result<ExitCode, Failure> {
    let cli::ListModelProfiles { selection, explain } = arguments;
    let host = devices::host(&selection.devices)?;
    warn_of_problems(&host, output);
    let manifest = environment::manifest(selection.manifest.as_deref())?;
    let store = environment::store_folder(global).ok();
    let options = SelectOptions {
        manifest: &manifest,
        store: store.as_deref(),
        selector: TagSelector::default(),
        pin: None,
        allow_unsafe: false,
        lora: Lora::Allowed,
    };
    let report = select(&options, &host)?;
    let lists = Lists::new(&report);
    if output.is_json() {
        output.result("", &View::new(&report, &lists));
    } else {
        output.result(&text(&host, &report, &lists, *explain), &());
    }
    Ok(done())
}

/// NIM's heading of profiles without a plan (`trtllm_buildable: true`).
const BUILDABLE: &str = "Compilable to TRT-LLM using just-in-time compilation of HF models to TRTLLM engines";

/// Indices of profiles by their state on this host: the best state on any kind of GPU.
struct Lists {
    runnable: Vec<usize>,
    not_runnable: Vec<usize>,
    incompatible: Vec<usize>,
}

impl Lists {
    fn new(report: &SelectReport<'_>) -> Self {
        let mut lists = Self { runnable: Vec::new(), not_runnable: Vec::new(), incompatible: Vec::new() };
        let mut state = vec![0_u8; report.profiles().len()];
        for answer in &report.answers {
            for (place, _, _) in &answer.fitting {
                if state[*place] < 2 {
                    state[*place] = 2;
                    lists.runnable.push(*place);
                }
            }
            for (place, _) in &answer.short_of_memory {
                state[*place] = state[*place].max(1);
            }
        }
        for (place, state) in state.into_iter().enumerate() {
            match state {
                0 => lists.incompatible.push(place),
                1 => lists.not_runnable.push(place),
                _ => {}
            }
        }
        lists
    }
}

fn text(host: &Host, report: &SelectReport<'_>, lists: &Lists, explain: bool) -> String {
    let mut text = String::from("SYSTEM INFO\n");
    let mut free = Vec::new();
    let mut in_use = Vec::new();
    for slot in host.slots() {
        let device = slot.device;
        let id = device.pci_id.as_deref().unwrap_or("unknown");
        let known = device.known_as.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let used = device
            .utilization_percent
            .map(|percent| format!(" [current utilization: {percent}%]"))
            .unwrap_or_default();
        let line = format!(" [{id}] ({}) {slot}{known}{used}", device.index);
        if is_in_use(&slot) { in_use.push(line) } else { free.push(line) }
    }
    section(&mut text, "Free GPUs", &free);
    section(&mut text, "Non-free GPUs", &in_use);
    text.push_str("MODEL PROFILES\n");
    let lines = |places: &[usize], explain: bool| {
        let line = |place: &usize| {
            let profile = &report.profiles()[*place];
            let mut line = format!("{} ({})", profile.id, profile.readable_name());
            if explain {
                for reason in reasons(report, *place) {
                    let _ = write!(line, "\n      {reason}");
                }
            }
            line
        };
        places.iter().map(line).collect::<Vec<_>>()
    };
    let has = |place: &usize, tag: &str| is_set(&report.profiles()[*place].tags, tag);
    let (buildable, runnable): (Vec<usize>, Vec<usize>) =
        lists.runnable.iter().partition(|place| has(place, "trtllm_buildable"));
    let with_lora = |places: Vec<usize>| {
        let (lora, plain): (Vec<usize>, Vec<usize>) =
            places.into_iter().partition(|place| has(place, "feat_lora"));
        let mut all = lines(&plain, false);
        if !lora.is_empty() {
            let indented = lines(&lora, false).join("\n    - ");
            all.push(format!("With LoRA support:\n    - {indented}"));
        }
        all
    };
    section(&mut text, "Compatible with system and runnable", &with_lora(runnable));
    if !buildable.is_empty() {
        section(&mut text, BUILDABLE, &with_lora(buildable));
    }
    let short = "Compatible with system but not runnable due to low GPU free memory";
    section(&mut text, short, &lines(&lists.not_runnable, explain));
    section(&mut text, "Incompatible with system", &lines(&lists.incompatible, explain));
    text
}

fn section(text: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        let _ = writeln!(text, "- {heading}: <None>");
        return;
    }
    let _ = writeln!(text, "- {heading}:");
    for line in lines {
        let _ = writeln!(text, "  - {line}");
    }
}

/// Returns why a profile doesn't run, with one reason for each kind of GPU.
fn reasons(report: &SelectReport<'_>, place: usize) -> Vec<String> {
    let several = report.answers.len() > 1;
    let reason = |answer| report.why_not(answer, place).map(|reason| (answer.group.name(), reason));
    let named = |(name, reason)| if several { format!("{name}: {reason}") } else { reason };
    report.answers.iter().filter_map(reason).map(named).collect()
}

/// `nimctl.model-profiles/1`; `compatible[].profile_id` and `.tags` as in NIM's own JSON.
#[derive(Serialize)]
struct View<'a> {
    schema: &'static str,
    form: nimctl::manifest::Form,
    model: Option<&'a str>,
    release: Option<&'a str>,
    compatible: Vec<ProfileView<'a>>,
    compatible_not_runnable: Vec<ProfileView<'a>>,
    incompatible: Vec<ProfileView<'a>>,
}

#[derive(Serialize)]
struct ProfileView<'a> {
    profile_id: &'a str,
    name: String,
    /// `content`, `nim-tags`, `opaque` or `wrong`.
    id_kind: &'static str,
    tags: &'a Tags,
    file_count: usize,
    reasons: Vec<String>,
}

impl<'a> View<'a> {
    fn new(report: &'a SelectReport<'_>, lists: &Lists) -> Self {
        let document = &report.document;
        let view = |place: &usize, has_reasons: bool| {
            let profile = &report.profiles()[*place];
            ProfileView {
                profile_id: &profile.id,
                name: profile.readable_name(),
                id_kind: document.id_kind(profile).word(),
                tags: &profile.tags,
                file_count: profile.workspace.files.len(),
                reasons: if has_reasons { reasons(report, *place) } else { Vec::new() },
            }
        };
        Self {
            schema: "nimctl.model-profiles/1",
            form: document.form(),
            model: document.manifest().model.as_deref(),
            release: document.manifest().release.as_deref(),
            compatible: lists.runnable.iter().map(|place| view(place, false)).collect(),
            compatible_not_runnable: lists.not_runnable.iter().map(|place| view(place, true)).collect(),
            incompatible: lists.incompatible.iter().map(|place| view(place, true)).collect(),
        }
    }
}

//! The story of a profile as a page of text.

use std::fmt::Write as _;

use nimctl::benchmark::BenchStatus;
use nimctl::ops::explain::{By, Explained, Since, Story};
use nimctl::passport::{GraphPassport, Passport, Status};
use nimctl::profile::capability_tag;
use nimctl::release::least_row_cosine;
use nimctl::worklist::{BuildRecord, BuiltOn};

use super::Verdict;
use crate::table::{counted, size};

/// How many digits of a digest are shown: enough to find it in the JSON.
const DIGEST_DIGITS: usize = 16;

pub(super) fn text(
    story: &Story,
    pages: &[(&Explained, Option<Option<Since>>)],
    verdict: Option<&Verdict>,
) -> String {
    let mut text = String::new();
    for (number, (profile, since)) in pages.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        page(&mut text, profile, since.as_ref());
        if !story.is_release {
            line(&mut text, "signed", "no: it is in this store, and came with no signature");
        } else if profile.attested.is_empty() {
            line(&mut text, "attested", "nothing");
        }
        for fact in &profile.attested {
            let what = fact.kind.map_or(fact.predicate_type.as_str(), |kind| kind.word());
            line(&mut text, "attested", &format!("{what}, {}", by(&fact.by)));
        }
    }
    if !story.is_release {
        if let Some(verdict) = verdict {
            line(&mut text, "trust", &verdict.words);
        }
        return text;
    }
    text.push_str("\nthe release\n");
    if story.signatures.is_empty() {
        line(&mut text, "signed", "no");
    }
    for signature in &story.signatures {
        line(&mut text, "signed", &by(signature));
    }
    if let Some(verdict) = verdict {
        line(&mut text, "trust", &verdict.words);
    }
    text
}

fn line(text: &mut String, heading: &str, words: &str) {
    let _ = writeln!(text, "  {heading:<12}{words}");
}

fn by(by: &By) -> String {
    match by {
        By::Verified(signer) => format!("by {signer}"),
        By::Claimed(claim) => format!("as it says by {claim}; name a key or a trust policy to verify it"),
        By::Refused(why) => format!("refused: {why}"),
    }
}

fn page(text: &mut String, profile: &Explained, since: Option<&Option<Since>>) {
    let Passport { id, name, tags, contents, graphs, validation, bench, .. } = &profile.passport;
    let _ = writeln!(text, "{name}, of {} {}", contents.model.name, contents.model.release);
    line(text, "id", &id.to_string());
    let capabilities = contents.target.compute_capabilities();
    let target = match capabilities.is_empty() {
        true => contents.target.to_string(),
        false => format!("{} (compute capability {})", contents.target, capability_tag(&capabilities)),
    };
    line(text, "for", &format!("{target}, {}", tags.get("precision").map_or("", String::as_str)));
    for (graph, GraphPassport { lowering, compilation }) in graphs {
        let files = &lowering.document.graph.files;
        let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
        let digest = files.first().map_or_else(String::new, |file| short(&file.sha256.to_hex()));
        line(
            text,
            "made from",
            &format!("graph `{graph}`: {digest}, {} in {}", size(bytes), counted(files.len(), "file")),
        );
        let precision = lowering.document.lowering.profile_precision();
        line(text, "", &format!("  lowered to {precision}: {}", outputs(lowering)));
        if let Some(record) = compilation {
            let targets = capability_tag(&record.document.compute_capabilities);
            line(text, "", &format!("  compiled by {} for {targets}: {}", contents.backend, outputs(record)));
        }
    }
    for (tool, identity) in &contents.toolchain {
        let libraries: Vec<String> = identity
            .libraries
            .iter()
            .map(|(file, sha256)| format!("{file} {}", short(&sha256.to_hex())))
            .collect();
        let libraries =
            if libraries.is_empty() { String::new() } else { format!(": {}", libraries.join(", ")) };
        line(text, "toolchain", &format!("{tool} {}{libraries}", identity.version));
    }
    built_on(text, &profile.built_on);
    match since {
        None => {}
        Some(None) => line(text, "new", "the earlier release has no profile of this name"),
        Some(Some(Since { release, is_same: true, .. })) => {
            line(text, "unchanged", &format!("it is the same profile as in {release}"));
        }
        Some(Some(Since { release, reasons, .. })) => {
            for (number, reason) in reasons.iter().enumerate() {
                let heading = if number == 0 { "rebuilt" } else { "" };
                let since = if number == 0 { format!(" (since {release})") } else { String::new() };
                line(text, heading, &format!("{reason}{since}"));
            }
        }
    }
    found(text, &profile.passport, validation);
    match bench {
        BenchStatus::Measured(benchmark) => {
            for case in &benchmark.cases {
                let median = case.latency.as_ref().and_then(|latency| latency.percentile("p50"));
                let median =
                    median.map_or_else(|| "no median".into(), |median| format!("p50 {:.3} ms", median.ms));
                let what = format!(
                    "{} at batch {}, {} streams: {median}, {}",
                    case.graph, case.batch, case.streams, case.ran_on
                );
                line(text, "measured", &what);
            }
        }
        BenchStatus::Failed(why) => line(text, "measured", &format!("failed: {why}")),
        BenchStatus::Skipped(why) => line(text, "measured", &format!("no: {why}")),
    }
}

fn found(text: &mut String, passport: &Passport, validation: &Status) {
    let Some(validation) = validation.validation() else {
        if let Status::Skipped(why) = validation {
            line(text, "validated", &format!("no: {why}"));
        }
        return;
    };
    let (all, failed) = (validation.all_gates().count(), validation.failed().count());
    let cosine =
        least_row_cosine(passport).map_or_else(String::new, |cosine| format!(", min cosine {cosine:.7}"));
    let verdict = if validation.passed { "passed" } else { "failed" };
    let word = passport.validation.word();
    let ran_on = &validation.ran_on;
    line(
        text,
        "validated",
        &format!("{word}, {verdict}: {} of {}{cosine}, {ran_on}", all - failed, counted(all, "gate")),
    );
    for why in [&validation.not_executed_because, &validation.failure].into_iter().flatten() {
        line(text, "", &format!("  {why}"));
    }
    for gate in validation.failed() {
        let value = gate.value.map_or_else(|| "not finite".into(), |value| value.to_string());
        line(
            text,
            "",
            &format!(
                "  {} of {} ({}): {value}, wanted {}",
                gate.gate, gate.subject, gate.shapes, gate.threshold
            ),
        );
    }
}

fn built_on(text: &mut String, jobs: &[(String, Option<BuiltOn>)]) {
    if jobs.is_empty() {
        line(text, "built on", "not recorded: a release has no names of machines");
        return;
    }
    let words = |node: &Option<BuiltOn>| match node {
        None => "this machine".to_owned(),
        Some(BuiltOn { executor, node }) => format!("{} of {executor}", node.name),
    };
    let first = words(&jobs[0].1);
    if jobs.iter().all(|(_, node)| words(node) == first) {
        line(text, "built on", &first);
        return;
    }
    for (job, node) in jobs {
        line(text, "built on", &format!("{job}: {}", words(node)));
    }
}

fn outputs(record: &BuildRecord) -> String {
    let bytes: u64 = record.outputs.iter().map(|output| output.size_bytes).sum();
    let digest = record.outputs.first().map_or_else(String::new, |output| short(&output.sha256.to_hex()));
    format!("{digest}, {} in {}", size(bytes), counted(record.outputs.len(), "file"))
}

fn short(hex: &str) -> String {
    format!("sha256:{}…", &hex[..DIGEST_DIGITS.min(hex.len())])
}

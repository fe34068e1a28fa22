//! Release notes in Markdown: what is in a release, and what changed since the previous one.

use std::fmt::Write as _;

use crate::benchmark::{BenchStatus, Comparison, Metric, Verdict};
use crate::passport::Passport;
use crate::profile::ModelRelease;
use crate::release::why_rebuilt;

/// A profile whose min cosine drops by more than this is reported as less accurate.
const LESS_ACCURATE: f64 = 1e-5;

/// The input of [`notes`].
#[derive(Clone, Copy, Debug)]
pub struct Notes<'a> {
    /// The model and its release.
    pub model: &'a ModelRelease,
    /// The profiles in the release.
    pub profiles: &'a [Passport],
    /// Names of profiles that are not in it, each with the reason.
    pub not_built: &'a [(String, String)],
    /// The name and the profiles of the previous release, if there is one to compare with.
    pub baseline: Option<(&'a str, &'a [Passport])>,
    /// Comparisons of their speed.
    pub comparisons: &'a [Comparison],
}

/// Returns the min cosine of any row with the reference's, if the profile was validated.
pub fn least_row_cosine(passport: &Passport) -> Option<f64> {
    let gates = passport.validation.validation()?.all_gates();
    gates.filter(|gate| gate.gate == "row_cosine").filter_map(|gate| gate.value).min_by(f64::total_cmp)
}

/// Writes the notes.
pub fn notes(notes: &Notes<'_>) -> String {
    let Notes { model, profiles, not_built, baseline, comparisons } = notes;
    let mut text = format!("# {} {}\n\n", model.name, model.release);
    text.push_str("| profile | id | validation | min cosine | p50 |\n| --- | --- | --- | --- | --- |\n");
    for passport in *profiles {
        let cosine = least_row_cosine(passport).map_or_else(|| "–".into(), |cosine| format!("{cosine:.7}"));
        let validation = passport.validation.validation();
        let verdict = validation.filter(|found| !found.passed).map_or("", |_| ", failed");
        let emulated = validation.and_then(|found| found.emulated.as_ref());
        let emulated = emulated.map_or_else(String::new, |emulated| {
            format!(" in {}, {} emulated", emulated.executed_in, emulated.precision)
        });
        let _ = writeln!(
            text,
            "| {} | `{}` | {}{emulated}{verdict} | {cosine} | {} |",
            passport.name,
            passport.id,
            passport.validation.word(),
            speed(passport)
        );
    }
    if !not_built.is_empty() {
        text.push_str("\n## Not in this release\n\n");
        for (name, why) in *not_built {
            let _ = writeln!(text, "* {name}: {why}");
        }
    }
    match baseline {
        None => text.push_str("\nThere is no earlier release to compare with.\n"),
        Some((name, before)) => changes(&mut text, name, before, profiles, comparisons),
    }
    text
}

fn speed(passport: &Passport) -> String {
    let BenchStatus::Measured(benchmark) = &passport.bench else { return "not measured".into() };
    let medians = benchmark.cases.iter().filter_map(|case| {
        let median = case.latency.as_ref()?.percentile("p50");
        let median = median
            .map_or_else(|| "too few independent samples".into(), |median| format!("{:.2} ms", median.ms));
        Some(format!("{} batch {}: {median}", case.graph, case.batch))
    });
    medians.collect::<Vec<_>>().join(", ")
}

fn changes(text: &mut String, name: &str, before: &[Passport], now: &[Passport], comparisons: &[Comparison]) {
    let _ = writeln!(text, "\n## Since {name}");
    let of = |all: &'_ [Passport], name: &str| all.iter().position(|other| other.name == name);
    let mut section = |heading: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = write!(text, "\n### {heading}\n\n{}", lines.concat());
        }
    };
    let line = |name: &str| format!("* {name}\n");
    let missing = |all: &[Passport], from: &[Passport]| -> Vec<String> {
        all.iter().filter(|one| of(from, &one.name).is_none()).map(|one| line(&one.name)).collect()
    };
    section("Added", missing(now, before));
    section("Removed", missing(before, now));
    let pairs: Vec<(&Passport, &Passport)> =
        now.iter().filter_map(|passport| Some((&before[of(before, &passport.name)?], passport))).collect();
    let rebuilt = pairs
        .iter()
        .filter(|(before, now)| before.id != now.id)
        .map(|(before, now)| format!("* {}: {}\n", now.name, why_rebuilt(before, now).join("; ")));
    section("Rebuilt", rebuilt.collect());
    for (heading, verdict) in [("Slower", Verdict::Slower), ("Faster", Verdict::Faster)] {
        let lines = comparisons.iter().filter(|found| {
            found.verdict == verdict && matches!(found.metric, Metric::P50 | Metric::Throughput)
        });
        let lines = lines.map(|found| {
            format!(
                "* {} {} at batch {}, {} streams: {} {:+.1} %\n",
                found.profile,
                found.graph,
                found.batch,
                found.streams,
                found.metric.name(),
                (found.ratio - 1.0) * 100.0
            )
        });
        section(heading, lines.collect());
    }
    let less_accurate = pairs.iter().filter_map(|(before, now)| {
        let (a, b) = (least_row_cosine(before)?, least_row_cosine(now)?);
        (a - b > LESS_ACCURATE).then(|| format!("* {}: min cosine {a:.7} → {b:.7}\n", now.name))
    });
    section("Less accurate", less_accurate.collect());
    let same = pairs.iter().filter(|(before, now)| before.id == now.id).count();
    let _ = writeln!(text, "\n{same} of {} profiles are byte for byte the same as before.", now.len());
}

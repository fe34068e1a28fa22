//! What was compared with an earlier measurement, what could not be, and what that means for gates: a gate that has no answer for
//! something that was measured has not passed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::comparison::{Comparison, Verdict, compare_case};
use super::{BenchDocument, BenchStatus, Benchmark, Case, Gate, Machine, Settings};
use crate::nearest::what_there_is;
use crate::stats::{MIN_PAIRS, Pairing};

/// Everything that was measured, each with its comparison or the reason why there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Each metric of each case that both measurements have.
    pub comparisons: Vec<Comparison>,
    /// What could not be compared.
    pub uncompared: Vec<Uncompared>,
}

/// Something that was measured and could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uncompared {
    /// The profile.
    pub profile: String,
    /// The case, in words; `None` for the whole profile.
    pub case: Option<String>,
    /// Why not.
    pub reason: String,
    /// Whether the baseline doesn't have the profile at all.
    pub is_new: bool,
}

impl Uncompared {
    /// Returns what it is, in words.
    pub fn words(&self) -> String {
        let Self { profile, case, reason, is_new: _ } = self;
        match case {
            Some(case) => format!("{profile} {case}: {reason}"),
            None => format!("{profile}: {reason}"),
        }
    }
}

impl Compared {
    /// Compares what was measured with what an earlier run measured, by the names of profiles.
    pub fn with_baseline(document: &BenchDocument, baseline: &BenchDocument) -> Self {
        let mut compared = Self::default();
        for profile in &document.profiles {
            let BenchStatus::Measured(now) = &profile.bench else { continue };
            let before = status(baseline, &profile.name);
            let label = format!("{} of {}", profile.name, baseline.model.release);
            match before.map_err(|why| (why, true)).and_then(|before| {
                let why = different_conditions(before, now);
                why.map_or(Ok(before), |why| Err((why, false)))
            }) {
                Ok(before) => {
                    compared.add((&label, before), (&profile.name, now), Pairing::Separate);
                }
                Err((reason, is_absent)) => compared.uncompared.push(Uncompared {
                    profile: profile.name.clone(),
                    case: None,
                    reason,
                    is_new: is_absent && baseline.profiles.iter().all(|other| other.name != profile.name),
                }),
            }
        }
        compared
    }

    /// Compares the second of two profiles that were measured in alternating rounds with the first.
    pub fn of_two(document: &BenchDocument, first: &str, second: &str) -> Self {
        let mut compared = Self::default();
        match (status(document, first), status(document, second)) {
            (Ok(before), Ok(now)) => {
                compared.add((first, before), (second, now), Pairing::Interleaved);
            }
            (Err(reason), _) | (Ok(_), Err(reason)) => compared.uncompared.push(Uncompared {
                profile: second.into(),
                case: None,
                reason,
                is_new: false,
            }),
        }
        compared
    }

    fn add(
        &mut self,
        (baseline, before): (&str, &Benchmark),
        (name, now): (&str, &Benchmark),
        pairing: Pairing,
    ) {
        for case in &now.cases {
            let found = match counterpart(case, before) {
                Ok(other) => compare_case((baseline, other), (name, case), pairing)
                    .ok_or_else(|| "a round has no positive value".to_owned()),
                Err(reason) => Err(reason),
            };
            match found {
                Ok(comparisons) => self.comparisons.extend(comparisons),
                Err(reason) => self.uncompared.push(Uncompared {
                    profile: name.into(),
                    case: Some(words(case)),
                    reason,
                    is_new: false,
                }),
            }
        }
    }

    /// Returns, in words, everything that a gate has no answer for: it can't have passed then.
    pub fn unanswered(&self, gate: &Gate) -> Vec<String> {
        let mut unanswered: Vec<String> = self.uncompared.iter().map(Uncompared::words).collect();
        let of_metric = || self.comparisons.iter().filter(|found| found.metric == gate.metric);
        let too_few = of_metric().filter(|found| found.verdict == Verdict::TooFewRounds);
        unanswered.extend(too_few.map(|found| {
            let Comparison { profile, graph, batch, streams, .. } = found;
            format!(
                "{profile} {graph} at batch {batch}, {streams} streams: too few rounds to tell: both measurements need at least \
                 {MIN_PAIRS}"
            )
        }));
        if unanswered.is_empty() && of_metric().next().is_none() {
            unanswered.push("nothing was measured that could be compared".into());
        }
        unanswered
    }
}

/// Returns the case of a baseline that is the same as this one.
fn counterpart<'a>(case: &Case, baseline: &'a Benchmark) -> Result<&'a Case, String> {
    if let Some(failure) = &case.failure {
        return Err(format!("it could not be measured: {failure}"));
    }
    let same =
        |other: &&Case| (&other.graph, other.batch, other.streams) == (&case.graph, case.batch, case.streams);
    let Some(other) = baseline.cases.iter().find(same) else {
        let known: Vec<String> = baseline.cases.iter().map(words).collect();
        return Err(format!("the baseline does not have this case: it has {}", known.join("; ")));
    };
    if let Some(failure) = &other.failure {
        return Err(format!("the baseline could not measure it: {failure}"));
    }
    // What follows `on` is the CPU or the GPU; another version of the library is what one may want to compare.
    let place = |case: &'_ Case| case.ran_on.split_once(" on ").map(|(_, place)| place.to_owned());
    if place(case) != place(other) {
        return Err(format!("the baseline ran on {}, and this on {}", other.ran_on, case.ran_on));
    }
    Ok(other)
}

fn words(case: &Case) -> String {
    format!("{} at batch {}, {} streams", case.graph, case.batch, case.streams)
}

fn status<'a>(document: &'a BenchDocument, name: &str) -> Result<&'a Benchmark, String> {
    let found = document.profiles.iter().find(|profile| profile.name == name);
    match found.map(|profile| &profile.bench) {
        None => {
            let known = document.profiles.iter().map(|profile| profile.name.as_str());
            let there = what_there_is(name, "its profiles are", known);
            Err(format!("the baseline has no profile of this name{there}"))
        }
        Some(BenchStatus::Measured(benchmark)) => Ok(benchmark),
        Some(BenchStatus::Failed(why)) => Err(format!("`{name}` could not be measured: {why}")),
        Some(BenchStatus::Skipped(why)) => Err(format!("`{name}` was not measured: {why}")),
    }
}

/// Says what makes two measurements ones of different things: another machine, or another way to run.
fn different_conditions(before: &Benchmark, now: &Benchmark) -> Option<String> {
    let machine = |benchmark: &Benchmark| {
        let Machine { cpu, logical_cores, governor: _, load_average_1_min: _, memory_bytes: _ } =
            &benchmark.machine;
        format!("{}, {logical_cores} cores", cpu.as_deref().unwrap_or("an unknown processor"))
    };
    let (was, is) = (machine(before), machine(now));
    if was != is {
        return Some(format!("the baseline was measured on another machine ({was}), and this one is {is}"));
    }
    let Settings {
        rounds: _,
        warm_up_ms: _,
        window_ms: _,
        budget_ms: _,
        threads,
        provider,
        graph_optimization,
        cuda_graph,
    } = &before.settings;
    let number = |threads: Option<u32>| threads.map_or("the library's choice".to_owned(), |n| n.to_string());
    let (was, is) = (number(*threads), number(now.settings.threads));
    if was != is {
        return Some(format!("the baseline was measured with another number of threads ({was}), not {is}"));
    }
    let differs = [
        ("--provider", *provider != now.settings.provider),
        ("--graph-optimization", *graph_optimization != now.settings.graph_optimization),
        ("--cuda-graph", *cuda_graph != now.settings.cuda_graph),
    ];
    let (option, _) = differs.into_iter().find(|(_, differs)| *differs)?;
    Some(format!("the baseline was measured with another {option}"))
}

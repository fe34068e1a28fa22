//! `nimctl bench`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use nimctl::benchmark::{
    BenchDocument, BenchStatus, Benchmark, Case, Compared, Comparison, Gate, Settings, Uncompared,
};
use nimctl::error_kind::ErrorKind;
use nimctl::ops::bench::{BenchEvent, BenchOptions, bench};
use nimctl::passport::Passport;
use nimctl::stored_format::Unreadable;
use nimctl::worker::host::Cancel;
use serde::Serialize;

use super::admission::Admission;
use crate::cli::{self, Global, limits};
use crate::environment;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::{size, table};

pub(crate) fn run(
    arguments: &cli::Bench,
    global: &Global,
    output: &Output,
    cancel: &Cancel,
) -> Result<ExitCode, Failure> {
    let cli::Bench {
        recipe,
        only,
        fleet,
        trust,
        batch,
        streams,
        threads,
        execution,
        graph_optimization,
        cuda_graph,
        rounds,
        warm_up_ms,
        window_ms,
        budget_ms,
        compare,
        baseline,
        fail_if,
        timeout,
    } = arguments;
    if !fail_if.is_empty() && compare.is_none() && baseline.is_none() {
        let error = anyhow::anyhow!(
            "--fail-if needs something to compare with: add --baseline FILE or --compare A B"
        );
        return Err(Failure::new(ErrorKind::Input, error));
    }
    let most_threads = streams.iter().max().zip(threads.as_ref()).map(|(streams, threads)| streams * threads);
    if let Some(threads) = most_threads.filter(|threads| *threads > limits::MAX_THREADS) {
        let error = anyhow::anyhow!(
            "--streams and --threads give {threads} threads: at most {} are started",
            limits::MAX_THREADS
        );
        return Err(Failure::new(ErrorKind::Input, error));
    }
    if let Some([a, b]) = compare.as_deref()
        && a == b
    {
        let error =
            anyhow::anyhow!("--compare {a} {b} would compare a profile with itself: name two profiles");
        return Err(Failure::new(ErrorKind::Input, error));
    }
    let admission = Admission::in_place(trust, global)?;
    let baseline_path = baseline;
    let baseline = baseline.as_deref().map(read_baseline).transpose()?;
    let mut workspace = environment::workspace(global, *timeout, cancel)?;
    environment::use_fleet(&mut workspace, fleet)?;
    let options = BenchOptions {
        batches: distinct(batch),
        streams: distinct(streams),
        settings: Settings {
            rounds: usize::from(*rounds),
            warm_up_ms: *warm_up_ms,
            window_ms: *window_ms,
            budget_ms: *budget_ms,
            threads: *threads,
            provider: execution.provider(),
            graph_optimization: graph_optimization.map(Into::into),
            cuda_graph: *cuda_graph,
        },
        gpu: execution.gpu,
        compare: compare.as_deref().and_then(|names| match names {
            [a, b] => Some((a.clone(), b.clone())),
            _ => None,
        }),
        nvml_library: environment::nvml_library(),
        take_over: false,
    };
    let resolved = super::build::resolved(&workspace, recipe, only.as_ref(), &|_| ())?;
    let model = &resolved.recipe().model.name;
    if let (Some(path), Some(baseline)) = (baseline_path, &baseline)
        && baseline.model.name != *model
    {
        let error = anyhow::anyhow!(
            "{} measured the model `{}`, and this recipe's model is `{model}`: nothing can be compared",
            path.display(),
            baseline.model.name
        );
        return Err(Failure::new(ErrorKind::Input, error));
    }
    if let Some(admission) = &admission {
        let is_compared = |passport: &Passport| {
            options.compare.as_ref().is_none_or(|(a, b)| [a, b].contains(&&passport.name))
        };
        admission.gate([], cancel)?.admit_recipe(&resolved, &is_compared)?;
    }
    let report = bench(&workspace, &resolved, &options, &|event| {
        if let BenchEvent::Round { title, round: 1, rounds } = event {
            output.talk(&format!("{title}: {rounds} rounds"));
        }
    })?;
    let compared = match &baseline {
        Some(baseline) => Compared::with_baseline(&report.document, baseline),
        None => report.compared.clone(),
    };
    let failed = failed_gates(&compared.comparisons, fail_if);
    let unanswered: Vec<String> = fail_if
        .iter()
        .flat_map(|gate| {
            let without = compared.unanswered(gate).into_iter();
            without.map(move |what| format!("{gate} has no answer for {what}"))
        })
        .collect();
    let seeded = super::validate::seeded_text(&report.seeded);
    if !seeded.is_empty() {
        output.talk(seeded.trim());
    }
    output.result(
        &text(&report.document, &compared, &failed, &unanswered),
        &View {
            document: &report.document,
            comparisons: &compared.comparisons,
            uncompared: &compared.uncompared,
            failed_gates: &failed,
            unanswered_gates: &unanswered,
        },
    );
    for problem in failed.iter().chain(&unanswered) {
        output.problem(problem);
    }
    let refused = || (!unanswered.is_empty()).then_some(ErrorKind::Refused);
    let kind = if failed.is_empty() { report.failure().or_else(refused) } else { Some(ErrorKind::Refused) };
    Ok(kind.map_or_else(done, |kind| ExitCode::from(code(kind))))
}

/// Returns numbers in the order in which they are named, each once.
fn distinct<T: Copy + PartialEq>(numbers: &[T]) -> Vec<T> {
    let mut distinct = Vec::new();
    for number in numbers {
        if !distinct.contains(number) {
            distinct.push(*number);
        }
    }
    distinct
}

fn read_baseline(path: &Path) -> Result<BenchDocument, Failure> {
    let bytes = fs_err::read(path).map_err(|error| Failure::new(ErrorKind::Input, error))?;
    match BenchDocument::parse(&bytes, &path.display().to_string()) {
        Ok(document) => Ok(document),
        Err(error @ Unreadable::Newer(_)) => Err(Failure::new(ErrorKind::Input, error)),
        Err(Unreadable::Damaged { path, problem }) => {
            let error = anyhow::anyhow!("{path}: not a result of `nimctl bench`: {problem}");
            let hint = "write one with `nimctl bench RECIPE --output json > FILE`";
            Err(Failure::new(ErrorKind::Input, error).hint(Some(hint.into())))
        }
    }
}

/// Returns one line for every comparison that fails a gate.
fn failed_gates(comparisons: &[Comparison], gates: &[Gate]) -> Vec<String> {
    let failing = gates.iter().flat_map(|gate| {
        comparisons
            .iter()
            .filter(|comparison| gate.fails(comparison))
            .map(move |comparison| (gate, comparison))
    });
    failing
        .map(|(gate, comparison)| {
            format!(
                "{gate}: {} of {} {} at batch {}, {} streams differs by {} from {}",
                comparison.metric.name(),
                comparison.profile,
                comparison.graph,
                comparison.batch,
                comparison.streams,
                percent(comparison.ratio),
                comparison.baseline
            )
        })
        .collect()
}

/// Formats a ratio as a difference: `+3.1 %`.
fn percent(ratio: f64) -> String {
    format!("{:+.1} %", (ratio - 1.0) * 100.0)
}

fn text(document: &BenchDocument, compared: &Compared, failed: &[String], unanswered: &[String]) -> String {
    let Compared { comparisons, uncompared } = compared;
    let BenchDocument { schema: _, model, profiles } = document;
    let mut text = format!("{} {}\n", model.name, model.release);
    let measured: Vec<(&str, &Benchmark)> = profiles
        .iter()
        .filter_map(|profile| match &profile.bench {
            BenchStatus::Measured(benchmark) => Some((profile.name.as_str(), benchmark)),
            BenchStatus::Failed(_) | BenchStatus::Skipped(_) => None,
        })
        .collect();
    let cases =
        || measured.iter().flat_map(|(name, benchmark)| benchmark.cases.iter().map(move |case| (name, case)));
    let rows: Vec<Vec<String>> = cases().map(|(name, case)| case_row(name, case)).collect();
    if !rows.is_empty() {
        let heading = [
            "PROFILE",
            "GRAPH",
            "BATCH",
            "STREAMS",
            "P50 MS",
            "P90 MS",
            "P99 MS",
            "ITEMS/S",
            "CV",
            "SAMPLES",
            "LOAD MS",
            "FIRST RESULT MS",
            "PEAK MEMORY",
        ];
        let _ = write!(text, "\n{}", table(&heading, &rows));
    }
    if let Some((_, case)) = cases().find(|(_, case)| case.latency.is_some()) {
        let _ = writeln!(text, "\nran on {}; {} around {}", case.ran_on, case.clock, case.boundary);
    }
    for line in cases().filter_map(|(name, case)| device_line(name, case)) {
        let _ = writeln!(text, "{line}");
    }
    for (name, case) in cases() {
        if let Some(failure) = &case.failure {
            let _ = writeln!(text, "\n{name} {} batch {}: {failure}", case.graph, case.batch);
        }
    }
    if !comparisons.is_empty() {
        let rows: Vec<Vec<String>> = comparisons.iter().map(comparison_row).collect();
        let heading = [
            "COMPARED",
            "WITH",
            "GRAPH",
            "BATCH",
            "STREAMS",
            "METRIC",
            "BEFORE",
            "NOW",
            "CHANGE",
            "99 % INTERVAL",
            "",
        ];
        let _ = write!(text, "\n{}", table(&heading, &rows));
    }
    let mut warnings: Vec<&String> = measured.iter().flat_map(|(_, benchmark)| &benchmark.warnings).collect();
    warnings.sort();
    warnings.dedup();
    for warning in warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    let mut others = String::new();
    for profile in profiles {
        match &profile.bench {
            BenchStatus::Measured(_) => {}
            BenchStatus::Failed(why) => {
                let _ = writeln!(others, "  {}: FAILED: {why}", profile.name);
            }
            BenchStatus::Skipped(why) => {
                let _ = writeln!(others, "  {}: {why}", profile.name);
            }
        }
    }
    if !others.is_empty() {
        let _ = write!(text, "\nnot measured:\n{others}");
    }
    let uncompared: Vec<String> = uncompared.iter().map(Uncompared::words).collect();
    for (heading, lines) in [
        ("not compared", uncompared.as_slice()),
        ("failed gates", failed),
        ("gates without an answer", unanswered),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{heading}:");
        }
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn case_row(name: &str, case: &Case) -> Vec<String> {
    let percentile = |wanted: &str| {
        let found = case.latency.as_ref().and_then(|latency| latency.percentile(wanted));
        found.map_or_else(
            || "-".to_owned(),
            |found| format!("{} ({} to {})", ms(found.ms), ms(found.low_ms), ms(found.high_ms)),
        )
    };
    let of_latency = |value: &dyn Fn(&nimctl::benchmark::Latency) -> String| {
        case.latency.as_ref().map_or_else(|| "failed".to_owned(), value)
    };
    let of_rounds = |value| case.median_of_rounds(value).map_or_else(|| "-".to_owned(), ms);
    let peak = case.rounds.iter().filter_map(|round| round.peak_memory_bytes).max();
    vec![
        name.to_owned(),
        case.graph.clone(),
        case.batch.to_string(),
        case.streams.to_string(),
        percentile("p50"),
        percentile("p90"),
        percentile("p99"),
        case.items_per_s.map_or_else(|| "-".into(), |items| format!("{items:.1}")),
        of_latency(&|latency| format!("{:.3}", latency.coefficient_of_variation)),
        of_latency(&|latency| latency.count.to_string()),
        of_rounds(|round| round.load_ms),
        first_result(case),
        peak.map_or_else(|| "-".into(), size),
    ]
}

/// Formats the time to the first result; with a cold and a warm cache, if the library compiles when it loads.
fn first_result(case: &Case) -> String {
    let compiles = case.rounds.iter().any(|round| round.runtime_cache.is_some());
    match case.first_result_ms() {
        (Some(cold), Some(warm)) if compiles => format!("cold {}, warm {}", ms(cold), ms(warm)),
        (Some(cold), None) => format!("cold {}", ms(cold)),
        (_, Some(warm)) => ms(warm),
        (None, None) => "-".into(),
    }
}

/// Describes what the GPU and its driver reported for a case; `None` on the CPU.
fn device_line(name: &str, case: &Case) -> Option<String> {
    let Case { graph, batch, streams, .. } = case;
    let words = case.device_words()?;
    Some(format!("{name} {graph} batch {batch} streams {streams}: {words}"))
}

fn comparison_row(comparison: &Comparison) -> Vec<String> {
    let Comparison {
        profile,
        baseline,
        graph,
        batch,
        streams,
        metric,
        baseline_value,
        value,
        ratio,
        low,
        high,
        verdict,
    } = comparison;
    let interval = match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", percent(*low), percent(*high)),
        _ => "-".into(),
    };
    vec![
        profile.clone(),
        baseline.clone(),
        graph.clone(),
        batch.to_string(),
        streams.to_string(),
        metric.name().into(),
        ms(*baseline_value),
        ms(*value),
        percent(*ratio),
        interval,
        verdict.words().into(),
    ]
}

/// Formats a number with three significant digits.
fn ms(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

/// `nimctl.bench/1`, with the comparisons.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    document: &'a BenchDocument,
    comparisons: &'a [Comparison],
    uncompared: &'a [Uncompared],
    failed_gates: &'a [String],
    unanswered_gates: &'a [String],
}

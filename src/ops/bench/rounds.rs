//! Measures case by case, round by round, profile by profile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::gpu::{Seen, WatchedRound};
use super::{BenchError, BenchEvent, BenchOptions};
use crate::benchmark::{Case, Latency, Machine, Round, Span};
use crate::digest::Sha256;
use crate::files::work_folder::WorkFolder;
use crate::ops::runners::{Way, place};
use crate::ops::samples;
use crate::ops::validate::runtime::digests_of;
use crate::ops::workspace::Workspace;
use crate::passport::Passport;
use crate::worker::error::WorkerError;
use crate::worker::host::{Elsewhere, Limits, Worker};
use crate::worker::npy::Tensor;
use crate::worker::protocol::{BenchRequest, BenchResult, Event, Execution};

/// Columns of a sample: stream, start, duration.
const COLUMNS: usize = 3;

/// A profile that is measured.
pub(super) struct Subject {
    pub name: String,
    pub passport: Passport,
    pub way: Way,
    /// What the measurement is of.
    pub key: Option<Sha256>,
    /// The file of each graph, in a folder of its own.
    pub models: BTreeMap<String, (PathBuf, WorkFolder)>,
    pub cases: Vec<Case>,
    /// Every sample, by the name of case and round.
    pub samples: BTreeMap<String, Tensor>,
    /// The machine that it is measured on, if that is another one.
    pub machine: Option<Machine>,
    /// Why its GPU was not observed, if it runs on one.
    pub unwatched: Option<String>,
}

/// The inputs of a graph at one batch.
pub(super) struct Inputs {
    pub graph: String,
    pub batch: u64,
    pub files: BTreeMap<String, PathBuf>,
}

/// Measures every case of every subject.
pub(super) fn measure(
    workspace: &Workspace,
    subjects: &mut [Subject],
    inputs: &[Inputs],
    options: &BenchOptions,
    folder: &Path,
    on_event: &dyn Fn(BenchEvent),
) -> Result<(), BenchError> {
    let rounds = options.settings.rounds;
    for inputs in inputs {
        for &streams in &options.streams {
            let mut progress: Vec<Progress> =
                subjects.iter().map(|_| Progress::new(inputs, streams)).collect();
            for round in 0..rounds {
                // Rotate the order: no profile is always the first after a break.
                for place in 0..subjects.len() {
                    let index = if round % 2 == 0 { place } else { subjects.len() - 1 - place };
                    let (subject, progress) = (&mut subjects[index], &mut progress[index]);
                    if workspace.cancel.is_cancelled() {
                        return Err(BenchError::Cancelled);
                    }
                    if progress.case.failure.is_some() {
                        continue;
                    }
                    let title =
                        format!("{} {} batch {} streams {streams}", subject.name, inputs.graph, inputs.batch);
                    on_event(BenchEvent::Round { title, round: round + 1, rounds });
                    let name = format!("{}-b{}-s{streams}-r{round}", inputs.graph, inputs.batch);
                    let samples = folder.join(format!("{}-{name}.npy", subject.name));
                    // The first round of a case finds none, the others what it left.
                    let case = format!("{}-{}-b{}-s{streams}", subject.name, inputs.graph, inputs.batch);
                    let cache = folder.join(format!("{case}.cache"));
                    let files = Files { samples, cache };
                    match one_round(workspace, subject, inputs, streams, options, &files) {
                        Ok((measured, tensor)) => {
                            if let Some(why) = &measured.unwatched {
                                subject.unwatched.get_or_insert_with(|| why.clone());
                            }
                            if let Some(machine) = &measured.machine {
                                // At the start, as for this machine.
                                subject.machine.get_or_insert_with(|| machine.clone());
                            }
                            progress.add(measured);
                            subject.samples.insert(name, tensor);
                        }
                        Err(_) if workspace.cancel.is_cancelled() => return Err(BenchError::Cancelled),
                        Err(Failure::Around(source)) => {
                            let (profile, graph) = (subject.name.clone(), inputs.graph.clone());
                            return Err(BenchError::Around { profile, graph, source });
                        }
                        Err(Failure::Case(why)) => {
                            progress.case.failure = Some(format!("round {}: {why}", round + 1));
                        }
                    }
                }
            }
            for (subject, progress) in subjects.iter_mut().zip(progress) {
                subject.cases.push(progress.finish());
            }
        }
    }
    Ok(())
}

/// A case in the making.
struct Progress {
    case: Case,
    latencies_ns: Vec<Vec<u64>>,
}

impl Progress {
    fn new(inputs: &Inputs, streams: u32) -> Self {
        let case = Case {
            graph: inputs.graph.clone(),
            batch: inputs.batch,
            streams,
            ran_on: String::new(),
            clock: String::new(),
            boundary: String::new(),
            latency: None,
            items_per_s: None,
            rounds: Vec::new(),
            failure: None,
        };
        Self { case, latencies_ns: Vec::new() }
    }

    fn add(&mut self, measured: Measured) {
        let Measured { round, latencies_ns, ran_on, clock, boundary, machine: _, unwatched: _ } = measured;
        self.case.rounds.push(round);
        self.latencies_ns.push(latencies_ns);
        (self.case.ran_on, self.case.clock, self.case.boundary) = (ran_on, clock, boundary);
    }

    fn finish(self) -> Case {
        let Self { mut case, latencies_ns } = self;
        if case.failure.is_none() {
            case.latency = Latency::new(&latencies_ns);
            case.items_per_s = case.median_of_rounds(|round| round.items_per_s);
        }
        case
    }
}

struct Measured {
    round: Round,
    latencies_ns: Vec<u64>,
    ran_on: String,
    clock: String,
    boundary: String,
    /// The machine, if it is another one.
    machine: Option<Machine>,
    unwatched: Option<String>,
}

enum Failure {
    /// Of what is around it: nothing is known of the profile.
    Around(WorkerError),
    /// Of this profile in this case; the others go on.
    Case(String),
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        if error.is_about_what_ran() { Self::Case(error.to_string()) } else { Self::Around(error) }
    }
}

/// What the worker writes.
struct Files {
    samples: PathBuf,
    cache: PathBuf,
}

/// Measures in a fresh process.
fn one_round(
    workspace: &Workspace,
    subject: &Subject,
    inputs: &Inputs,
    streams: u32,
    options: &BenchOptions,
    files: &Files,
) -> Result<(Measured, Tensor), Failure> {
    let settings = &options.settings;
    let Files { samples, cache } = files;
    let Way { command, execution, runtime: _, device } = &subject.way;
    let compiles_when_loaded = subject.passport.contents.backend.facts().compiles_when_loaded;
    let (model, _) = subject
        .models
        .get(&inputs.graph)
        .ok_or_else(|| Failure::Case(format!("it has no graph `{}`", inputs.graph)))?;
    let no_graph = || Failure::Case(format!("its passport has no graph `{}`", inputs.graph));
    let graph = subject.passport.graphs.get(&inputs.graph).ok_or_else(no_graph)?;
    let lowering = &graph.lowering.document.lowering;
    let of_profile =
        samples::lowered(&inputs.files, lowering).map_err(|error| Failure::Case(error.to_string()))?;
    let request = BenchRequest {
        path: model.clone(),
        digests: digests_of(&graph.shipped().outputs),
        inputs: of_profile,
        streams,
        warm_up_ms: settings.warm_up_ms,
        window_ms: settings.window_ms,
        budget_ms: settings.budget_ms,
        execution: Execution {
            runtime_cache: compiles_when_loaded.then(|| cache.clone()),
            ..execution.clone()
        },
        samples: samples.clone(),
    };
    let measuring = Duration::from_millis(settings.warm_up_ms + settings.budget_ms);
    let limits = Limits { request_timeout: workspace.job_timeout + measuring, ..Limits::default() };
    let mut first_result = None;
    let mut watch = WatchedRound::start(options.nvml_library.as_deref(), device.as_ref());
    #[expect(clippy::disallowed_methods, reason = "the first result is timed")]
    let now = Instant::now;
    let before = now();
    let mut worker = Worker::spawn_unless(command, limits, &workspace.cancel)?;
    // What it waited for until a node was free is no part of it.
    let started = if command.through.is_some() { now() } else { before };
    let answer = worker.bench(request, &workspace.cancel, &mut |event| {
        let Event::Progress(progress) = event else { return };
        match (progress.stage.as_str(), &mut watch) {
            ("first_result", _) => _ = first_result.get_or_insert_with(|| started.elapsed()),
            ("measure", Some(watch)) => watch.measuring(),
            _ => {}
        }
    })?;
    let BenchResult {
        load_us,
        sample_count,
        elapsed_ns,
        settled,
        clock,
        boundary,
        ran_on,
        device_memory_bytes,
        device_p50_ns,
    } = answer.result;
    let broken =
        |reason: String| Failure::Case(format!("the worker broke the protocol during `bench`: {reason}"));
    let tensor = Tensor::read(samples).map_err(|error| broken(error.to_string()))?;
    let rows = tensor.elements::<i64>().filter(|_| {
        tensor.shape().len() == 2
            && tensor.shape()[1] == COLUMNS
            && u64::try_from(tensor.shape()[0]).is_ok_and(|rows| rows == sample_count)
    });
    let rows = rows.ok_or_else(|| {
        broken(format!(
            "{sample_count} samples should be int64 of shape [{sample_count}, {COLUMNS}], and are {} of shape {:?}",
            tensor.element_type().name(),
            tensor.shape()
        ))
    })?;
    let spans: Option<Vec<Span>> = rows.as_chunks::<COLUMNS>().0.iter().map(span_of).collect();
    let spans = spans.ok_or_else(|| broken("a run has a duration of zero or less".into()))?;
    let elapsed = Duration::from_nanos(elapsed_ns);
    let seen = match watch {
        None => Seen { counts: vec![true; spans.len()], ..Seen::default() },
        Some(watch) => watch.finish(&spans, elapsed, inputs.batch).map_err(Failure::Case)?,
    };
    let Seen { gpu, counts, spoiled, problem: unwatched } = seen;
    let counted = spans.iter().zip(&counts).filter(|(_, counts)| **counts);
    let latencies_ns: Vec<u64> = counted.map(|((from, to), _)| nanoseconds(*to - *from)).collect();
    let round = Round::new(&latencies_ns, inputs.batch, nanoseconds(elapsed.saturating_sub(spoiled)))
        .ok_or_else(|| broken("it reported no samples".into()))?;
    let first_result = first_result.ok_or_else(|| broken("it did not report a first result".into()))?;
    let description = worker.description();
    let round = Round {
        settled,
        load_ms: load_us as f64 / 1e3,
        first_result_ms: first_result.as_secs_f64() * 1e3,
        peak_memory_bytes: answer.peak_memory_bytes,
        device_memory_bytes,
        device_p50_ms: device_p50_ns.map(|ns| ns as f64 / 1e6),
        runtime_cache: ran_on.runtime_cache,
        gpu,
        discarded: spans.len() - latencies_ns.len(),
        ..round
    };
    let place = place(&description.backend, description.library.as_ref(), &ran_on);
    let (ran_on, machine, unwatched) = match worker.elsewhere() {
        None => (place, None, unwatched),
        Some(Elsewhere { node, machine }) => {
            let why = format!("it was measured on node {node}, where nobody watched it");
            (format!("{place}, node {node}"), Some(machine), Some(why))
        }
    };
    Ok((Measured { round, latencies_ns, ran_on, clock, boundary, machine, unwatched }, tensor))
}

/// Returns when a sample began and ended, since the start of the loop; `None` for one that took no time.
fn span_of(row: &[i64; COLUMNS]) -> Option<Span> {
    let [_stream, start, duration] = row.map(|value| u64::try_from(value).ok());
    let (start, duration) = (Duration::from_nanos(start?), Duration::from_nanos(duration?));
    (!duration.is_zero()).then(|| (start, start + duration))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

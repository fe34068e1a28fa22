//! Runs graphs again and again against the clock.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nimctl::stats::{Window, is_stable};
use nimctl::worker::npy::Tensor;
use nimctl::worker::protocol::{BenchRequest, BenchResult, ErrorCode, Problem};
use nimctl::worker::serve::Events;
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;

use super::session;

/// A window has so many runs at least.
const LEAST_RUNS: usize = 10;
const CLOCK: &str = "CLOCK_MONOTONIC";
const BOUNDARY: &str = "one call of ONNX Runtime's run: inputs lie in host memory, outputs are allocated in the call; each stream has a session of its own";

/// One timed run: its stream, its start after the beginning of the loop, and how long it took.
#[derive(Clone, Copy)]
struct Sample {
    stream: u32,
    start: Duration,
    duration: Duration,
}

/// A session with its inputs.
struct Stream {
    session: Session,
    inputs: Vec<(String, DynValue)>,
}

impl Stream {
    fn run(&mut self, path: &Path) -> Result<(), Problem> {
        let inputs: Vec<(&str, SessionInputValue<'_>)> =
            self.inputs.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
        self.session.run(inputs).map(drop).map_err(|error| session::run_problem(path, &error))
    }
}

/// Measures a graph.
pub(crate) fn bench(
    environment: &Environment,
    request: &BenchRequest,
    events: &Events,
) -> Result<BenchResult, Problem> {
    let BenchRequest { path, inputs, streams, warm_up_ms, window_ms, budget_ms, threads, samples } = request;
    if *streams == 0 {
        return Err(Problem::new(ErrorCode::InvalidRequest, "`streams` is 0"));
    }
    events.progress("load", None, None);
    let started = Instant::now();
    let mut first = Stream { session: session::load(environment, path, *threads)?, inputs: Vec::new() };
    let load_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    first.inputs = session::read_inputs(&first.session, inputs)?;
    first.run(path)?;
    events.progress("first_result", None, None);
    let mut all = vec![first];
    for _ in 1..*streams {
        let session = session::load(environment, path, *threads)?;
        let inputs = session::read_inputs(&session, inputs)?;
        all.push(Stream { session, inputs });
    }
    events.progress("warm_up", None, None);
    let warm = measure(&mut all, path, &Until::Time(Duration::from_millis(*warm_up_ms)))?;
    drop(warm);
    events.progress("measure", None, None);
    let until = Until::Settled {
        window: Duration::from_millis(*window_ms),
        budget: Duration::from_millis(*budget_ms),
    };
    let (found, settled) = measure(&mut all, path, &until)?;
    let elapsed = found.iter().map(|sample| sample.start + sample.duration).max().unwrap_or_default();
    let rows: Vec<i64> = found
        .iter()
        .flat_map(|sample| {
            [i64::from(sample.stream), nanoseconds(sample.start), nanoseconds(sample.duration)]
        })
        .collect();
    Tensor::new(&[found.len(), 3], &rows)
        .and_then(|tensor| tensor.write(samples))
        .map_err(|error| session::npy_problem(&error))?;
    Ok(BenchResult {
        load_us,
        sample_count: found.len() as u64,
        elapsed_ns: nanoseconds(elapsed).unsigned_abs(),
        settled,
        clock: CLOCK.into(),
        boundary: BOUNDARY.into(),
    })
}

/// When a loop ends.
enum Until {
    Time(Duration),
    Settled { window: Duration, budget: Duration },
}

/// What all streams found, and how far their windows are.
struct Shared {
    samples: Vec<Sample>,
    windows: Vec<Window>,
    /// Samples before the window that is being filled.
    counted: usize,
    window_start: Duration,
    done: bool,
    settled: bool,
    problem: Option<Problem>,
}

/// Lets every stream run until it is time; returns the samples by their start, and whether they settled.
fn measure(streams: &mut [Stream], path: &Path, until: &Until) -> Result<(Vec<Sample>, bool), Problem> {
    let shared = Mutex::new(Shared {
        samples: Vec::new(),
        windows: Vec::new(),
        counted: 0,
        window_start: Duration::ZERO,
        done: false,
        settled: false,
        problem: None,
    });
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (stream, index) in streams.iter_mut().zip(0..) {
            let shared = &shared;
            scope.spawn(move || {
                loop {
                    let start = began.elapsed();
                    let outcome = stream.run(path);
                    let end = began.elapsed();
                    let Ok(mut shared) = shared.lock() else { return };
                    if shared.done {
                        return;
                    }
                    match outcome {
                        Ok(()) => {
                            shared.samples.push(Sample { stream: index, start, duration: end - start });
                        }
                        Err(problem) => {
                            shared.problem = Some(problem);
                            shared.done = true;
                        }
                    }
                    shared.look(end, until);
                    if shared.done {
                        return;
                    }
                }
            });
        }
    });
    let shared = shared.into_inner().map_err(|_| Problem::new(ErrorCode::WorkerBug, "a stream panicked"))?;
    let Shared { mut samples, settled, problem, .. } = shared;
    samples.sort_by_key(|sample| sample.start);
    problem.map_or(Ok((samples, settled)), Err)
}

impl Shared {
    /// Closes a window that is full, and decides whether it was the last.
    fn look(&mut self, now: Duration, until: &Until) {
        let (window, budget) = match until {
            Until::Time(time) => {
                self.done |= now >= *time;
                return;
            }
            Until::Settled { window, budget } => (*window, *budget),
        };
        let fresh = &self.samples[self.counted..];
        let length = now - self.window_start;
        if length < window || fresh.len() < LEAST_RUNS {
            // Where ten runs alone take longer than there is time, there are fewer.
            self.done |= now >= budget && self.samples.len() >= LEAST_RUNS;
            return;
        }
        let mut durations: Vec<Duration> = fresh.iter().map(|sample| sample.duration).collect();
        durations.sort();
        self.windows.push(Window {
            latency: durations[durations.len() / 2].as_secs_f64(),
            throughput: fresh.len() as f64 / length.as_secs_f64(),
        });
        self.counted = self.samples.len();
        self.window_start = now;
        self.settled = is_stable(&self.windows);
        self.done |= self.settled || now >= budget;
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

//! The timed loop of a benchmark, for every worker: streams run again and again until they settle or time is up.
//!
//! The rule is that of [`BenchRequest`]. What one run is, is the worker's: a closure for each stream.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::npy::{NpyError, Tensor};
use crate::protocol::{BenchRequest, ErrorCode, Problem};
use crate::stop_rule::{Window, is_stable};

/// The clock that samples are read from.
pub const CLOCK: &str = "CLOCK_MONOTONIC";
/// A window has at least this many runs.
const MIN_RUNS: usize = 10;

/// What a measurement found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Sorted by their start.
    samples: Vec<Sample>,
    /// Whether the last windows agreed before the time was up.
    pub settled: bool,
}

/// One timed run: its stream, its start after the beginning of the loop, and how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    stream: u32,
    start: Duration,
    duration: Duration,
}

impl Measured {
    /// Returns how many samples there are.
    pub fn sample_count(&self) -> u64 {
        self.samples.len() as u64
    }

    /// Returns the time from the beginning of the loop to the last end of a sample, in ns.
    pub fn elapsed_ns(&self) -> u64 {
        let last = self.samples.iter().map(|sample| sample.start + sample.duration).max();
        nanoseconds(last.unwrap_or_default()).unsigned_abs()
    }

    /// Writes the samples as the protocol has them: stream, start in ns, duration in ns.
    pub fn write(&self, path: &Path) -> Result<(), NpyError> {
        let rows: Vec<i64> = self
            .samples
            .iter()
            .flat_map(|sample| {
                [i64::from(sample.stream), nanoseconds(sample.start), nanoseconds(sample.duration)]
            })
            .collect();
        Tensor::new(&[self.samples.len(), 3], &rows)?.write(path)
    }
}

/// Lets every stream run for the warm-up of a request; nothing of it counts.
///
/// # Errors
///
/// The first problem that a stream met. All streams end then.
pub fn warm_up<R>(streams: &mut [R], request: &BenchRequest) -> Result<(), Problem>
where
    R: FnMut() -> Result<(), Problem> + Send,
{
    let until = Until::Time(Duration::from_millis(request.warm_up_ms));
    run_all(streams, &until).map(drop)
}

/// Lets every stream run until their windows agree or the budget of a request is spent.
///
/// # Errors
///
/// The first problem that a stream met. All streams end then, and there are no samples.
pub fn measure<R>(streams: &mut [R], request: &BenchRequest) -> Result<Measured, Problem>
where
    R: FnMut() -> Result<(), Problem> + Send,
{
    let until = Until::Settled {
        window: Duration::from_millis(request.window_ms),
        budget: Duration::from_millis(request.budget_ms),
    };
    run_all(streams, &until)
}

/// When a loop ends.
enum Until {
    Time(Duration),
    Settled { window: Duration, budget: Duration },
}

fn run_all<R>(streams: &mut [R], until: &Until) -> Result<Measured, Problem>
where
    R: FnMut() -> Result<(), Problem> + Send,
{
    let shared = Mutex::new(Shared::default());
    #[expect(clippy::disallowed_methods, reason = "this is the clock of a benchmark")]
    let began = Instant::now();
    std::thread::scope(|scope| {
        for (run, stream) in streams.iter_mut().zip(0..) {
            let shared = &shared;
            scope.spawn(move || {
                loop {
                    let start = began.elapsed();
                    let outcome = run();
                    let end = began.elapsed();
                    let Ok(mut shared) = shared.lock() else { return };
                    if shared.done {
                        return;
                    }
                    match outcome {
                        Ok(()) => shared.add(Sample { stream, start, duration: end - start }, until),
                        Err(problem) => {
                            shared.problem = Some(problem);
                            shared.done = true;
                        }
                    }
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
    problem.map_or(Ok(Measured { samples, settled }), Err)
}

/// What all streams found, and how far their windows are.
#[derive(Default)]
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

impl Shared {
    /// Takes a sample at its end, closes a window that is full, and decides whether it was the last.
    fn add(&mut self, sample: Sample, until: &Until) {
        let now = sample.start + sample.duration;
        self.samples.push(sample);
        let (window, budget) = match until {
            Until::Time(time) => {
                self.done |= now >= *time;
                return;
            }
            Until::Settled { window, budget } => (*window, *budget),
        };
        let fresh = &self.samples[self.counted..];
        let length = now.saturating_sub(self.window_start);
        if length < window || fresh.len() < MIN_RUNS {
            // Where ten runs alone take longer than there is time, there are fewer.
            self.done |= now >= budget && self.samples.len() >= MIN_RUNS;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Execution;

    /// Adds runs of these durations, one after the other, until the loop is done; returns it and how many it took.
    fn feed(durations_ms: impl IntoIterator<Item = u64>, window_ms: u64, budget_ms: u64) -> (Shared, usize) {
        let until = Until::Settled {
            window: Duration::from_millis(window_ms),
            budget: Duration::from_millis(budget_ms),
        };
        let mut shared = Shared::default();
        let mut start = Duration::ZERO;
        let mut taken = 0;
        for duration in durations_ms.into_iter().map(Duration::from_millis) {
            shared.add(Sample { stream: 0, start, duration }, &until);
            start += duration;
            taken += 1;
            if shared.done {
                break;
            }
        }
        (shared, taken)
    }

    fn request(budget_ms: u64) -> BenchRequest {
        BenchRequest {
            digests: std::collections::BTreeMap::new(),
            path: "graph.onnx".into(),
            inputs: [].into(),
            streams: 1,
            warm_up_ms: 0,
            window_ms: 0,
            budget_ms,
            execution: Execution::default(),
            samples: "samples.npy".into(),
        }
    }

    #[test]
    fn three_windows_that_agree_are_enough() {
        let (shared, taken) = feed(std::iter::repeat(10), 200, 60_000);
        assert!(shared.settled);
        assert_eq!((taken, shared.windows.len()), (60, 3));
    }

    #[test]
    fn a_window_has_ten_runs_at_least() {
        let (shared, taken) = feed(std::iter::repeat(100), 200, 60_000);
        assert!(shared.settled);
        assert_eq!((taken, shared.windows.len()), (30, 3));
    }

    #[test]
    fn runs_that_grow_slower_end_with_the_budget_and_did_not_settle() {
        let (shared, _) = feed((0..).map(|run| 10 + run), 100, 5000);
        assert!(shared.done);
        assert!(!shared.settled);
        let last = shared.samples[shared.samples.len() - 1];
        let end = last.start + last.duration;
        assert!(end >= Duration::from_millis(5000));
        assert!(last.start < Duration::from_millis(5000 + 110 * 10), "within a window of the budget");
    }

    #[test]
    fn a_change_after_two_windows_takes_three_more() {
        let durations = std::iter::repeat_n(10, 40).chain(std::iter::repeat(20));
        let (shared, taken) = feed(durations, 200, 60_000);
        assert!(shared.settled);
        assert_eq!((taken, shared.windows.len()), (40 + 30, 5));
    }

    #[test]
    fn slow_runs_are_ten_even_if_that_takes_longer_than_the_budget() {
        let (shared, taken) = feed(std::iter::repeat(1000), 60_000, 3000);
        assert!(shared.done);
        assert!(!shared.settled);
        assert_eq!(taken, MIN_RUNS);
    }

    #[test]
    fn every_stream_has_samples_and_they_are_sorted() {
        let mut streams: Vec<_> = (0..3)
            .map(|_| {
                || {
                    std::thread::sleep(Duration::from_millis(1));
                    Ok(())
                }
            })
            .collect();
        let measured = measure(&mut streams, &request(50)).unwrap();
        for stream in 0..3 {
            assert!(measured.samples.iter().any(|sample| sample.stream == stream), "{stream}");
        }
        assert!(measured.samples.is_sorted_by_key(|sample| sample.start));
        assert!(measured.samples.iter().all(|sample| sample.duration >= Duration::from_millis(1)));
        assert!(measured.elapsed_ns() >= 1_000_000);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.npy");
        measured.write(&path).unwrap();
        let written = Tensor::read(&path).unwrap();
        assert_eq!(written.shape(), [measured.samples.len(), 3]);
    }

    #[test]
    fn the_first_problem_ends_all_streams() {
        let runs = std::sync::atomic::AtomicU32::new(0);
        let mut streams: Vec<_> = (0..2)
            .map(|_| {
                || match runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                    // Every later one too: a stream may be held up between its run and its report.
                    0..7 => Ok(()),
                    _ => Err(Problem::new(ErrorCode::RunFailed, "the eighth run")),
                }
            })
            .collect();
        let problem = measure(&mut streams, &request(600_000)).unwrap_err();
        assert_eq!(problem.message, "the eighth run");
        runs.store(0, std::sync::atomic::Ordering::Relaxed);
        let mut long = request(0);
        long.warm_up_ms = 600_000;
        assert!(warm_up(&mut streams, &long).is_err());
    }
}

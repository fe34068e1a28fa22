//! Runs graphs again and again against the clock.

use std::path::Path;
use std::time::Instant;

use nimctl::worker::protocol::{BenchRequest, BenchResult, ErrorCode, Problem, RanOn};
use nimctl::worker::serve::Events;
use nimctl::worker::timed_loop;
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::DynValue;

use super::session;

const BOUNDARY: &str = "one call of ONNX Runtime's run: inputs lie in host memory, outputs are allocated in the call; each stream has a session of its own";

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
    let BenchRequest { path, inputs, streams, execution, samples, .. } = request;
    let threads = &execution.threads;
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
    let mut runs: Vec<_> = all.iter_mut().map(|stream| || stream.run(path)).collect();
    events.progress("warm_up", None, None);
    timed_loop::warm_up(&mut runs, request)?;
    events.progress("measure", None, None);
    let measured = timed_loop::measure(&mut runs, request)?;
    measured.write(samples).map_err(|error| session::npy_problem(&error))?;
    Ok(BenchResult {
        load_us,
        sample_count: measured.sample_count(),
        elapsed_ns: measured.elapsed_ns(),
        settled: measured.settled,
        clock: timed_loop::CLOCK.into(),
        boundary: BOUNDARY.into(),
        ran_on: RanOn::default(),
        device_memory_bytes: None,
        device_p50_ns: None,
    })
}

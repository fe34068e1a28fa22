//! Runs graphs again and again against the clock.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use nimctl_backend_kit::inputs::npy_problem;
use nimctl_backend_kit::protocol::{
    BenchRequest, BenchResult, ErrorCode, Execution, MAX_STREAMS, Problem, Provider, RanOn,
};
use nimctl_backend_kit::serve::Events;
use nimctl_backend_kit::timed_loop;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, SessionInputValue};
use ort::value::DynValue;

use super::profile::Profile;
use super::session::Model;
use super::{provider, session};

const ON_CPU: &str = "one call of ONNX Runtime's run: inputs lie in host memory, outputs are allocated in the call; each stream has a session of its own";
const ON_GPU: &str = "inputs copied from host memory to bound memory of the GPU, one call of ONNX Runtime's run, outputs copied back to bound host memory; each stream has a session of its own";

/// A session with its inputs.
struct Stream {
    session: Session,
    inputs: Vec<(String, DynValue)>,
    /// On a GPU: where inputs and outputs lie, so that no run allocates anything.
    binding: Option<IoBinding>,
}

impl Stream {
    fn new(environment: &Environment, model: &Model<'_>, execution: &Execution) -> Result<Self, Problem> {
        let session = session::load(environment, model, execution, None)?;
        Ok(Self { session, inputs: Vec::new(), binding: None })
    }

    /// Reads the inputs, and binds memory where they have to be copied.
    fn feed(&mut self, request: &BenchRequest) -> Result<(), Problem> {
        self.inputs = session::read_inputs(&self.session, &request.inputs)?;
        if request.execution.provider == Some(Provider::Cuda) {
            let bind = || -> ort::Result<IoBinding> {
                let mut binding = self.session.create_binding()?;
                let host =
                    MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
                for output in self.session.outputs() {
                    binding.bind_output_to_device(output.name(), &host)?;
                }
                Ok(binding)
            };
            self.binding = Some(bind().map_err(|error| session::run_problem(&request.path, &error))?);
        }
        Ok(())
    }

    fn run(&mut self, path: &Path) -> Result<(), Problem> {
        let Self { session, inputs, binding } = self;
        let run = || -> ort::Result<()> {
            match binding {
                None => {
                    let inputs: Vec<(&str, SessionInputValue<'_>)> =
                        inputs.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
                    session.run(inputs).map(drop)
                }
                Some(binding) => {
                    // Binding is what copies.
                    for (name, value) in inputs {
                        binding.bind_input(name.as_str(), value)?;
                    }
                    binding.synchronize_inputs()?;
                    session.run_binding(binding).map(drop)?;
                    binding.synchronize_outputs()
                }
            }
        };
        run().map_err(|error| session::run_problem(path, &error))
    }
}

/// Measures a graph.
pub(crate) fn bench(
    environment: &Environment,
    request: &BenchRequest,
    events: &Events,
) -> Result<BenchResult, Problem> {
    let BenchRequest { path, digests, streams, execution, samples, .. } = request;
    if !(1..=MAX_STREAMS).contains(streams) {
        let message = format!("`streams` is {streams}: expected 1 to {MAX_STREAMS}");
        return Err(Problem::new(ErrorCode::InvalidRequest, message));
    }
    let device = provider::device(execution)?;
    events.progress("load", None, None);
    #[expect(clippy::disallowed_methods, reason = "the load is timed")]
    let started = Instant::now();
    let model = Model::read(path, digests)?;
    let mut first = Stream::new(environment, &model, execution)?;
    let load_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    first.feed(request)?;
    first.run(path)?;
    events.progress("first_result", None, None);
    let mut all = vec![first];
    for _ in 1..*streams {
        let mut stream = Stream::new(environment, &model, execution)?;
        stream.feed(request)?;
        all.push(stream);
    }
    let mut runs: Vec<_> = all.iter_mut().map(|stream| || stream.run(path)).collect();
    events.progress("warm_up", None, None);
    timed_loop::warm_up(&mut runs, request)?;
    events.progress("measure", None, None);
    let measured = timed_loop::measure(&mut runs, request)?;
    drop(runs);
    measured.write(samples).map_err(|error| npy_problem(&error))?;
    drop(all);
    let nodes = match execution.provider {
        // What was measured must be what was requested. On the CPU there is no fallback.
        Some(Provider::Cuda) => profiled(environment, &model, request)?,
        Some(Provider::Cpu) | None => BTreeMap::new(),
    };
    let boundary = if device.is_some() { ON_GPU } else { ON_CPU };
    Ok(BenchResult {
        load_us,
        sample_count: measured.sample_count(),
        elapsed_ns: measured.elapsed_ns(),
        settled: measured.settled,
        clock: timed_loop::CLOCK.into(),
        boundary: boundary.into(),
        ran_on: RanOn { device, nodes, ..RanOn::default() },
        device_memory_bytes: None,
        device_p50_ns: None,
    })
}

/// Returns what ran each node, from one more run in a session of its own: recording would be in the times.
fn profiled(
    environment: &Environment,
    model: &Model<'_>,
    request: &BenchRequest,
) -> Result<BTreeMap<String, u64>, Problem> {
    let BenchRequest { path, inputs, execution, .. } = request;
    let Execution { provider, .. } = execution;
    let profile = Profile::new()?;
    let mut session = session::load(environment, model, execution, Some(&profile))?;
    let inputs = session::read_inputs(&session, inputs)?;
    let inputs: Vec<(&str, SessionInputValue<'_>)> =
        inputs.iter().map(|(name, value)| (name.as_str(), value.into())).collect();
    session.run(inputs).map(drop).map_err(|error| session::run_problem(path, &error))?;
    profile.nodes(&mut session, provider.unwrap_or(Provider::Cpu))
}

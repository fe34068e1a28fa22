//! Answers `run` and `bench`.

#![expect(clippy::disallowed_methods, reason = "loads and runs are timed")]

use std::collections::BTreeMap;
use std::time::Instant;

use nimctl_backend_kit::inputs::{npy_problem, read_inputs};
use nimctl_backend_kit::protocol::{
    BenchRequest, BenchResult, ErrorCode, Execution, MAX_STREAMS, Problem, RanOn, RunRequest, RunResult,
};
use nimctl_backend_kit::serve::Events;
use nimctl_backend_kit::timed_loop;

use super::cuda::Gpu;
use super::lane::Lane;
use super::loaded::Loaded;
use super::plan::{Plan, check_execution};

const BOUNDARY: &str = "inputs copied from page-locked host memory, the plan run, outputs copied back, and all of it waited for; each stream has a context of its own";

/// Runs a plan once.
pub(crate) fn run(library: &Loaded, request: &RunRequest, events: &Events) -> Result<RunResult, Problem> {
    let RunRequest { path, digests, inputs, output_folder, execution } = request;
    check_execution(execution)?;
    let gpu = Gpu::open(execution.device)?;
    events.progress("load", None, None);
    let started = Instant::now();
    let mut plan = Plan::load(library, &gpu, path, digests, execution, events)?;
    let load_ms = started.elapsed();
    let tensors = read_inputs(&plan.inputs, inputs)?;
    let mut run_ms = std::time::Duration::ZERO;
    let mut results = Vec::new();
    Lane::all(library, &mut plan, &gpu, &tensors, 1, |lane| {
        events.progress("run", None, None);
        let started = Instant::now();
        lane.run()?;
        run_ms = started.elapsed();
        results = lane.results()?;
        Ok(())
    })?;
    events.progress("write", None, None);
    let mut outputs = BTreeMap::new();
    for (index, (name, tensor)) in results.into_iter().enumerate() {
        // Names of tensors may hold slashes.
        let path = output_folder.join(format!("output-{index}.npy"));
        tensor.write(&path).map_err(|error| npy_problem(&error))?;
        outputs.insert(name, path);
    }
    plan.keep_cache()?;
    let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Ok(RunResult {
        outputs,
        load_ms: milliseconds(load_ms),
        run_ms: milliseconds(run_ms),
        ran_on: ran_on(gpu, &plan, execution),
    })
}

/// Measures a plan.
pub(crate) fn bench(
    library: &Loaded,
    request: &BenchRequest,
    events: &Events,
) -> Result<BenchResult, Problem> {
    let BenchRequest { path, digests, inputs, streams, execution, samples, .. } = request;
    if !(1..=MAX_STREAMS).contains(streams) {
        let message = format!("`streams` is {streams}: expected 1 to {MAX_STREAMS}");
        return Err(Problem::new(ErrorCode::InvalidRequest, message));
    }
    check_execution(execution)?;
    let gpu = Gpu::open(execution.device)?;
    let free_before = gpu.free_bytes()?;
    events.progress("load", None, None);
    let started = Instant::now();
    let mut plan = Plan::load(library, &gpu, path, digests, execution, events)?;
    let load_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let tensors = read_inputs(&plan.inputs, inputs)?;
    let mut lanes = Lane::all(library, &mut plan, &gpu, &tensors, *streams, |first| {
        first.run()?;
        events.progress("first_result", None, None);
        Ok(())
    })?;
    if execution.cuda_graph == Some(true) {
        for lane in &mut lanes {
            lane.run()?;
            lane.capture()?;
        }
    }
    events.progress("warm_up", None, None);
    timed_loop::warm_up(&mut callers(&mut lanes), request)?;
    for lane in &mut lanes {
        lane.device_times_ns.clear();
    }
    events.progress("measure", None, None);
    let measured = timed_loop::measure(&mut callers(&mut lanes), request)?;
    let free_after = gpu.free_bytes()?;
    measured.write(samples).map_err(|error| npy_problem(&error))?;
    let mut device_times_ns: Vec<u64> =
        lanes.iter().flat_map(|lane| lane.device_times_ns.iter().copied()).collect();
    device_times_ns.sort_unstable();
    drop(lanes);
    plan.keep_cache()?;
    Ok(BenchResult {
        load_us,
        sample_count: measured.sample_count(),
        elapsed_ns: measured.elapsed_ns(),
        settled: measured.settled,
        clock: timed_loop::CLOCK.into(),
        boundary: BOUNDARY.into(),
        ran_on: ran_on(gpu, &plan, execution),
        device_memory_bytes: free_before.checked_sub(free_after),
        device_p50_ns: device_times_ns.get(device_times_ns.len() / 2).copied(),
    })
}

/// Returns what one caller does, for each.
fn callers<'a>(lanes: &'a mut [Lane<'_>]) -> Vec<impl FnMut() -> Result<(), Problem> + Send + 'a> {
    lanes.iter_mut().map(|lane| || lane.run()).collect()
}

fn ran_on(gpu: Gpu, plan: &Plan, execution: &Execution) -> RanOn {
    RanOn {
        device: Some(gpu.device),
        nodes: BTreeMap::new(),
        cuda_graph: execution.cuda_graph == Some(true),
        runtime_cache: plan.cache_use(),
    }
}

//! Warnings about the conditions of a measurement, and what to do.

use crate::benchmark::{Benchmark, Case, GpuRound, Throttle};
use crate::stats::MIN_ROUNDS;

/// A machine that runs so many processes for each of its cores, on average, is too busy to measure on.
const BUSY: f64 = 0.3;
/// A GPU's clock that differs by more, of its median, is not steady.
const STEADY: f64 = 0.05;

/// Returns the warnings about a measurement's conditions. `unwatched` says why the GPU was not observed.
pub(super) fn warnings(benchmark: &Benchmark, unwatched: Option<&str>) -> Vec<String> {
    let Benchmark { machine, settings, cases, warnings: _ } = benchmark;
    let mut warnings = Vec::new();
    if let Some(load) = machine.load_average_1_min.filter(|load| *load > BUSY * machine.logical_cores as f64)
    {
        warnings.push(format!(
            "the machine was busy when the benchmark started (load average {load} on {} cores): stop other processes and run it again",
            machine.logical_cores
        ));
    }
    if let Some(governor) = machine.governor.as_deref().filter(|governor| *governor != "performance") {
        warnings.push(format!(
            "the CPU frequency governor is `{governor}`: set it to `performance` for steadier results"
        ));
    }
    if settings.rounds < MIN_ROUNDS {
        warnings.push(format!(
            "{} rounds cannot show how much processes differ: use at least {MIN_ROUNDS} rounds",
            settings.rounds
        ));
    }
    let all = || cases.iter().flat_map(|case: &Case| &case.rounds);
    let unsettled = all().filter(|round| !round.settled).count();
    if unsettled > 0 {
        warnings.push(format!(
            "{unsettled} of {} rounds did not become stable within {} ms: raise --budget-ms, or reduce the load on the machine",
            all().count(),
            settings.budget_ms
        ));
    }
    warnings.extend(cases.iter().filter_map(without_median));
    let gpus: Vec<&GpuRound> = all().filter_map(|round| round.gpu.as_ref()).collect();
    warnings.extend(of_gpu(&gpus));
    let discarded: usize = all().map(|round| round.discarded).sum();
    if discarded > 0 {
        let samples: usize = all().map(|round| round.count + round.discarded).sum();
        warnings.push(format!(
            "{discarded} of {samples} samples were discarded because the GPU was throttled ({}): check its cooling and \
             power, and measure again",
            reasons(&gpus, Throttle::spoils)
        ));
    }
    if let Some(why) = unwatched {
        warnings.push(format!("the GPU's clocks, power and throttling were not recorded: {why}"));
    }
    warnings
}

/// Says why a case has no median.
fn without_median(case: &Case) -> Option<String> {
    let Case { graph, batch, streams, .. } = case;
    let latency = case.latency.as_ref().filter(|latency| latency.percentile("p50").is_none())?;
    Some(format!(
        "{graph} batch {batch} streams {streams}: its {} samples depend on each other too much for a p50: raise --budget-ms or \
         --rounds",
        latency.count
    ))
}

fn of_gpu(gpus: &[&GpuRound]) -> Vec<String> {
    let mut warnings = Vec::new();
    let clocks = || gpus.iter().filter_map(|gpu| gpu.sm_clock_mhz);
    let min = clocks().map(|clock| clock.min).min_by(f64::total_cmp);
    let max = clocks().map(|clock| clock.max).max_by(f64::total_cmp);
    if let (Some(min), Some(max)) = (min, max)
        && max - min > STEADY * max
    {
        warnings.push(format!(
            "the GPU's clock went from {min:.0} to {max:.0} MHz: lock it with `nvidia-smi --lock-gpu-clocks`, or \
             increase --warm-up-ms"
        ));
    }
    let capped = gpus.iter().filter(|gpu| gpu.throttle.contains_key(&Throttle::PowerCap)).count();
    if capped > 0 {
        warnings.push(format!(
            "the GPU's power limit was active in {capped} of {} rounds: compare only with runs under the same limit",
            gpus.len()
        ));
    }
    warnings
}

fn reasons(gpus: &[&GpuRound], wanted: fn(Throttle) -> bool) -> String {
    let mut reasons: Vec<&str> = gpus
        .iter()
        .flat_map(|gpu| gpu.throttle.keys())
        .filter(|reason| wanted(**reason))
        .map(|reason| reason.words())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons.join(", ")
}

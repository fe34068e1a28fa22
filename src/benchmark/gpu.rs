//! What a GPU's driver reported during a measurement, and which samples don't count because of it.
//!
//! | reason to run slower | effect | because |
//! | --- | --- | --- |
//! | [`Throttle::HardwareThermal`], [`Throttle::SoftwareThermal`] | samples are discarded | they measure the room and the minutes before, not the profile |
//! | [`Throttle::HardwarePowerBrake`], [`Throttle::HardwareSlowdown`] | samples are discarded | the host's power supply, or a fault |
//! | [`Throttle::PowerCap`] | reported | low-power boards always run at their limit, in production too |
//! | idle, application clocks, synchronized boost, a display | ignored | the measurement doesn't cause them |

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Case, Round};

/// Min samples that must remain in a round for it to count.
pub const MIN_SAMPLES: usize = 10;

/// Why a GPU ran slower than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Throttle {
    /// The driver's power limit.
    PowerCap,
    /// The GPU or its memory was near the driver's temperature limit.
    SoftwareThermal,
    /// It was too hot, and protected itself.
    HardwareThermal,
    /// The host's power supply requested it.
    HardwarePowerBrake,
    /// It protected itself, for one of the reasons above or another.
    HardwareSlowdown,
}

impl Throttle {
    /// Returns whether samples measured meanwhile are discarded.
    pub fn spoils(self) -> bool {
        self != Self::PowerCap
    }

    /// Returns it in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::PowerCap => "power limit",
            Self::SoftwareThermal => "driver thermal limit",
            Self::HardwareThermal => "hardware thermal limit",
            Self::HardwarePowerBrake => "host power brake",
            Self::HardwareSlowdown => "hardware slowdown",
        }
    }
}

/// What the driver reported at one time; refused facts are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The time since the watch started.
    pub at: Duration,
    /// The clock of its processors.
    pub sm_clock_mhz: Option<u32>,
    /// The clock of its memory.
    pub memory_clock_mhz: Option<u32>,
    /// Its power.
    pub power_mw: Option<u32>,
    /// The energy that it has used since its driver was loaded.
    pub energy_mj: Option<u64>,
    /// Its temperature.
    pub temperature_c: Option<u32>,
    /// Its memory in use, by all programs.
    pub memory_used_bytes: Option<u64>,
    /// Why it ran slower.
    pub throttle: Vec<Throttle>,
}

/// The min, median and max of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// The min.
    pub min: f64,
    /// The median.
    pub median: f64,
    /// The max.
    pub max: f64,
}

/// What the driver reported during a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuRound {
    /// Number of readings.
    pub readings: usize,
    /// The clock of its processors.
    pub sm_clock_mhz: Option<Spread>,
    /// The clock of its memory.
    pub memory_clock_mhz: Option<Spread>,
    /// Its power.
    pub power_w: Option<Spread>,
    /// Its highest temperature.
    pub temperature_max_c: Option<u32>,
    /// The max memory in use by all programs.
    pub memory_used_max_bytes: Option<u64>,
    /// Energy per item (a row of the batch): power times the measured time.
    pub energy_mj_per_item: Option<f64>,
    /// Whether that power comes from the GPU's energy counter; otherwise it is the mean of the readings.
    pub energy_is_counted: bool,
    /// Reasons to run slower, each with its share of the readings.
    pub throttle: BTreeMap<Throttle, f64>,
}

impl Case {
    /// Describes what the GPU and its driver reported: medians over rounds, and the highest temperature. `None` for a case
    /// on the CPU.
    pub fn device_words(&self) -> Option<String> {
        let median = |of: &dyn Fn(&Round) -> Option<f64>| {
            spread(self.rounds.iter().filter_map(of).collect()).map(|spread| spread.median)
        };
        let gpu = |of: fn(&GpuRound) -> Option<f64>| median(&|round: &Round| round.gpu.as_ref().and_then(of));
        let memory = self.rounds.iter().filter_map(|round| round.device_memory_bytes).max();
        let hottest = self.rounds.iter().filter_map(|round| round.gpu.as_ref()?.temperature_max_c).max();
        let discarded: usize = self.rounds.iter().map(|round| round.discarded).sum();
        let parts: Vec<String> = [
            median(&|round: &Round| round.device_p50_ms).map(|p50| format!("device-only p50 {p50:.3} ms")),
            memory.map(|bytes| format!("{:.1} MB of device memory", bytes as f64 / 1e6)),
            gpu(|gpu| gpu.sm_clock_mhz.map(|clock| clock.median)).map(|clock| format!("{clock:.0} MHz")),
            gpu(|gpu| gpu.power_w.map(|power| power.median)).map(|power| format!("{power:.1} W")),
            hottest.map(|hottest| format!("up to {hottest} °C")),
            gpu(|gpu| gpu.energy_mj_per_item).map(|energy| format!("{energy:.2} mJ per item")),
            (discarded > 0).then(|| format!("{discarded} samples discarded")),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// A span of time.
pub type Span = (Duration, Duration);

impl GpuRound {
    /// Summarizes the readings in a span in which `items` items were computed; `None` without readings.
    pub fn new(readings: &[Reading], span: Span, items: u64) -> Option<Self> {
        let within: Vec<&Reading> =
            readings.iter().filter(|reading| (span.0..=span.1).contains(&reading.at)).collect();
        if within.is_empty() {
            return None;
        }
        let values = |value: fn(&Reading) -> Option<u32>| -> Vec<f64> {
            within.iter().filter_map(|reading| value(reading)).map(f64::from).collect()
        };
        let watts: Vec<f64> = values(|reading| reading.power_mw).into_iter().map(|mw| mw / 1e3).collect();
        let counted = counted_power_w(&within);
        let mean = (!watts.is_empty()).then(|| watts.iter().sum::<f64>() / watts.len() as f64);
        let seconds = span.1.saturating_sub(span.0).as_secs_f64();
        let energy = |watts: f64| watts * seconds * 1e3 / items.max(1) as f64;
        let mut throttle: BTreeMap<Throttle, f64> = BTreeMap::new();
        for reason in within.iter().flat_map(|reading| &reading.throttle) {
            *throttle.entry(*reason).or_default() += 1.0 / within.len() as f64;
        }
        Some(Self {
            readings: within.len(),
            sm_clock_mhz: spread(values(|reading| reading.sm_clock_mhz)),
            memory_clock_mhz: spread(values(|reading| reading.memory_clock_mhz)),
            power_w: spread(watts),
            temperature_max_c: within.iter().filter_map(|reading| reading.temperature_c).max(),
            memory_used_max_bytes: within.iter().filter_map(|reading| reading.memory_used_bytes).max(),
            energy_mj_per_item: counted.or(mean).map(energy),
            energy_is_counted: counted.is_some(),
            throttle,
        })
    }
}

/// Returns the mean power from the energy counter, which needs two readings at different times.
fn counted_power_w(readings: &[&Reading]) -> Option<f64> {
    let mut counted = readings.iter().filter_map(|reading| Some((reading.at, reading.energy_mj?)));
    let (first, last) = (counted.next()?, counted.next_back()?);
    let seconds = last.0.saturating_sub(first.0).as_secs_f64();
    let energy_mj = last.1.checked_sub(first.1)?;
    (seconds > 0.0).then(|| energy_mj as f64 / 1e3 / seconds)
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    Some(Spread { min, median: values[values.len() / 2], max })
}

/// Returns the spans in which the GPU was slowed down so that samples don't count, each extended by a period at both ends,
/// since the state between two readings is unknown. Spans don't overlap, and are in order.
pub fn spoiled_spans(readings: &[Reading], period: Duration) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for Reading { at, .. } in readings.iter().filter(|r| r.throttle.iter().any(|reason| reason.spoils())) {
        let (from, to) = (at.saturating_sub(period), *at + period);
        match spans.last_mut() {
            Some(last) if from <= last.1 => last.1 = to,
            _ => spans.push((from, to)),
        }
    }
    spans
}

/// Returns whether a sample overlaps one of these spans.
pub fn is_spoiled(sample: Span, spans: &[Span]) -> bool {
    spans.iter().any(|span| sample.0 < span.1 && span.0 < sample.1)
}

/// Returns how much of `of` these spans cover.
pub fn spoiled_time(of: Span, spans: &[Span]) -> Duration {
    spans.iter().map(|span| span.1.min(of.1).saturating_sub(span.0.max(of.0))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A reading every 10 ms; `throttled` lists those with a reason.
    fn readings(count: u64, throttled: &[(u64, Throttle)]) -> Vec<Reading> {
        (0..count)
            .map(|index| Reading {
                at: MS(10 * index),
                sm_clock_mhz: Some(1000 + index as u32),
                power_mw: Some(50_000),
                energy_mj: Some(7000 + 600 * index),
                temperature_c: Some(60),
                throttle: throttled.iter().filter(|(at, _)| *at == index).map(|(_, why)| *why).collect(),
                ..Reading::default()
            })
            .collect()
    }

    #[test]
    fn a_round_is_summed_up() {
        let all = readings(11, &[(2, Throttle::PowerCap), (10, Throttle::HardwareThermal)]);
        let round = GpuRound::new(&all, (MS(0), MS(40)), 10).unwrap();
        assert_eq!(round.readings, 5);
        assert_eq!(round.sm_clock_mhz, Some(Spread { min: 1000.0, median: 1002.0, max: 1004.0 }));
        assert_eq!(round.memory_clock_mhz, None);
        assert_eq!(round.throttle, BTreeMap::from([(Throttle::PowerCap, 0.2)]));
        // 600 mJ in 10 ms are 60 W, of which 40 ms are 2400 mJ for ten items.
        assert_eq!((round.energy_mj_per_item, round.energy_is_counted), (Some(240.0), true));
        assert_eq!(GpuRound::new(&all, (MS(200), MS(300)), 10), None);
    }

    #[test]
    fn without_a_counter_the_power_is_that_of_the_readings() {
        let mut all = readings(5, &[]);
        all.iter_mut().for_each(|reading| reading.energy_mj = None);
        let round = GpuRound::new(&all, (MS(0), MS(40)), 10).unwrap();
        assert_eq!((round.energy_mj_per_item, round.energy_is_counted), (Some(200.0), false));
        all.iter_mut().for_each(|reading| reading.power_mw = None);
        let round = GpuRound::new(&all, (MS(0), MS(40)), 10).unwrap();
        assert_eq!((round.power_w, round.energy_mj_per_item), (None, None));
    }

    #[test]
    fn heat_spoils_samples_and_a_limit_of_power_does_not() {
        let hot = Throttle::HardwareThermal;
        let all =
            readings(30, &[(3, hot), (4, hot), (5, Throttle::PowerCap), (20, Throttle::HardwarePowerBrake)]);
        let spans = spoiled_spans(&all, MS(10));
        assert_eq!(spans, [(MS(20), MS(50)), (MS(190), MS(210))]);
        assert!(!is_spoiled((MS(0), MS(20)), &spans));
        assert!(is_spoiled((MS(0), MS(21)), &spans));
        assert!(is_spoiled((MS(30), MS(31)), &spans));
        assert!(is_spoiled((MS(0), MS(300)), &spans));
        assert!(!is_spoiled((MS(50), MS(190)), &spans));
        assert_eq!(spoiled_time((MS(30), MS(200)), &spans), MS(20 + 10));
        assert_eq!(spoiled_time((MS(60), MS(100)), &spans), MS(0));
    }
}

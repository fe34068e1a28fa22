//! The GPU of a round, watched through NVML while the worker measures on it.

use std::path::Path;
use std::time::Duration;

use crate::benchmark::{GpuRound, MIN_SAMPLES, Span, is_spoiled, spoiled_spans, spoiled_time};
use crate::nvml::{PERIOD, Watch, Watched};
use crate::worker::protocol::WorkerDevice;

/// A round on a GPU that is being watched.
#[derive(Debug)]
pub(super) struct WatchedRound {
    watch: Watch,
    /// When the timed loop began. The worker says so right before, so this is late by the time that one line takes.
    loop_began: Option<Duration>,
}

/// What watching found of a round.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What the driver reported.
    pub gpu: Option<GpuRound>,
    /// Which samples count.
    pub counts: Vec<bool>,
    /// Time spans in which no sample counts.
    pub spoiled: Duration,
    /// Why there are no samples, or no more.
    pub problem: Option<String>,
}

impl WatchedRound {
    /// Starts watching; `None` for a device without an address.
    pub(super) fn start(library: Option<&Path>, device: Option<&WorkerDevice>) -> Option<Self> {
        let address = device?.pci_address.as_deref()?;
        Some(Self { watch: Watch::start(library, address), loop_began: None })
    }

    /// Records the start of the timed loop.
    pub(super) fn measuring(&mut self) {
        self.loop_began = Some(self.watch.now());
    }

    /// Ends watching. `samples` are spans since the beginning of the loop, each of so many items.
    ///
    /// # Errors
    /// In words: too few samples are left that were not spoiled.
    pub(super) fn finish(self, samples: &[Span], elapsed: Duration, batch: u64) -> Result<Seen, String> {
        let Self { watch, loop_began } = self;
        let Watched { readings, problem } = watch.finish();
        let Some(began) = loop_began else {
            return Ok(Seen { counts: vec![true; samples.len()], problem, ..Seen::default() });
        };
        let whole = (began, began + elapsed);
        let spans = spoiled_spans(&readings, PERIOD);
        let counts: Vec<bool> =
            samples.iter().map(|(from, to)| !is_spoiled((began + *from, began + *to), &spans)).collect();
        let gpu = GpuRound::new(&readings, whole, samples.len() as u64 * batch);
        let left = counts.iter().filter(|counts| **counts).count();
        if left < MIN_SAMPLES.min(samples.len()) {
            let reasons = gpu.iter().flat_map(|gpu| gpu.throttle.keys()).filter(|reason| reason.spoils());
            let reasons: Vec<&str> = reasons.map(|reason| reason.words()).collect();
            return Err(format!(
                "the GPU was throttled ({}), which left {left} of {} samples: check its cooling and power, then run the benchmark again",
                reasons.join(", "),
                samples.len()
            ));
        }
        Ok(Seen { gpu, counts, spoiled: spoiled_time(whole, &spans), problem })
    }
}

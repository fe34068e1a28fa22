//! Watches one GPU while a program runs on it.
//!
//! A separate thread asks the driver, and is abandoned if the driver doesn't answer: watching never delays the program.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use super::LIBRARY;
use crate::benchmark::{Reading, Throttle};

/// The time between two readings.
pub const PERIOD: Duration = Duration::from_millis(25);
/// How long the driver may take for its last answer.
const PATIENCE: Duration = Duration::from_secs(2);

// From nvml.h: nvmlClocksEventReason….
const REASONS: [(u64, Throttle); 5] = [
    (0x4, Throttle::PowerCap),
    (0x8, Throttle::HardwareSlowdown),
    (0x20, Throttle::SoftwareThermal),
    (0x40, Throttle::HardwareThermal),
    (0x80, Throttle::HardwarePowerBrake),
];

/// A GPU that is being watched.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    readings: Arc<Mutex<Vec<Reading>>>,
    stop: Sender<()>,
    ended: Receiver<Option<String>>,
}

/// The result of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// In the order of time.
    pub readings: Vec<Reading>,
    /// Why there are no readings, or no more.
    pub problem: Option<String>,
}

impl Watch {
    /// Starts to watch the GPU at this PCI address, through this library or [`LIBRARY`].
    pub fn start(library: Option<&Path>, pci_address: &str) -> Self {
        let readings = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = channel();
        let (end, ended) = channel();
        #[expect(clippy::disallowed_methods, reason = "readings have times")]
        let began = Instant::now();
        let (shared, library, address) =
            (Arc::clone(&readings), library.map(Path::to_path_buf), pci_address.to_owned());
        let thread = std::thread::Builder::new().name("nvml-watch".into());
        let spawned = thread.spawn({
            let end = end.clone();
            move || {
                let problem = watch(library, &address, began, &shared, &stopped);
                // The receiver is gone if this took too long.
                let _ = end.send(problem);
            }
        });
        if let Err(error) = spawned {
            let _ = end.send(Some(format!("can't start a thread to watch the GPU: {error}")));
        }
        Self { began, readings, stop, ended }
    }

    /// Returns the time since the watch started, as in readings.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Stops the watch and returns its readings.
    pub fn finish(self) -> Watched {
        let Self { began: _, readings, stop, ended } = self;
        drop(stop);
        let problem = match ended.recv_timeout(PATIENCE) {
            Ok(problem) => problem,
            Err(RecvTimeoutError::Timeout) => {
                Some(format!("NVML did not answer within {} s", PATIENCE.as_secs()))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Some("the thread that watched the GPU stopped unexpectedly".into())
            }
        };
        let readings = readings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Watched { readings, problem }
    }
}

/// Reads until it is stopped; returns why it could not read.
fn watch(
    library: Option<PathBuf>,
    pci_address: &str,
    began: Instant,
    readings: &Mutex<Vec<Reading>>,
    stopped: &Receiver<()>,
) -> Option<String> {
    let name = library.as_deref().unwrap_or(Path::new(LIBRARY));
    let nvml = match Nvml::builder().lib_path(name.as_os_str()).init() {
        Ok(nvml) => nvml,
        Err(error) => return Some(format!("NVML can't start: {error}")),
    };
    let problem = match nvml.device_by_pci_bus_id(pci_address) {
        Err(error) => Some(format!("NVML could not find the GPU at {pci_address}: {error}")),
        Ok(device) => {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PERIOD) {
                let reasons = device.current_throttle_reasons().map_or(0, |reasons| reasons.bits());
                let reading = Reading {
                    at: began.elapsed(),
                    sm_clock_mhz: device.clock_info(Clock::SM).ok(),
                    memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
                    power_mw: device.power_usage().ok(),
                    energy_mj: device.total_energy_consumption().ok(),
                    temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
                    memory_used_bytes: device.memory_info().ok().map(|memory| memory.used),
                    throttle: REASONS
                        .iter()
                        .filter(|(bit, _)| reasons & bit != 0)
                        .map(|(_, reason)| *reason)
                        .collect(),
                };
                readings.lock().unwrap_or_else(PoisonError::into_inner).push(reading);
            }
            None
        }
    };
    // Closing calls a function that a library may lack, and would panic.
    if nvml.lib().nvmlShutdown.is_err() {
        std::mem::forget(nvml);
    }
    problem
}

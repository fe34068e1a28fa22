//! Probes the GPUs of this host through NVML, the library of the NVIDIA driver that `nvidia-smi` also uses; a [`Watch`]
//! reads one GPU while a program runs on it.
//!
//! A probe never fails. Each fact is a separate query; one that fails is in the host's or the GPU's `problems` and
//! doesn't affect the others.
//!
//! Writes nothing; reads the PCI bus to distinguish a host without a GPU from a host without a driver. NVML is asked on
//! a thread with a time limit, since a broken driver may never answer.

mod answers;
mod gpu;
mod start;
mod watch;

pub use watch::{PERIOD, Watch, Watched};

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::device::{Device, Host, Origin, Problem, ProblemKind};
use crate::machine::pci;
use answers::{Answers, Weight, kind_of, words};

/// The library's name where none is given; containers lack the link without the `.1`.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// How long the driver may take. It needs a second or two for each GPU if no process keeps it loaded.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Asks the driver for this host's GPUs, through this library or [`LIBRARY`].
pub fn probe(library: Option<&Path>) -> Host {
    probe_within(library, LIMIT)
}

/// Asks the driver for this host's GPUs, and gives up after `limit`. The host has what was answered until then.
pub fn probe_within(library: Option<&Path>, limit: Duration) -> Host {
    let host = Arc::new(Mutex::new(Host::new(Origin::Nvml, Vec::new())));
    let (ended, end) = channel();
    let (shared, library) = (Arc::clone(&host), library.map(Path::to_path_buf));
    let thread = std::thread::Builder::new().name("nvml".into()).spawn(move || {
        ask(library, &shared);
        // The receiver is gone if this took too long.
        let _ = ended.send(());
    });
    let answer = end.recv_timeout(limit);
    let mut host = host.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let unfinished = match (thread, answer) {
        (Err(error), _) => Some((format!("can't start a thread to ask the driver: {error}"), None)),
        (Ok(_), Ok(())) => None,
        (Ok(_), Err(RecvTimeoutError::Timeout)) => Some((
            format!("the driver did not answer within {} s", limit.as_secs_f64()),
            Some(
                "check whether `nvidia-smi` hangs too, and look for NVRM and Xid lines in `dmesg`; a GPU in that state needs a reset, or the host a reboot",
            ),
        )),
        (Ok(_), Err(RecvTimeoutError::Disconnected)) => {
            Some(("the thread that asked the driver stopped unexpectedly".into(), None))
        }
    };
    if let Some((message, hint)) = unfinished {
        host.problems.push(Problem { kind: ProblemKind::NoDriver, message, hint: hint.map(Into::into) });
    }
    host
}

fn ask(library: Option<PathBuf>, host: &Mutex<Host>) {
    let update = |change: &mut dyn FnMut(&mut Host)| {
        change(&mut host.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let name = library.as_deref().unwrap_or(Path::new(LIBRARY));
    let nvml = match Nvml::builder().lib_path(name.as_os_str()).init() {
        Ok(nvml) => nvml,
        Err(error) => {
            let problem = start::problem(&error, library.as_deref(), Path::new(pci::DEVICES));
            return update(&mut |host| host.problems.push(problem.clone()));
        }
    };
    let mut answers = Answers::default();
    let driver_version = answers.ask("the driver version", Weight::Needed, || nvml.sys_driver_version());
    let nvml_version = answers.ask("the NVML version", Weight::Needed, || nvml.sys_nvml_version());
    let cuda_version = cuda_version(&nvml, &mut answers);
    let count = answers.ask("the number of GPUs", Weight::Needed, || nvml.device_count());
    update(&mut |host| {
        host.driver_version.clone_from(&driver_version);
        host.nvml_version.clone_from(&nvml_version);
        host.cuda_version.clone_from(&cuda_version.as_ref().ok().cloned());
        host.problems.extend(cuda_version.as_ref().err().cloned().flatten());
    });
    let mut unopened = Unopened::default();
    for index in 0..count.unwrap_or_default() {
        let device = match nvml.device_by_index(index) {
            Ok(handle) => gpu::ask(&nvml, &handle, index),
            Err(error) if kind_of(&error) == ProblemKind::DeviceLost => lost(index, &error),
            Err(error) => {
                unopened.add(index, &error);
                continue;
            }
        };
        update(&mut |host| host.devices.push(device.clone()));
    }
    let mut problems = answers.into_problems();
    problems.extend(unopened.0.iter().map(|(kind, answer, indices)| start::unopened(*kind, answer, indices)));
    if count == Some(0) {
        problems.push(start::no_gpu());
    }
    update(&mut |host| host.problems.append(&mut problems));
    // Closing calls a function that a library may lack, and would panic.
    if nvml.lib().nvmlShutdown.is_err() {
        std::mem::forget(nvml);
    }
}

/// Asks for the newest CUDA that the driver supports. NVML asks CUDA's own library, which a container may lack.
fn cuda_version(nvml: &Nvml, answers: &mut Answers) -> Result<String, Option<Problem>> {
    match nvml.sys_cuda_driver_version() {
        Ok(version) => Ok(format!("{}.{}", version / 1000, version % 1000 / 10)),
        Err(NvmlError::LibraryNotFound) => Err(Some(Problem {
            kind: ProblemKind::NoLibrary,
            message: "NVML could not report the CUDA version: libcuda.so.1 was not found, so CUDA programs can't run on this host".into(),
            hint: Some("install the driver's CUDA library; in a container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility".into()),
        })),
        Err(error) => {
            let _: Option<()> = answers.ask("the CUDA version", Weight::Needed, || Err(error));
            Err(None)
        }
    }
}

fn lost(index: u32, error: &NvmlError) -> Device {
    Device {
        problems: vec![answers::lost("could not open it", &words(error))],
        ..Device::new(index, "unknown")
    }
}

/// GPUs that could not be opened, grouped by NVML's answer.
#[derive(Default)]
struct Unopened(Vec<(ProblemKind, String, Vec<u32>)>);

impl Unopened {
    fn add(&mut self, index: u32, error: &NvmlError) {
        let (kind, answer) = (kind_of(error), words(error));
        match self.0.iter_mut().find(|known| (known.0, &known.1) == (kind, &answer)) {
            Some(known) => known.2.push(index),
            None => self.0.push((kind, answer, vec![index])),
        }
    }
}

//! Which worker can run which profile on this machine. Each backend is asked once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::error::PipelineError;
use super::not_run_here::NotRunHere;
use super::resolve::{Backends, FoundBackend};
use super::runtime_identity::RuntimeIdentity;
use crate::backend::Backend;
use crate::fleet::Engine;
use crate::gpu;
use crate::ops::workspace::Workspace;
use crate::passport::Passport;
use crate::profile::Target;
use crate::worker::host::{BackendCommand, Cancel, Limits, Worker};
use crate::worker::protocol::{Description, Execution, Library, Provider, RanOn, Support, WorkerDevice};

/// How a profile is run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The worker.
    pub command: BackendCommand,
    /// What it is asked for.
    pub execution: Execution,
    /// What identifies the worker and its library.
    pub runtime: RuntimeIdentity,
    /// The GPU, if the worker reports any.
    pub device: Option<WorkerDevice>,
}

/// The workers of this machine, as far as anyone asked for them.
#[derive(Debug)]
pub(super) struct Runners<'a> {
    backends: &'a Backends,
    /// What the user asked for; each backend gets the part that means something to it.
    wanted: &'a Execution,
    known: BTreeMap<Backend, Result<Arc<FoundBackend>, NotRunHere>>,
    /// The machines of a fleet that may run profiles, too.
    fleet: Option<&'a Workspace>,
    /// What workers on nodes say of themselves, by executor and backend.
    remote: BTreeMap<(String, Backend), Result<Arc<Description>, NotRunHere>>,
}

impl<'a> Runners<'a> {
    pub(super) fn new(backends: &'a Backends, wanted: &'a Execution) -> Self {
        Self { backends, wanted, known: BTreeMap::new(), fleet: None, remote: BTreeMap::new() }
    }

    /// Runs profiles on the nodes of a workspace's fleet, where it offers what they need.
    pub(super) fn with_fleet(self, workspace: &'a Workspace) -> Self {
        Self { fleet: Some(workspace), ..self }
    }

    /// Says in words why what the user asked for is not available on this machine at all: that is no failure of a profile.
    pub(super) fn check(&mut self) -> Result<(), String> {
        if self.wanted.provider != Some(Provider::Cuda) {
            return Ok(());
        }
        let backend = Backend::reference();
        let number = self.wanted.device.unwrap_or(0);
        let description = self.description(&backend).map_err(|reason| reason.to_string())?;
        let count = description.devices.len();
        if count == 0 {
            return Err("the onnxruntime worker finds no GPU: it needs ONNX Runtime built with CUDA, and an NVIDIA driver".into());
        }
        if number as usize >= count {
            return Err(format!("GPU {number} does not exist: the onnxruntime worker finds {count}"));
        }
        Ok(())
    }

    /// Returns how a profile is run here, or why it can't be.
    pub(super) fn for_profile(&mut self, passport: &Passport) -> Result<Way, NotRunHere> {
        let backend = &passport.contents.backend;
        if backend.ships_onnx() {
            let way = self.for_graphs().map_err(|error| no_worker(backend, &error))?;
            if way.execution.provider != Some(Provider::Cuda) {
                return Ok(way);
            }
            let number = way.execution.device.unwrap_or(0) as usize;
            let description = self.description(backend)?;
            return Ok(Way { device: description.devices.get(number).cloned(), ..way });
        }
        let wanted = self.wanted;
        if let Some((executor, command)) = self.command_on_a_node(passport)? {
            let description = self.description_on_a_node(backend, &executor, &command)?;
            let device = device_for(backend, &description.devices, &passport.contents.target, None)?;
            let number = device.and_then(|number| u32::try_from(number).ok());
            // Nobody here can watch it.
            let here = |device: &WorkerDevice| WorkerDevice { pci_address: None, ..device.clone() };
            return Ok(Way {
                command,
                execution: Execution {
                    device: number,
                    cuda_graph: wanted.cuda_graph,
                    ..Execution::default()
                },
                runtime: RuntimeIdentity::of_worker(&description),
                device: device.map(|number| here(&description.devices[number])),
            });
        }
        let command = self.worker(backend)?.command.clone();
        let description = self.description(backend)?;
        let device = device_for(backend, &description.devices, &passport.contents.target, wanted.device)?;
        // What ONNX Runtime alone knows is left out.
        let Execution {
            provider: _,
            device: _,
            threads: _,
            graph_optimization: _,
            cuda_graph,
            runtime_cache: _,
        } = wanted;
        let number = device.and_then(|number| u32::try_from(number).ok());
        Ok(Way {
            command,
            execution: Execution { device: number, cuda_graph: *cuda_graph, ..Execution::default() },
            runtime: RuntimeIdentity::of_worker(description),
            device: device.map(|number| description.devices[number].clone()),
        })
    }

    /// Returns the executor that offers what a profile needs, and how its worker is started there.
    fn command_on_a_node(&self, passport: &Passport) -> Result<Option<(String, BackendCommand)>, NotRunHere> {
        let (backend, target) = (&passport.contents.backend, &passport.contents.target);
        let Some((workspace, used)) = self.fleet.and_then(|one| Some((one, one.fleet.as_ref()?))) else {
            return Ok(None);
        };
        let Some((name, executor)) = used.fleet.offering(backend, target) else { return Ok(None) };
        let slurm = match &executor.engine {
            Engine::Slurm(slurm) => slurm,
            Engine::Kubernetes(_) => {
                return Err(NotRunHere::OnlyBuilds { backend: backend.clone(), executor: name.into() });
            }
        };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
        let is_shared = real(&workspace.store).starts_with(real(&slurm.shared));
        if !is_shared {
            return Err(NotRunHere::StoreNotShared {
                backend: backend.clone(),
                executor: name.into(),
                shared: slurm.shared.clone(),
            });
        }
        Ok(Some((name.into(), used.worker_command(name, slurm, backend))))
    }

    fn description_on_a_node(
        &mut self,
        backend: &Backend,
        executor: &str,
        command: &BackendCommand,
    ) -> Result<Arc<Description>, NotRunHere> {
        let never = Cancel::new();
        let cancel = self.fleet.map_or(&never, |workspace| &workspace.cancel);
        let known = self.remote.entry((executor.into(), backend.clone())).or_insert_with(|| {
            let worker = Worker::spawn_unless(command, Limits::default(), cancel)
                .map_err(|error| no_worker(backend, &error))?;
            match &worker.description().run {
                Support::Available => Ok(Arc::new(worker.description().clone())),
                Support::Unavailable(problem) => {
                    Err(NotRunHere::Unavailable { backend: backend.clone(), problem: problem.clone() })
                }
            }
        });
        known.clone()
    }

    /// Returns how ONNX graphs are run here.
    pub(super) fn for_graphs(&self) -> Result<Way, PipelineError> {
        let (command, runtime) = self.backends.reference()?;
        let on_gpu = self.wanted.provider == Some(Provider::Cuda);
        let execution = Execution {
            // On the CPU a GPU means nothing; it is meant for the plans beside it, as CUDA graphs are.
            device: self.wanted.device.filter(|_| on_gpu),
            cuda_graph: None,
            runtime_cache: None,
            ..self.wanted.clone()
        };
        Ok(Way { command, execution, runtime, device: None })
    }

    /// Returns what the worker of a backend says of itself, or why it can't run profiles here.
    fn description(&mut self, backend: &Backend) -> Result<&Description, NotRunHere> {
        self.worker(backend)?.description().map_err(|error| no_worker(backend, &error))
    }

    fn worker(&mut self, backend: &Backend) -> Result<&FoundBackend, NotRunHere> {
        let backends = self.backends;
        let known = self.known.entry(backend.clone()).or_insert_with(|| {
            let found = backends.find(backend).map_err(|error| no_worker(backend, &error))?;
            let description = found.description().map_err(|error| no_worker(backend, &error))?;
            match &description.run {
                Support::Available => Ok(found),
                Support::Unavailable(problem) => {
                    Err(NotRunHere::Unavailable { backend: backend.clone(), problem: problem.clone() })
                }
            }
        });
        known.as_deref().map_err(Clone::clone)
    }
}

fn no_worker(backend: &Backend, error: &impl std::error::Error) -> NotRunHere {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some say what their cause says.
        if !why.contains(&error.to_string()) {
            why.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    NotRunHere::NoWorker { backend: backend.clone(), why }
}

/// Names what ran something: `ONNX Runtime 1.32.0 on the CPU`, `TensorRT 11.4.0.1 on NVIDIA L4 (8.9)`.
pub(super) fn place(backend: &str, library: Option<&Library>, ran_on: &RanOn) -> String {
    let what = library.map_or_else(|| backend.to_owned(), |l| format!("{} {}", l.name, l.version));
    match &ran_on.device {
        None => format!("{what} on the CPU"),
        Some(device) => format!("{what} on {} ({})", device.name, device.compute_capability),
    }
}

/// Returns the number of the GPU that a profile for a target runs on: the one that was asked for, else one of the very
/// product, else one of its compute capability. `None` for a worker that reports no devices: it chooses one itself.
fn device_for(
    backend: &Backend,
    devices: &[WorkerDevice],
    target: &Target,
    wanted: Option<u32>,
) -> Result<Option<usize>, NotRunHere> {
    if devices.is_empty() {
        return Ok(None);
    }
    let capabilities = target.compute_capabilities();
    let fits = |device: &WorkerDevice| capabilities.contains(&device.compute_capability);
    let is_product = |device: &WorkerDevice| match target {
        Target::Gpu { name, compute_capability: _ } => {
            gpu::find(&device.name).is_ok_and(|gpu| gpu.name == *name)
        }
        Target::ComputeCapabilities(_) | Target::Generic => false,
    };
    let none_fits = |devices: &[WorkerDevice]| NotRunHere::NoGpuFits {
        backend: backend.clone(),
        needs: capabilities.clone(),
        devices: devices.to_vec(),
    };
    if let Some(number) = wanted {
        let place = number as usize;
        let count = devices.len();
        let device = devices.get(place).ok_or_else(|| NotRunHere::NoSuchGpu {
            backend: backend.clone(),
            number,
            count,
        })?;
        return if fits(device) { Ok(Some(place)) } else { Err(none_fits(&devices[place..=place])) };
    }
    let of =
        |test: &dyn Fn(&WorkerDevice) -> bool| devices.iter().position(|device| fits(device) && test(device));
    match of(&is_product).or_else(|| of(&|_| true)) {
        Some(number) => Ok(Some(number)),
        None => Err(none_fits(devices)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute_capability::ComputeCapability;

    const L4: ComputeCapability = ComputeCapability::new(8, 9);
    const A100: ComputeCapability = ComputeCapability::new(8, 0);

    fn devices() -> Vec<WorkerDevice> {
        [("NVIDIA L40S", L4), ("NVIDIA L4", L4), ("NVIDIA A100-SXM4-80GB", A100)]
            .into_iter()
            .map(|(name, compute_capability)| WorkerDevice {
                name: name.into(),
                compute_capability,
                pci_address: None,
            })
            .collect()
    }

    fn gpu(name: &str) -> Target {
        let compute_capability = gpu::find(name).unwrap().compute_capability;
        Target::Gpu { name: name.into(), compute_capability }
    }

    #[track_caller]
    fn check(target: &Target, wanted: Option<u32>, expected: Result<Option<usize>, &str>) {
        let backend = Backend::new("tensorrt").unwrap();
        let found = device_for(&backend, &devices(), target, wanted).map_err(|reason| reason.to_string());
        let expected = expected.map_err(|words| format!("tensorrt cannot run it here: {words}"));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_very_product_comes_before_its_compute_capability() {
        check(&gpu("l4"), None, Ok(Some(1)));
        check(&gpu("rtx-4090"), None, Ok(Some(0)));
        check(&Target::ComputeCapabilities(vec![A100]), None, Ok(Some(2)));
        let backend = Backend::new("tensorrt").unwrap();
        assert_eq!(device_for(&backend, &[], &gpu("l4"), None), Ok(None));
    }

    #[test]
    fn the_gpu_that_was_asked_for_is_taken_or_refused() {
        check(&gpu("l4"), Some(0), Ok(Some(0)));
        check(&gpu("l4"), Some(2), Err("it needs compute capability 8.9, but NVIDIA A100-SXM4-80GB is 8.0"));
        check(&gpu("l4"), Some(3), Err("GPU 3 does not exist (GPUs found by the worker: 3)"));
    }

    #[test]
    fn what_fits_nowhere_is_told_with_what_is_here() {
        check(
            &gpu("h100-sxm"),
            None,
            Err(
                "it needs compute capability 9.0, but NVIDIA L40S is 8.9, NVIDIA L4 is 8.9, NVIDIA A100-SXM4-80GB is 8.0",
            ),
        );
    }

    #[test]
    fn places_have_names() {
        let library = Library { name: "TensorRT".into(), version: "11.4.0.1".into(), files: Vec::new() };
        let on_gpu = RanOn { device: devices().pop(), ..RanOn::default() };
        assert_eq!(
            place("tensorrt", Some(&library), &on_gpu),
            "TensorRT 11.4.0.1 on NVIDIA A100-SXM4-80GB (8.0)"
        );
        assert_eq!(place("echo", None, &RanOn::default()), "echo on the CPU");
    }
}

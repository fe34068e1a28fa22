//! Which backends can build here, and what identifies them.
//!
//! The pinned TensorRT-RTX is identified without starting its worker, so that a build with nothing to do stays quick.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{BuildError, BuildOptions};
use crate::compute_capability::ComputeCapability;
use crate::files::digest_cache::digest_of_file;
use crate::gpu;
use crate::profile::{Backend, ProfileSpec, Target, ToolIdentity, capability_tag};
use crate::recipe::Recipe;
use crate::toolchain::{Located, Tool, locate};
use crate::worker::discover;
use crate::worker::error::WorkerError;
use crate::worker::host::{BackendCommand, Limits, Worker};
use crate::worker::protocol::{Description, Support, WorkerDevice};

/// A backend on this machine.
#[derive(Debug)]
pub(super) enum BackendHere {
    /// It can build.
    Ready(Box<Builder>),
    /// Its profiles are the graphs themselves.
    NothingToCompile,
    /// It can't build on this machine, for this reason.
    NotHere(String),
}

/// A worker that can build.
#[derive(Debug)]
pub(super) struct Builder {
    /// How it is started.
    pub command: BackendCommand,
    /// What goes into build keys.
    pub identity: BTreeMap<String, ToolIdentity>,
    /// The GPUs that it builds on, if it needs one: then one job at a time, and only for these GPUs.
    pub gpus: Option<Vec<WorkerDevice>>,
    /// What it can build for, if it says so.
    pub capabilities: Option<Vec<ComputeCapability>>,
    /// Whether one plan can be for several compute capabilities.
    pub portable_plans: bool,
}

impl Builder {
    /// Returns why a profile can't be built with it here; nothing if it can.
    fn refusal(&self, spec: &ProfileSpec) -> Option<String> {
        let wanted = spec.target.compute_capabilities();
        if let Some(can) = &self.capabilities
            && !wanted.iter().all(|capability| can.contains(capability))
        {
            return Some(format!("it builds for {}", capability_tag(can).replace('+', ", ")));
        }
        if wanted.len() > 1 && !self.portable_plans {
            return Some("it builds one plan for each compute capability".into());
        }
        let gpus = self.gpus.as_ref()?;
        let is_target = |device: &WorkerDevice| match &spec.target {
            Target::Gpu { name, compute_capability: _ } => {
                gpu::find(&device.name).is_ok_and(|gpu| gpu.name == *name)
            }
            Target::ComputeCapabilities(_) | Target::Generic => wanted.contains(&device.compute_capability),
        };
        if gpus.iter().any(is_target) {
            return None;
        }
        let names: Vec<String> =
            gpus.iter().map(|gpu| format!("{} ({})", gpu.name, gpu.compute_capability)).collect();
        Some(if names.is_empty() { "no GPU".into() } else { names.join(", ") })
    }
}

/// Finds out about every backend that the selected profiles need, and, as far as that works, about the others of the
/// recipe, whose profiles may be in the store.
pub(super) fn probe(
    recipe: &Recipe,
    selected: &[&ProfileSpec],
    options: &BuildOptions,
) -> Result<BTreeMap<Backend, BackendHere>, BuildError> {
    let needed: BTreeSet<&Backend> = selected.iter().map(|spec| &spec.backend).collect();
    let mut backends = BTreeMap::new();
    for backend in recipe.profiles.iter().map(|spec| &spec.backend).collect::<BTreeSet<_>>() {
        match probe_one(backend, options) {
            Ok(here) => {
                backends.insert(backend.clone(), here);
            }
            Err(error) if needed.contains(backend) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(backends)
}

/// Returns the identities that go into build keys.
pub(super) fn identities(
    backends: &BTreeMap<Backend, BackendHere>,
) -> BTreeMap<Backend, BTreeMap<String, ToolIdentity>> {
    backends
        .iter()
        .filter_map(|(backend, here)| match here {
            BackendHere::Ready(builder) => Some((backend.clone(), builder.identity.clone())),
            BackendHere::NothingToCompile | BackendHere::NotHere(_) => None,
        })
        .collect()
}

/// Splits profiles into those that can be built here, and those that can't with what they need.
pub(super) fn split<'a>(
    selected: &[&'a ProfileSpec],
    backends: &BTreeMap<Backend, BackendHere>,
) -> (Vec<&'a ProfileSpec>, Vec<(&'a ProfileSpec, String)>) {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for spec in selected {
        let capabilities = spec.target.compute_capabilities();
        let needs = |reason: &str| {
            let on = match capabilities.as_slice() {
                [] => String::new(),
                some => format!(" on a host with a GPU of compute capability {}", capability_tag(some)),
            };
            format!("needs the {} backend{on} (here: {reason})", spec.backend)
        };
        match &backends[&spec.backend] {
            BackendHere::NotHere(reason) => elsewhere.push((*spec, needs(reason))),
            BackendHere::Ready(builder) => match builder.refusal(spec) {
                Some(reason) => elsewhere.push((*spec, needs(&reason))),
                None => here.push(*spec),
            },
            BackendHere::NothingToCompile => here.push(*spec),
        }
    }
    (here, elsewhere)
}

fn probe_one(backend: &Backend, options: &BuildOptions) -> Result<BackendHere, BuildError> {
    if backend.ships_onnx() {
        return Ok(BackendHere::NothingToCompile);
    }
    let found = discover::find(backend.name(), &options.search_path);
    let worker_error = |source: WorkerError| BuildError::Worker { backend: backend.to_string(), source };
    match backend.name() {
        Backend::TENSORRT_RTX => {
            let mut command = BackendCommand::new(found.map_err(worker_error)?);
            let located = locate(Tool::TensorrtRtx, &options.places)
                .map_err(|source| BuildError::Toolchain { backend: backend.to_string(), source })?;
            set_library(&mut command, &located);
            let version = match &located.version {
                Some(version) => version.clone(),
                None => library_version(&describe(&command).map_err(worker_error)?),
            };
            let identity = identity_of(&located, version);
            Ok(BackendHere::Ready(Box::new(Builder {
                command,
                identity: BTreeMap::from([(backend.name().into(), identity)]),
                gpus: None,
                // The recipe's reader has checked the targets.
                capabilities: None,
                portable_plans: true,
            })))
        }
        Backend::TENSORRT => {
            let Ok(path) = found else {
                return Ok(BackendHere::NotHere(
                    "its worker, nimctl-backend-tensorrt, is not installed".into(),
                ));
            };
            let mut command = BackendCommand::new(path);
            let located = locate(Tool::Tensorrt, &options.places).ok();
            if let Some(located) = &located {
                set_library(&mut command, located);
            }
            let description = describe(&command).map_err(worker_error)?;
            match (&description.build, located) {
                (Support::Unavailable(problem), _) => Ok(BackendHere::NotHere(problem.message.clone())),
                (Support::Available, None) => Ok(BackendHere::NotHere(
                    "its library is not where nimctl looks; name it with --tensorrt-lib or NIMCTL_TENSORRT_LIB".into(),
                )),
                (Support::Available, Some(located)) => {
                    let version = library_version(&description);
                    let identity = BTreeMap::from([(backend.name().into(), identity_of(&located, version))]);
                    Ok(BackendHere::Ready(Box::new(Builder {
                        command,
                        identity,
                        gpus: Some(description.devices),
                        capabilities: None,
                        portable_plans: false,
                    })))
                }
            }
        }
        _ => third_party(backend, &found.map_err(worker_error)?, options),
    }
}

/// A backend that somebody else wrote is identified by its executable and by what it says of itself.
fn third_party(backend: &Backend, path: &Path, options: &BuildOptions) -> Result<BackendHere, BuildError> {
    let command = BackendCommand::new(path);
    let description =
        describe(&command).map_err(|source| BuildError::Worker { backend: backend.to_string(), source })?;
    if let Support::Unavailable(problem) = &description.build {
        return Ok(BackendHere::NotHere(problem.message.clone()));
    }
    let (sha256, _) =
        digest_of_file(path, &options.places.data_folder.join("digest-cache.json")).map_err(|source| {
            BuildError::Io { doing: format!("hashing the worker of backend {backend}"), source }
        })?;
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let worker = ToolIdentity {
        version: description.worker_version.clone(),
        libraries: BTreeMap::from([(file, sha256)]),
    };
    let mut identity = BTreeMap::from([(backend.name().to_owned(), worker)]);
    if let Some(library) = &description.library {
        identity.insert(
            library.name.clone(),
            ToolIdentity { version: library.version.clone(), libraries: BTreeMap::new() },
        );
    }
    let Description { compute_capabilities, portable_plans, needs_gpu_to_build, devices, .. } = description;
    Ok(BackendHere::Ready(Box::new(Builder {
        command,
        identity,
        gpus: needs_gpu_to_build.then_some(devices),
        capabilities: Some(compute_capabilities).filter(|some| !some.is_empty()),
        portable_plans,
    })))
}

/// Returns how the worker of a backend is started, with its library if that is where nimctl looks; a worker without one
/// says itself what is missing.
pub(in crate::ops) fn command_of(
    backend: &Backend,
    options: &BuildOptions,
) -> Result<BackendCommand, BuildError> {
    let path = discover::find(backend.name(), &options.search_path)
        .map_err(|source| BuildError::Worker { backend: backend.to_string(), source })?;
    let mut command = BackendCommand::new(path);
    let tool = match backend.name() {
        Backend::ONNXRUNTIME => Some(Tool::OnnxRuntime),
        Backend::TENSORRT_RTX => Some(Tool::TensorrtRtx),
        Backend::TENSORRT => Some(Tool::Tensorrt),
        _ => None,
    };
    if let Some(located) = tool.and_then(|tool| locate(tool, &options.places).ok()) {
        set_library(&mut command, &located);
    }
    Ok(command)
}

fn describe(command: &BackendCommand) -> Result<Description, WorkerError> {
    Ok(Worker::spawn(command, Limits::default())?.description().clone())
}

fn library_version(description: &Description) -> String {
    description.library.as_ref().map_or_else(|| "unknown".into(), |library| library.version.clone())
}

/// Tells a worker where its library is.
pub(super) fn set_library(command: &mut BackendCommand, located: &Located) {
    command
        .environment
        .insert(located.tool.override_variable().into(), located.folder.clone().into_os_string());
}

fn identity_of(located: &Located, version: String) -> ToolIdentity {
    let libraries = located.files.iter().map(|file| (file.name.clone(), file.sha256)).collect();
    ToolIdentity { version, libraries }
}

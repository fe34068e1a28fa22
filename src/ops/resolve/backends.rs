//! Which backends can build and run here, and what identifies them. Each is found once and asked at most once.
//!
//! A backend that builds ahead of time and whose library is a pinned one is identified without starting its worker, so that a
//! build with nothing to do stays quick.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::backend::{Backend, Builds, Tool};
use crate::files::digest_cache::digest_of_file;
use crate::fleet::Abilities;
use crate::fleet::exchange::RemoteBackend;
use crate::nearest::did_you_mean;
use crate::ops::error::PipelineError;
use crate::ops::fleet::Place;
use crate::ops::runtime_identity::RuntimeIdentity;
use crate::ops::workspace::Workspace;
use crate::profile::{ProfileSpec, ToolIdentity, capability_tag};
use crate::recipe::{Recipe, UnknownName};
use crate::toolchain::{Located, Places, ToolchainError, locate};
use crate::worker::discover::{self, SearchPath};
use crate::worker::error::WorkerError;
use crate::worker::host::{BackendCommand, Limits, Worker};
use crate::worker::protocol::{Description, Support};

/// A backend's executable, told where its library is, and what it says of itself.
#[derive(Debug)]
pub struct FoundBackend {
    /// How its worker is started.
    pub command: BackendCommand,
    /// Its library, if it is one that we know and that is where nimctl looks; a worker without one says itself what is
    /// missing.
    pub library: Option<Located>,
    description: OnceLock<Description>,
}

impl FoundBackend {
    /// Finds a backend's executable, locates its library, and tells the worker where that is.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub fn find(name: &str, search_path: &SearchPath, places: &Places) -> Result<Self, WorkerError> {
        let mut command = BackendCommand::new(discover::find(name, search_path)?);
        let tool = crate::backend::facts_of(name).tool;
        let library = tool.and_then(|tool| locate(tool, places).ok());
        if let Some(library) = &library {
            let variable = library.tool.override_variable().into();
            command.environment.insert(variable, library.folder.clone().into_os_string());
        }
        Ok(Self { command, library, description: OnceLock::new() })
    }

    /// Returns what its worker says of itself; the worker is started the first time.
    ///
    /// # Errors
    /// A worker that can't be started, or doesn't say what it is.
    pub fn description(&self) -> Result<&Description, WorkerError> {
        if let Some(known) = self.description.get() {
            return Ok(known);
        }
        let worker = Worker::spawn(&self.command, Limits::default())?;
        Ok(self.description.get_or_init(|| worker.description().clone()))
    }
}

/// The backends of this machine, as far as anyone asked for them.
#[derive(Debug)]
pub struct Backends {
    search_path: SearchPath,
    places: Places,
    secrets: Vec<String>,
    found: Mutex<BTreeMap<Backend, Arc<FoundBackend>>>,
}

/// Whether a backend can build on this machine.
#[derive(Debug)]
pub enum BackendHere {
    /// It can build.
    Ready(Box<Builder>),
    /// Its profiles are the graphs themselves.
    NothingToCompile,
    /// It can't build on this machine, for this reason.
    NotHere(String),
}

/// A worker that can build.
#[derive(Debug)]
pub struct Builder {
    /// How it is started.
    pub command: BackendCommand,
    /// What it can build.
    pub abilities: Abilities,
}

impl Backends {
    /// Nobody asked for any yet.
    pub(in crate::ops) fn new(workspace: &Workspace) -> Self {
        let Workspace { search_path, places, secrets, .. } = workspace;
        Self {
            search_path: search_path.clone(),
            places: places.clone(),
            secrets: secrets.clone(),
            found: Mutex::default(),
        }
    }

    /// Returns a backend of this machine.
    ///
    /// # Errors
    /// [`WorkerError::NotFound`].
    pub(in crate::ops) fn find(&self, backend: &Backend) -> Result<Arc<FoundBackend>, WorkerError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = found.get(backend) {
            return Ok(Arc::clone(known));
        }
        let mut new = FoundBackend::find(backend.name(), &self.search_path, &self.places)?;
        new.command.withheld.clone_from(&self.secrets);
        let new = Arc::new(new);
        found.insert(backend.clone(), Arc::clone(&new));
        Ok(new)
    }

    /// Returns how a known backend's worker is started, if its library is there.
    ///
    /// # Errors
    /// A worker or a library that is missing.
    pub(in crate::ops) fn command_of(&self, backend: &Backend) -> Result<BackendCommand, PipelineError> {
        let found = self.find(backend).map_err(worker_error(backend))?;
        self.required_library(backend, &found)?;
        Ok(found.command.clone())
    }

    /// Returns how ONNX graphs are run, and what identifies the library that runs them.
    pub(in crate::ops) fn reference(&self) -> Result<(BackendCommand, RuntimeIdentity), PipelineError> {
        let backend = Backend::reference();
        let found = self.find(&backend).map_err(worker_error(&backend))?;
        let library = self.required_library(&backend, &found)?;
        Ok((found.command.clone(), RuntimeIdentity::of_library(backend.name(), library)))
    }

    /// Finds out about every backend that the selected profiles need, and, as far as that works, about the others of the
    /// recipe, whose profiles may be in the store.
    pub(super) fn builders(
        &self,
        recipe: &Recipe,
        selected: &[&ProfileSpec],
    ) -> Result<BTreeMap<Backend, BackendHere>, PipelineError> {
        let needed: BTreeSet<&Backend> = selected.iter().map(|spec| &spec.backend).collect();
        let mut builders = BTreeMap::new();
        for backend in recipe.profiles.iter().map(|spec| &spec.backend).collect::<BTreeSet<_>>() {
            match self.here(backend) {
                Ok(here) => {
                    builders.insert(backend.clone(), here);
                }
                Err(PipelineError::Worker {
                    backend: name,
                    source: WorkerError::NotFound { searched, .. },
                }) if needed.contains(backend)
                    && matches!(backend.facts().builds, Builds::AsItsWorkerSays) =>
                {
                    return Err(PipelineError::UnknownBackend(self.unknown(recipe, &name, &searched)));
                }
                Err(error) if needed.contains(backend) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(builders)
    }

    /// Says that no worker is called like a backend of the recipe, and which is called much like it.
    fn unknown(&self, recipe: &Recipe, name: &str, searched: &[PathBuf]) -> UnknownName {
        let mut known: BTreeSet<String> =
            discover::list(&self.search_path).into_iter().map(|found| found.name).collect();
        let ours = [Backend::reference(), Backend::ahead_of_time(), Backend::on_the_device()];
        known.extend(ours.iter().map(|backend| backend.name().to_owned()));
        let searched: Vec<String> = searched.iter().map(|folder| folder.display().to_string()).collect();
        let problem = format!(
            "there is no backend `{name}` on this machine: nimctl-backend-{name} is not in {}{}",
            searched.join(", "),
            did_you_mean(name, known.iter().map(String::as_str))
        );
        let position = recipe.position(&["profiles", "*", "backend"], name);
        UnknownName { recipe: recipe.path.clone(), position, problem }
    }

    /// Returns whether a backend can build here.
    pub(in crate::ops) fn here(&self, backend: &Backend) -> Result<BackendHere, PipelineError> {
        match backend.facts().builds {
            Builds::Nothing => Ok(BackendHere::NothingToCompile),
            Builds::AheadOfTime(_) => self.ahead_of_time(backend),
            Builds::OnTheDevice => self.on_the_device(backend),
            Builds::AsItsWorkerSays => self.stranger(backend),
        }
    }

    fn ahead_of_time(&self, backend: &Backend) -> Result<BackendHere, PipelineError> {
        let found = self.find(backend).map_err(worker_error(backend))?;
        let library = self.required_library(backend, &found)?;
        let version = match &library.version {
            Some(version) => version.clone(),
            None => library_version(found.description().map_err(worker_error(backend))?),
        };
        Ok(BackendHere::Ready(Box::new(Builder {
            command: found.command.clone(),
            abilities: Abilities {
                identity: BTreeMap::from([(backend.name().into(), identity_of(library, version))]),
                gpus: None,
                // The recipe's reader has checked the targets.
                capabilities: None,
                portable_plans: true,
            },
        })))
    }

    fn on_the_device(&self, backend: &Backend) -> Result<BackendHere, PipelineError> {
        let Ok(found) = self.find(backend) else {
            return Ok(BackendHere::NotHere(format!(
                "its worker, {}{backend}, is not installed",
                discover::PREFIX
            )));
        };
        let description = found.description().map_err(worker_error(backend))?;
        match (&description.build, &found.library) {
            (Support::Unavailable(problem), _) => Ok(BackendHere::NotHere(problem.message.clone())),
            (Support::Available, None) => {
                let variable = backend.facts().tool.map(Tool::override_variable).unwrap_or_default();
                Ok(BackendHere::NotHere(format!(
                    "its library was not found; set its path with --{backend}-lib or {variable}"
                )))
            }
            (Support::Available, Some(library)) => {
                let identity = identity_of(library, library_version(description));
                Ok(BackendHere::Ready(Box::new(Builder {
                    command: found.command.clone(),
                    abilities: Abilities {
                        identity: BTreeMap::from([(backend.name().into(), identity)]),
                        gpus: Some(description.devices.clone()),
                        capabilities: None,
                        portable_plans: false,
                    },
                })))
            }
        }
    }

    /// A backend that somebody else wrote is identified by its executable and by what it says of itself.
    fn stranger(&self, backend: &Backend) -> Result<BackendHere, PipelineError> {
        let found = self.find(backend).map_err(worker_error(backend))?;
        let description = found.description().map_err(worker_error(backend))?;
        if let Support::Unavailable(problem) = &description.build {
            return Ok(BackendHere::NotHere(problem.message.clone()));
        }
        let path: &Path = &found.command.path;
        let (sha256, _) =
            digest_of_file(path, &self.places.data_folder.join("digest-cache.json")).map_err(|source| {
                PipelineError::Io { doing: format!("hashing the worker of backend {backend}"), source }
            })?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let worker = ToolIdentity {
            version: description.worker_version.clone(),
            libraries: BTreeMap::from([(file, sha256)]),
        };
        let mut identity = BTreeMap::from([(backend.name().to_owned(), worker)]);
        if let Some(library) = &description.library {
            let version = library.version.clone();
            identity.insert(library.name.clone(), ToolIdentity { version, libraries: BTreeMap::new() });
        }
        let capabilities = description.compute_capabilities.clone();
        Ok(BackendHere::Ready(Box::new(Builder {
            command: found.command.clone(),
            abilities: Abilities {
                identity,
                gpus: description.needs_gpu_to_build.then(|| description.devices.clone()),
                capabilities: Some(capabilities).filter(|some| !some.is_empty()),
                portable_plans: description.portable_plans,
            },
        })))
    }

    /// Returns the library of a known backend, or why it is not there.
    fn required_library<'a>(
        &self,
        backend: &Backend,
        found: &'a FoundBackend,
    ) -> Result<&'a Located, PipelineError> {
        if let Some(library) = &found.library {
            return Ok(library);
        }
        let missing =
            |source: ToolchainError| PipelineError::Toolchain { backend: backend.to_string(), source };
        let tool = backend.facts().tool;
        match tool.map(|tool| locate(tool, &self.places)) {
            Some(Err(error)) => Err(missing(error)),
            Some(Ok(_)) | None => Err(PipelineError::Io {
                doing: format!("locating the library of backend {backend}"),
                source: std::io::Error::other("it appeared a moment ago: try again"),
            }),
        }
    }
}

fn worker_error(backend: &Backend) -> impl Fn(WorkerError) -> PipelineError {
    move |source| PipelineError::Worker { backend: backend.to_string(), source }
}

/// Returns the identities that go into build keys, by the profiles' names.
pub(super) fn identities(
    profiles: &[ProfileSpec],
    builders: &BTreeMap<Backend, BackendHere>,
    places: &BTreeMap<String, Place>,
) -> BTreeMap<String, BTreeMap<String, ToolIdentity>> {
    let identity = |spec: &ProfileSpec| {
        let abilities = match places.get(&spec.name()) {
            Some(place) => place.abilities()?,
            None => match builders.get(&spec.backend)? {
                BackendHere::Ready(builder) => &builder.abilities,
                BackendHere::NothingToCompile | BackendHere::NotHere(_) => return None,
            },
        };
        Some((spec.name(), abilities.identity.clone()))
    };
    profiles.iter().filter_map(identity).collect()
}

/// Returns the profiles that can't be built here, by name, with what each needs.
pub(super) fn elsewhere(
    selected: &[&ProfileSpec],
    builders: &BTreeMap<Backend, BackendHere>,
    places: &BTreeMap<String, Place>,
) -> BTreeMap<String, String> {
    let needs = |spec: &ProfileSpec, place: &str, reason: &str| {
        let on = match spec.target.compute_capabilities().as_slice() {
            [] => String::new(),
            some => format!(" on a host with a GPU of compute capability {}", capability_tag(some)),
        };
        format!("needs the {} backend{on} ({place}: {reason})", spec.backend)
    };
    let missing = |spec: &&ProfileSpec| {
        if let Some(Place { executor, backend }) = places.get(&spec.name()) {
            let reason = match backend {
                Ok(RemoteBackend::NotThere(reason)) => reason.clone(),
                Ok(RemoteBackend::Ready(abilities)) => abilities.refusal(&spec.target)?,
                // That is no lack, but a failure.
                Err(_) => return None,
            };
            return Some((spec.name(), needs(spec, &format!("executor {executor}"), &reason)));
        }
        let reason = match &builders[&spec.backend] {
            BackendHere::NotHere(reason) => reason.clone(),
            BackendHere::Ready(builder) => builder.abilities.refusal(&spec.target)?,
            BackendHere::NothingToCompile => return None,
        };
        Some((spec.name(), needs(spec, "here", &reason)))
    };
    selected.iter().filter_map(missing).collect()
}

fn library_version(description: &Description) -> String {
    description.library.as_ref().map_or_else(|| "unknown".into(), |library| library.version.clone())
}

fn identity_of(located: &Located, version: String) -> ToolIdentity {
    let libraries = located.files.iter().map(|file| (file.name.clone(), file.sha256)).collect();
    ToolIdentity { version, libraries }
}

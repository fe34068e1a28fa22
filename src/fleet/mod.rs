//! The fleet file (`nimctl.fleet/1`): which engines run jobs on other machines, what each of them offers, and which of them
//! takes a profile.
//!
//! Pure: [`crate::ops::fleet`] hands jobs out. What is written between this machine and the others is in [`exchange`].

mod abilities;
pub mod exchange;
mod executors;
mod kubernetes;
pub mod proposal;
mod slurm;
mod task;
mod time_limit;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

pub use abilities::Abilities;
pub use executors::Executors;
pub use kubernetes::{Apply, Effect, Kubernetes, Operator, Toleration};
pub use slurm::Slurm;
pub use task::{Task, TaskState};
pub use time_limit::TimeLimit;

use crate::backend::Backend;
use crate::compute_capability::ComputeCapability;
use crate::gpu;
use crate::profile::Target;
use crate::stored_format::{self, YamlFileError, position_in_yaml};

/// The schema name inside a fleet file.
pub const FLEET_SCHEMA: &str = "nimctl.fleet/1";

/// The machines that jobs may run on beside this one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "nimctl.fleet/1")]
pub struct Fleet {
    /// Always `nimctl.fleet/1`.
    #[schemars(extend("const" = "nimctl.fleet/1"))]
    pub schema: String,
    /// The executors by name. A profile goes to the first that offers its backend and its GPU.
    pub executors: Executors,
}

/// An engine that runs jobs on nodes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Executor {
    /// Who runs the jobs.
    pub engine: Engine,
    /// What its nodes can do.
    pub offers: Offers,
}

/// Who runs jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Slurm.
    Slurm(Box<Slurm>),
    /// Kubernetes.
    Kubernetes(Box<Kubernetes>),
}

/// An executor as the file has it: with one of the engines.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Executor")]
struct Written {
    /// Jobs of Slurm. An executor has this or `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slurm: Option<Box<Slurm>>,
    /// Jobs of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kubernetes: Option<Box<Kubernetes>>,
    /// What its nodes can do.
    offers: Offers,
}

impl TryFrom<Written> for Executor {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let engine = match (written.slurm, written.kubernetes) {
            (Some(slurm), None) => Engine::Slurm(slurm),
            (None, Some(kubernetes)) => Engine::Kubernetes(kubernetes),
            (None, None) => return Err("an executor needs `slurm` or `kubernetes`"),
            (Some(_), Some(_)) => return Err("an executor has `slurm` or `kubernetes`, not both"),
        };
        Ok(Self { engine, offers: written.offers })
    }
}

impl From<Executor> for Written {
    fn from(Executor { engine, offers }: Executor) -> Self {
        match engine {
            Engine::Slurm(slurm) => Self { slurm: Some(slurm), kubernetes: None, offers },
            Engine::Kubernetes(kubernetes) => Self { slurm: None, kubernetes: Some(kubernetes), offers },
        }
    }
}

impl JsonSchema for Executor {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Written::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}

impl Engine {
    /// Returns its name, as its makers write it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Slurm(_) => "Slurm",
            Self::Kubernetes(_) => "Kubernetes",
        }
    }

    /// Returns how many nodes may work at the same time.
    pub fn nodes(&self) -> u32 {
        match self {
            Self::Slurm(slurm) => slurm.nodes,
            Self::Kubernetes(kubernetes) => kubernetes.nodes,
        }
    }

    /// Returns how long a job may wait.
    pub fn max_wait(&self) -> TimeLimit {
        match self {
            Self::Slurm(slurm) => slurm.max_wait,
            Self::Kubernetes(kubernetes) => kubernetes.max_wait,
        }
    }
}

fn one() -> u32 {
    1
}

/// Returns whether a shell takes it as the name of a variable.
fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// What the nodes of an executor can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offers {
    /// The GPUs by the names that recipes use; if absent, profiles for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Vec<String>>,
    /// The backends whose plans are built there.
    pub backends: Vec<String>,
}

/// A fleet file that can't be used.
pub type FleetError = YamlFileError;

impl Fleet {
    /// Reads a fleet file; `path` is used only in errors.
    ///
    /// # Errors
    /// Text that is not a fleet file, one of another version, or one that names what doesn't exist.
    pub fn parse(text: &str, path: &str) -> Result<Self, FleetError> {
        let syntax = |position, problem: String| FleetError::Syntax { path: path.into(), position, problem };
        let fleet: Self = stored_format::from_yaml(text, FLEET_SCHEMA, path, |fleet: &Self| &fleet.schema)?;
        for (name, executor) in fleet.executors.iter() {
            if let Err(Wrong { keys, item, problem }) = executor.check(name) {
                let mut keys: Vec<&str> = keys.to_vec();
                if item != name {
                    keys.insert(0, name);
                }
                keys.insert(0, "executors");
                let place = position_in_yaml(text, &keys, &item);
                return Err(syntax(place, format!("executor `{name}`: {problem}")));
            }
        }
        Ok(fleet)
    }

    /// Returns the first executor that offers what a profile needs, by its backend and target. What ships the graph itself needs none.
    pub fn offering(&self, backend: &Backend, target: &Target) -> Option<(&str, &Executor)> {
        if backend.ships_onnx() {
            return None;
        }
        self.executors.iter().find(|(_, executor)| executor.offers.fits(backend, target))
    }
}

impl Executor {
    /// Checks what the types don't.
    fn check(&self, name: &str) -> Result<(), Wrong> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = !name.is_empty() && name.chars().all(is_plain);
        if !is_name || name.starts_with('-') || name.ends_with('-') {
            let problem = "a name has lower-case letters, digits and, between them, hyphens";
            return Err(Wrong { keys: &[], item: name.into(), problem: problem.into() });
        }
        let (keys, checked): (&[&str], _) = match &self.engine {
            Engine::Slurm(slurm) => (&["slurm"], slurm.check()),
            Engine::Kubernetes(kubernetes) => (&["kubernetes"], kubernetes.check()),
        };
        checked.map_err(|(key, problem)| Wrong { keys, item: key.into(), problem })?;
        let of_backends =
            |item: &str, problem| Wrong { keys: &["offers", "backends"], item: item.into(), problem };
        if self.offers.backends.is_empty() {
            let problem = "name the backends whose plans are built there in `offers.backends`".into();
            return Err(Wrong { keys: &["offers"], item: "backends".into(), problem });
        }
        for name in &self.offers.backends {
            let backend = Backend::new(name).map_err(|error| of_backends(name, error.to_string()))?;
            if backend.ships_onnx() {
                let problem =
                    format!("the profiles of `{name}` are the graphs themselves: there is nothing to build");
                return Err(of_backends(name, problem));
            }
        }
        for name in self.offers.gpus.iter().flatten() {
            let of_gpus = |problem| Wrong { keys: &["offers", "gpus"], item: name.clone(), problem };
            gpu::find(name).map_err(|error| of_gpus(error.to_string()))?;
        }
        Ok(())
    }
}

/// What is wrong with an executor.
struct Wrong {
    /// The keys below the executor that lead to it.
    keys: &'static [&'static str],
    /// The key or the item of a list.
    item: String,
    problem: String,
}

impl Offers {
    /// Returns whether profiles of a backend for a target can be built: on the very GPU, or on one of a compute capability that
    /// the target has.
    pub fn fits(&self, backend: &Backend, target: &Target) -> bool {
        let has_backend = self.backends.iter().any(|name| name == backend.name());
        let Some(gpus) = &self.gpus else { return has_backend };
        let gpus: Vec<&gpu::Gpu> = gpus.iter().filter_map(|name| gpu::find(name).ok()).collect();
        let of_capability =
            |capability: &ComputeCapability| gpus.iter().any(|gpu| gpu.compute_capability == *capability);
        has_backend
            && match target {
                Target::Gpu { name, compute_capability: _ } => gpus.iter().any(|gpu| gpu.name == *name),
                Target::ComputeCapabilities(capabilities) => capabilities.iter().any(of_capability),
                Target::Generic => true,
            }
    }
}

#[cfg(test)]
mod tests;

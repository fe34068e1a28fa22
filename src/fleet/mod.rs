//! The fleet file (`nimctl.fleet/1`): which engines run jobs on other machines, what each of them offers, and which of them
//! takes a profile.
//!
//! Pure: [`crate::ops::fleet`] hands jobs out. What is written between this machine and the others is in [`exchange`].

mod abilities;
pub mod exchange;
mod executors;
pub mod proposal;
mod slurm;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use abilities::Abilities;
pub use executors::Executors;
pub use slurm::{Slurm, SlurmTime};

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    /// Jobs of Slurm.
    pub slurm: Slurm,
    /// What its nodes can do.
    pub offers: Offers,
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
        if name.is_empty() || !name.chars().all(is_plain) {
            let problem = "a name has lower-case letters, digits and hyphens";
            return Err(Wrong { keys: &[], item: name.into(), problem: problem.into() });
        }
        self.slurm.check().map_err(|(key, problem)| Wrong { keys: &["slurm"], item: key.into(), problem })?;
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

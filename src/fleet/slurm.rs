//! What a fleet file says of Slurm: what `sbatch` is asked for, and the folder that all nodes see.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time_limit::TimeLimit;
use super::{is_variable, one};

/// Jobs of Slurm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slurm {
    /// A folder that this machine and all nodes see under the same path; nimctl makes it where absent.
    pub shared: PathBuf,
    /// The partition; the cluster's own default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// The generic resources of a job: `gpu:h100:1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// The features that a node must have (`--constraint`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// The account that is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The quality of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// How long a job may run: `HH:MM:SS`, or `D-HH:MM:SS`. The partition's own limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeLimit>,
    /// How long jobs may wait in the queue, in the form of `time`; then they are cancelled and their profiles fail.
    #[serde(default = "TimeLimit::a_day")]
    pub max_wait: TimeLimit,
    /// How many nodes may work at the same time.
    #[serde(default = "one")]
    pub nodes: u32,
    /// How many cores a job asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// The memory that a job asks for, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Where `nimctl` is on the nodes, with its workers beside it; if absent, where it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nimctl: Option<PathBuf>,
    /// What is set in the environment of the jobs, where administrators of the cluster can read it: paths of libraries, no secrets. Of this
    /// machine's environment `PATH`, `HOME`, `USER`, `LOGNAME`, `LANG`, `LD_LIBRARY_PATH`, `SLURM_CONF` and `SBATCH_…` go along, and nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

impl Slurm {
    /// Checks what the types don't; the error has the key that it is about.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let Self { shared, partition, gres, constraint, account, qos, nodes, nimctl, environment, .. } = self;
        if !shared.is_absolute() {
            return Err(("shared", format!("`{}` is not an absolute path", shared.display())));
        }
        if nimctl.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(("nimctl", "it is not an absolute path".into()));
        }
        if *nodes == 0 {
            return Err(("nodes", "at least one node is needed".into()));
        }
        let words = [
            ("partition", partition),
            ("gres", gres),
            ("constraint", constraint),
            ("account", account),
            ("qos", qos),
        ];
        for (key, word) in words {
            if word.as_ref().is_some_and(|word| word.is_empty() || word.contains(char::is_whitespace)) {
                return Err((key, format!("`{key}` is empty or has white space in it")));
            }
        }
        if let Some(name) = environment.keys().find(|name| !is_variable(name)) {
            return Err(("environment", format!("`{name}` is not a valid variable name")));
        }
        Ok(())
    }
}

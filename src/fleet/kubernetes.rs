//! What a fleet file says of Kubernetes: what the Jobs ask for, and the repository that requests and results travel through.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time_limit::TimeLimit;
use super::{is_variable, one};

/// How the address of an exchange begins.
const EXCHANGE_PREFIX: &str = "oci://";
/// The longest name of a label's name or value, or of an object.
const MAX_NAME_BYTES: usize = 63;

/// What the pods have in their environment anyway.
const OURS: [&str; 4] = ["DOCKER_CONFIG", "JOB_COMPLETION_INDEX", "NIMCTL_NODE", "TMPDIR"];

/// Jobs of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The context in the configuration of `kubectl`; its current one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The namespace of the Jobs; the context's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The image of the pods: nimctl, its workers and the compilers' libraries. Best named with its digest.
    pub image: String,
    /// A repository that this machine and all pods reach: `oci://registry.example/scratch/nimctl`. Requests and results travel through it.
    pub exchange: String,
    /// Speak to the exchange's registry without TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
    /// The Secret of type `kubernetes.io/dockerconfigjson` that has the pods' credentials for the exchange.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_secret: Option<String>,
    /// The Secret that has the credentials for the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_secret: Option<String>,
    /// The labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// The taints of nodes that the pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// The extended resources of a pod, by name: `nvidia.com/gpu: 1`. If absent, one `nvidia.com/gpu`; if empty, none.
    #[serde(default = "one_gpu")]
    pub resources: BTreeMap<String, u32>,
    /// How many cores a pod asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// The memory of a pod, in MiB: asked for, and the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// How long a pod may run: `HH:MM:SS`, or `D-HH:MM:SS`. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeLimit>,
    /// How long a Job may be without a pod that runs, in the form of `time`; then it is deleted and its profiles fail.
    #[serde(default = "TimeLimit::a_day")]
    pub max_wait: TimeLimit,
    /// How many pods may run at the same time.
    #[serde(default = "one")]
    pub nodes: u32,
    /// What is set in the environment of the pods, where others can read it: paths of libraries, no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Who applies the Jobs.
    #[serde(default)]
    pub apply: Apply,
}

/// Who applies the Jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Apply {
    /// nimctl, with `kubectl`.
    #[default]
    Kubectl,
    /// Somebody else: nimctl waits for results, and `nimctl fleet manifests` prints the Jobs.
    ByHand,
}

/// A taint that pods tolerate, as Kubernetes has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key; all taints if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists` or `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Operator>,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; every effect if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// How a toleration's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The taint is there, with any value.
    Exists,
    /// It has this value.
    Equal,
}

/// What a taint does to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// No new ones are scheduled there.
    NoSchedule,
    /// They are scheduled elsewhere, if that is possible.
    PreferNoSchedule,
    /// Those that run there are evicted, too.
    NoExecute,
}

fn one_gpu() -> BTreeMap<String, u32> {
    BTreeMap::from([("nvidia.com/gpu".to_owned(), 1)])
}

impl Kubernetes {
    /// Returns the repository of the exchange, without what marks it as one.
    pub fn repository(&self) -> &str {
        self.exchange.strip_prefix(EXCHANGE_PREFIX).unwrap_or(&self.exchange)
    }

    /// Checks what the types don't; the error has the key that it is about.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let Self { exchange, image, namespace, registry_secret, image_pull_secret, environment, .. } = self;
        if exchange.strip_prefix(EXCHANGE_PREFIX).is_none_or(|rest| !rest.contains('/')) {
            let problem = format!("`{exchange}` is not a repository: write oci://registry.example/name");
            return Err(("exchange", problem));
        }
        if image.is_empty() || image.contains(char::is_whitespace) {
            return Err(("image", "it is not the name of an image".into()));
        }
        if self.nodes == 0 {
            return Err(("nodes", "at least one pod is needed".into()));
        }
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= MAX_NAME_BYTES
                && name.chars().all(is_plain)
                && !name.starts_with('-')
                && !name.ends_with('-')
        };
        // The names of Secrets may have dots.
        let is_secret = |name: &str| !name.is_empty() && name.split('.').all(is_name);
        if namespace.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(("namespace", "a name has lower-case letters, digits and hyphens".into()));
        }
        for (key, name) in [("registry_secret", registry_secret), ("image_pull_secret", image_pull_secret)] {
            if name.as_deref().is_some_and(|name| !is_secret(name)) {
                return Err((key, "it is not the name of a Secret".into()));
            }
        }
        if let Some(name) = environment.keys().find(|name| OURS.contains(&name.as_str())) {
            return Err(("environment", format!("`{name}` is set by nimctl or Kubernetes")));
        }
        if let Some(name) = environment.keys().find(|name| !is_variable(name)) {
            return Err(("environment", format!("`{name}` is not a valid variable name")));
        }
        Ok(())
    }
}

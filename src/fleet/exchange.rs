//! What this machine and a node write to each other: requests, what became of them, and what a node is.
//!
//! A request is a folder with `request.json` ([`RemoteRequest`]) and the files that it names; paths are relative to the folder. The
//! node puts `events.jsonl` and, once it is done, `result.json` ([`RemoteResult`]) beside it. What a node is ([`NodeFacts`]) is the
//! result of a request of its own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Abilities;
use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::profile::{Target, ToolIdentity};
use nimctl_backend_kit::protocol::{BuildRequest, BuildResult, Problem};

/// The schema of requests.
pub const REQUEST_SCHEMA: &str = "nimctl.fleet-request/1";
/// The schema of results.
pub const RESULT_SCHEMA: &str = "nimctl.fleet-result/1";

/// What a node is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteRequest {
    /// [`REQUEST_SCHEMA`].
    pub schema: String,
    /// What.
    pub what: What,
}

/// What a node is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// To say what it is, and what these backends can do there.
    Describe {
        /// The backends.
        backends: Vec<String>,
    },
    /// To compile a graph.
    Build(Box<RemoteBuild>),
}

/// A graph to compile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteBuild {
    /// The backend.
    pub backend: String,
    /// What goes into the build key: a node with something else refuses.
    pub toolchain: BTreeMap<String, ToolIdentity>,
    /// What the plan is for: a node that has GPUs has one of these.
    pub target: Target,
    /// The files that are read, with their digests.
    pub files: BTreeMap<String, Sha256>,
    /// What the worker is asked for.
    pub request: BuildRequest,
    /// How long it may take.
    pub timeout_ms: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoteResult {
    /// [`RESULT_SCHEMA`].
    pub schema: String,
    /// Where it ran.
    pub node: Node,
    /// What came of it.
    pub outcome: Outcome,
}

/// Where something ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The node's name, as its engine calls it.
    pub name: String,
    /// Its GPUs, as the driver names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The node was described.
    Described(NodeFacts),
    /// The plan was built.
    Built {
        /// What the worker says.
        answer: BuildResult,
        /// Its peak memory.
        peak_memory_bytes: Option<u64>,
        /// What it warned of.
        warnings: Vec<String>,
        /// The file of the plan: each process that works on a request has its own.
        file: String,
        /// The digest of the plan.
        plan: Sha256,
    },
    /// The worker reported an error.
    Reported(Problem),
    /// Something else failed.
    Failed {
        /// What it means.
        kind: FailureKind,
        /// Why.
        message: String,
    },
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The input is wrong.
    Input,
    /// A check said no.
    Refused,
    /// Something is missing or broke.
    Unavailable,
}

impl From<ErrorKind> for FailureKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Input => Self::Input,
            ErrorKind::Refused | ErrorKind::NoProfile => Self::Refused,
            ErrorKind::Unavailable | ErrorKind::Interrupted | ErrorKind::Bug => Self::Unavailable,
        }
    }
}

impl From<FailureKind> for ErrorKind {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Input => Self::Input,
            FailureKind::Refused => Self::Refused,
            FailureKind::Unavailable => Self::Unavailable,
        }
    }
}

/// What a node is, and what its backends can do there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeFacts {
    /// The version of its nimctl.
    pub nimctl_version: String,
    /// Each backend that was asked for.
    pub backends: BTreeMap<String, RemoteBackend>,
}

/// What a backend can do on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RemoteBackend {
    /// It can build.
    Ready(Abilities),
    /// It can't, for this reason.
    NotThere(String),
}

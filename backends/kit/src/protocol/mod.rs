//! The protocol between `nimctl` and a worker, version 1: a public interface, so that anyone can write a backend.
//!
//! # Transport
//!
//! A worker is an executable named `nimctl-backend-<name>`. It reads requests on standard input and writes events on
//! standard output, one JSON object a line, UTF-8, ended by a line feed, no longer than [`MAX_LINE_BYTES`] with it.
//! Standard error is its log: free text, of which the host keeps the end for its own error messages. Nothing but
//! events may reach standard output; a worker that loads a library which prints there must move its own channel away
//! first ([`serve`](crate::serve) does so).
//!
//! ```text
//! host   → {"id":1,"request":{"describe":{"protocol_versions":[1]}}}
//! worker → {"id":1,"event":{"result":{"describe":{"protocol_version":1,"backend":"tensorrt-rtx",…}}}}
//! host   → {"id":2,"request":{"build":{"graph":"/m/vision.onnx","plan":"/o/vision.plan",…}}}
//! worker → {"id":2,"event":{"progress":{"stage":"parse"}}}
//! worker → {"id":2,"event":{"warning":{"message":"…"}}}
//! worker → {"id":2,"event":{"result":{"build":{"plan_size_bytes":4711,…}}}}
//! host   → {"id":3,"request":{"inspect":{"path":"/o/vision.plan"}}}
//! worker → {"id":3,"event":{"error":{"code":"no_driver","message":"…","needs":["an NVIDIA driver"]}}}
//! ```
//!
//! # Rules
//!
//! * The host sends one request at a time and waits for its end: exactly one `result` or `error`. Any number of
//!   `progress` and `warning` events may come before it, none after it.
//! * Every event carries the `id` of its request. Only an `error` about a line whose `id` could not be read has
//!   `"id":null`.
//! * The first request is `describe`. The host names the protocol versions it speaks, and the worker answers with the
//!   greatest that both speak, or, if there is none, with its own greatest, which makes the host give up.
//! * An `error` ends the request, not the worker: it must be ready for the next one. A worker that is broken beyond
//!   that exits, with a status other than 0.
//! * Standard input closing means that the host is gone. A worker that is idle (or answering `describe`) then exits
//!   with status 0; one that is building, checking, inspecting or running exits **at once**, whatever is half done.
//! * The host starts each worker in a process group of its own and ends the whole group on a time-out, on cancelling
//!   and at its own end: a worker may start processes, and must not take them out of the group.
//! * All paths are absolute. A worker writes only what the request names. It reads no environment but its
//!   `NIMCTL_…` variables and what its libraries read.
//!
//! # Growing
//!
//! Readers ignore fields and event kinds that they don't know; writers leave out fields that are `null`. New requests,
//! optional fields, event kinds and error codes may come within a version: a request that a worker doesn't know is
//! answered with the error `unsupported_request`, and an error code that the host doesn't know is shown as it is. What
//! would break this raises [`PROTOCOL_VERSION`]. One type is closed, because recipes share it: [`ShapeRange`].
//!
//! # Tensors
//!
//! Tensors travel as `.npy` files ([`npy`](crate::npy)). An element type is written with its NumPy name: `float16`,
//! `float32`, `float64`, `int8`, `int32`, `int64`, `uint8`, `bool`; besides these `bfloat16`, `string`, and for what no
//! tensor file can hold `int4`, `float8e4m3`, `float4e2m1` and the like. A shape is a list of dimensions, where -1
//! stands for one that is open until run time.

mod check;
mod execution;
mod problem;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::compute_capability::ComputeCapability;
use crate::shape_range::ShapeRange;

pub use crate::execution::{GraphOptimization, Provider, RuntimeCacheUse};
pub use check::{CheckRequest, CheckResult, Refusal, RefusalReason};
pub use execution::{Execution, RanOn};
pub use problem::{ErrorCode, Problem};

/// The version of the protocol that this module describes.
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest line in either direction, its line feed included.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// One line from host to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RequestLine {
    /// The host's number for this request; greater than that of the request before.
    pub id: u64,
    /// The request.
    pub request: Request,
}

/// What a host can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What are you, and what can you do here? Answered quickly and without side effects.
    Describe(DescribeRequest),
    /// Compile a graph into a plan.
    Build(BuildRequest),
    /// Name the nodes of a graph that can't be compiled.
    Check(CheckRequest),
    /// Describe the inputs and outputs of a graph or plan.
    Inspect(InspectRequest),
    /// Load a graph or plan, feed tensors once, write the outputs.
    Run(RunRequest),
    /// Load a graph or plan, and run it again and again against the clock.
    Bench(BenchRequest),
}

impl Request {
    /// Returns the request's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Describe(_) => "describe",
            Self::Build(_) => "build",
            Self::Check(_) => "check",
            Self::Inspect(_) => "inspect",
            Self::Run(_) => "run",
            Self::Bench(_) => "bench",
        }
    }
}

/// Asks a worker to describe itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DescribeRequest {
    /// The protocol versions that the host speaks.
    pub protocol_versions: Vec<u32>,
}

/// Asks for a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BuildRequest {
    /// The ONNX file; its external data lies where it says, relative to it.
    pub graph: PathBuf,
    /// Where the worker writes the plan. The folder exists; the file may, and is replaced. After an error nothing of
    /// it counts.
    pub plan: PathBuf,
    /// What the plan must run on: several for one portable plan; none for the device of this machine.
    #[serde(default)]
    pub compute_capabilities: Vec<ComputeCapability>,
    /// For each input with a dynamic dimension, the shapes to build for. Inputs of fixed shape need none.
    #[serde(default)]
    pub shape_ranges: BTreeMap<String, ShapeRange>,
    /// The limit of the builder's scratch memory on the device; the library's own default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_mib: Option<u64>,
}

/// Asks what a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InspectRequest {
    /// An ONNX file or a plan of this backend; the worker tells them apart by their contents.
    pub path: PathBuf,
}

/// The digests of the files that are loaded: of the model by its file name, of its external data by their paths relative to its
/// folder. A digest is BLAKE3's, written `blake3:<64 hex digits>`. Empty where the host makes no promise about them.
///
/// A worker that knows the field reads each of these files once, into memory of its own, compares its digest, and gives its library
/// those very bytes. Whatever happens to the file meanwhile, nothing else is loaded. A file with another digest is the error
/// `damaged_file`.
pub type Digests = BTreeMap<PathBuf, String>;

/// Asks for one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunRequest {
    /// An ONNX file or a plan of this backend.
    pub path: PathBuf,
    /// What the files that are loaded must be ([`Digests`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: Digests,
    /// A `.npy` file for each input.
    pub inputs: BTreeMap<String, PathBuf>,
    /// An existing folder; the worker writes one `.npy` file an output into it, named as it sees fit.
    pub output_folder: PathBuf,
    /// How.
    #[serde(flatten)]
    pub execution: Execution,
}

/// The most streams that a benchmark may have: each is a thread with its own session or execution context.
pub const MAX_STREAMS: u32 = 128;

/// Measures how long runs take. The timed loop is the worker's, so that no part of the protocol is timed.
///
/// The worker loads what it is asked to, runs it once, and sends a `progress` event of the stage `first_result`. It goes
/// on for `warm_up_ms`, which don't count, and then measures in windows: one ends after `window_ms` and ten runs. It
/// stops when the last three windows agree, in the median of latencies and in runs a second, to 5 % (that is the rule of
/// `nimctl_backend_kit::stop_rule::is_stable`), or after the first window that ends beyond `budget_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BenchRequest {
    /// An ONNX file or a plan of this backend.
    pub path: PathBuf,
    /// What the files that are loaded must be ([`Digests`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub digests: Digests,
    /// A `.npy` file for each input; every run takes the same.
    pub inputs: BTreeMap<String, PathBuf>,
    /// Number of concurrent callers, 1 to 128, each starting a run when its last one is done.
    pub streams: u32,
    /// Time before anything counts.
    pub warm_up_ms: u64,
    /// The min length of a window.
    pub window_ms: u64,
    /// Most time for all windows.
    pub budget_ms: u64,
    /// How.
    #[serde(flatten)]
    pub execution: Execution,
    /// Where the worker writes every sample: an `int64` tensor of shape [samples, 3], sorted by the second column. A
    /// row is the stream, the start in ns after the first counted one, and the duration in ns.
    pub samples: PathBuf,
}

/// One line from worker to host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventLine {
    /// The request this belongs to; `null` in an error about a line whose `id` could not be read.
    pub id: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// What a worker reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Progress of the work.
    Progress(Progress),
    /// Something the user should know; the request continues.
    Warning(Warning),
    /// The request is done.
    Result(Response),
    /// The request failed; the worker is ready for another.
    Error(Problem),
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Progress {
    /// What is being done, in a word or a few: `load`, `parse`, `build`, `write`, `run`, or the library's own phase.
    pub stage: String,
    /// Steps done in this stage, if it has steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// All steps of this stage, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Warning {
    /// One sentence, in the library's own words where they are its.
    pub message: String,
}

/// The result of a request, under the request's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Answers `describe`.
    Describe(Box<Description>),
    /// Answers `build`.
    Build(BuildResult),
    /// Answers `check`.
    Check(CheckResult),
    /// Answers `inspect`.
    Inspect(Inspection),
    /// Answers `run`.
    Run(RunResult),
    /// Answers `bench`.
    Bench(BenchResult),
}

impl Response {
    /// Returns the name of the request that this answers.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Describe(_) => "describe",
            Self::Build(_) => "build",
            Self::Check(_) => "check",
            Self::Inspect(_) => "inspect",
            Self::Run(_) => "run",
            Self::Bench(_) => "bench",
        }
    }
}

/// What a worker is and can do on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Description {
    /// The protocol version that the worker will speak.
    pub protocol_version: u32,
    /// The backend's name, as in `nimctl-backend-<name>`.
    pub backend: String,
    /// The worker's own version.
    pub worker_version: String,
    /// The inference library, if it could be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<Library>,
    /// Whether `build` can work here.
    pub build: Support,
    /// Whether `run` can work here.
    pub run: Support,
    /// What it can build for; empty if that is only the device of this machine, or if it doesn't build.
    #[serde(default)]
    pub compute_capabilities: Vec<ComputeCapability>,
    /// Whether one plan can be built for several compute capabilities.
    #[serde(default)]
    pub portable_plans: bool,
    /// Whether `build` needs a GPU.
    #[serde(default)]
    pub needs_gpu_to_build: bool,
    /// Whether a process builds at most one plan, and before any other request: for libraries that keep something of what
    /// they did, which changes the next plan. The host starts another process for each build.
    #[serde(default)]
    pub one_build_per_process: bool,
    /// The revision of what the worker does to make plans beside calling its library: raised when equal requests give other
    /// plans than before. Only workers that come with nimctl need it; others are identified by their executable.
    #[serde(default)]
    pub build_revision: u32,
    /// The devices that the worker sees.
    #[serde(default)]
    pub devices: Vec<WorkerDevice>,
}

/// An inference library that a worker loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Library {
    /// Its name, `TensorRT-RTX` say.
    pub name: String,
    /// Its version, with all its numbers, as it gives it itself.
    pub version: String,
    /// The files it was loaded from, absolute: their contents decide what a build gives.
    pub files: Vec<String>,
}

/// Whether something can be done here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// It can be tried.
    Available,
    /// It can't; asking for it gives this error.
    Unavailable(Problem),
}

/// A device that a worker sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerDevice {
    /// The device's name, as its driver gives it.
    pub name: String,
    /// Its compute capability.
    pub compute_capability: ComputeCapability,
    /// Where it is on the PCI bus, as the driver writes it: `00000000:C1:00.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<String>,
}

/// A plan was built and is at the requested path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BuildResult {
    /// The size of the plan file.
    pub plan_size_bytes: u64,
    /// Time to read the graph.
    pub parse_ms: u64,
    /// Time to compile it.
    pub build_ms: u64,
    /// Time to write the plan.
    pub write_ms: u64,
    /// What the plan takes, in its order.
    pub inputs: Vec<TensorDescription>,
    /// What the plan gives, in its order.
    pub outputs: Vec<TensorDescription>,
    /// The warnings that were sent as events, again, each text once.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A named tensor without its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TensorDescription {
    /// Its name.
    pub name: String,
    /// The type of its elements (see the module's documentation).
    pub element_type: String,
    /// Its dimensions; -1 is open until run time.
    pub shape: Vec<i64>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Inspection {
    /// What kind of file it is.
    pub kind: FileKind,
    /// What it takes, in its order.
    pub inputs: Vec<TensorDescription>,
    /// What it gives, in its order.
    pub outputs: Vec<TensorDescription>,
    /// How many layers the library makes of it, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_count: Option<u64>,
}

/// The kinds of file that a worker can inspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// An ONNX graph.
    Onnx,
    /// A plan of this backend.
    Plan,
}

/// The outputs of a run are in the requested folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunResult {
    /// A `.npy` file for each output.
    pub outputs: BTreeMap<String, PathBuf>,
    /// Time to load the graph or plan.
    pub load_ms: u64,
    /// Time of the run alone, without reading and writing tensors. One cold run: no benchmark.
    pub run_ms: u64,
    /// Where it ran.
    #[serde(default)]
    pub ran_on: RanOn,
}

/// The samples of a benchmark are at the requested path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BenchResult {
    /// Time to load the graph or plan.
    pub load_us: u64,
    /// How many samples there are.
    pub sample_count: u64,
    /// Time from the first counted start to the last counted end.
    pub elapsed_ns: u64,
    /// Whether the last windows agreed before the time was up.
    pub settled: bool,
    /// The clock: `CLOCK_MONOTONIC`, `CUDA events`.
    pub clock: String,
    /// What is between its two readings, in a sentence.
    pub boundary: String,
    /// Where it ran.
    #[serde(default)]
    pub ran_on: RanOn,
    /// The device's memory that loading and running took, as its driver counts free memory; absent on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory_bytes: Option<u64>,
    /// The median time of the counted runs on the device alone, between two of its events: the samples less copies and
    /// waiting. Absent where it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_p50_ns: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_documented_form() {
        let line =
            RequestLine { id: 7, request: Request::Describe(DescribeRequest { protocol_versions: vec![1] }) };
        let text = r#"{"id":7,"request":{"describe":{"protocol_versions":[1]}}}"#;
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
        let line = EventLine {
            id: Some(7),
            event: Event::Error(Problem::new(ErrorCode::NoDriver, "no driver").needing("a driver")),
        };
        let text =
            r#"{"id":7,"event":{"error":{"code":"no_driver","message":"no driver","needs":["a driver"]}}}"#;
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
        assert_eq!(serde_json::from_str::<EventLine>(text).unwrap(), line);
    }

    #[test]
    fn unknown_fields_and_codes_are_kept_apart_from_errors() {
        let text = r#"{"id":1,"new":{},"event":{"error":{"code":"too_hot","message":"m","colour":"red"}}}"#;
        let line: EventLine = serde_json::from_str(text).unwrap();
        let problem = Problem::new(ErrorCode::Other("too_hot".into()), "m");
        assert_eq!(line, EventLine { id: Some(1), event: Event::Error(problem) });
    }
}

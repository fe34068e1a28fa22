//! Loads graphs and runs them once.

#![expect(clippy::disallowed_methods, reason = "loads and runs are timed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nimctl_backend_kit::inputs::{self, npy_problem};
use nimctl_backend_kit::npy::{ElementType, Tensor};
use nimctl_backend_kit::protocol::{
    Digests, ErrorCode, Execution, FileKind, GraphOptimization, Inspection, Problem, RanOn, RunRequest,
    RunResult, TensorDescription,
};
use nimctl_backend_kit::serve::Events;
use nimctl_backend_kit::verified;
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, TensorElementType, ValueType};

use super::profile::Profile;
use super::{model_by_reference, provider};

/// Describes a graph's inputs and outputs; loading it proves that ONNX Runtime takes it.
pub(crate) fn inspect(environment: &Environment, path: &Path) -> Result<Inspection, Problem> {
    let session = load(environment, &Model::at(path), &Execution::default(), None)?;
    Ok(Inspection {
        kind: FileKind::Onnx,
        inputs: session.inputs().iter().map(describe).collect(),
        outputs: session.outputs().iter().map(describe).collect(),
        layer_count: None,
    })
}

/// A session that stays loaded after a run, for requests that run the same graph on other inputs.
pub(crate) struct Kept {
    session: Session,
    path: PathBuf,
    digests: Digests,
    execution: Execution,
    state: FileState,
}

/// What tells that a file was not written since.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    size_bytes: u64,
    changed_s_ns: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs_err::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            changed_s_ns: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Kept {
    /// Returns whether a request is for what is loaded.
    fn serves(&self, request: &RunRequest) -> bool {
        let RunRequest { path, digests, inputs: _, output_folder: _, execution } = request;
        self.path == *path
            && self.digests == *digests
            && self.execution == *execution
            && FileState::of(path) == Some(self.state)
    }
}

/// Runs a graph once. Its session is left in `kept`, unless the run was recorded; what was there and is another graph's is
/// unloaded first.
pub(crate) fn run(
    environment: &Environment,
    kept: &mut Option<Kept>,
    request: &RunRequest,
    events: &Events,
) -> Result<RunResult, Problem> {
    let RunRequest { path, digests, inputs, output_folder, execution } = request;
    let device = provider::device(execution)?;
    let profile =
        execution.provider.map(|provider| Ok::<_, Problem>((provider, Profile::new()?))).transpose()?;
    events.progress("load", None, None);
    let started = Instant::now();
    let loaded = kept.take().filter(|kept| profile.is_none() && kept.serves(request));
    let state = FileState::of(path);
    let mut session = match loaded {
        Some(Kept { session, .. }) => session,
        None => {
            let model = Model::read(path, digests)?;
            load(environment, &model, execution, profile.as_ref().map(|(_, profile)| profile))?
        }
    };
    let load_ms = milliseconds(started);
    let values: Vec<(String, SessionInputValue<'_>)> =
        read_inputs(&session, inputs)?.into_iter().map(|(name, value)| (name, value.into())).collect();
    events.progress("run", None, None);
    let started = Instant::now();
    let results = session.run(values).map_err(|error| run_problem(path, &error))?;
    let run_ms = milliseconds(started);
    events.progress("write", None, None);
    let mut outputs = BTreeMap::new();
    for (index, (name, value)) in results.iter().enumerate() {
        let tensor = from_value(&value)
            .map_err(|reason| Problem::new(ErrorCode::RunFailed, format!("output `{name}` {reason}")))?;
        // Names of tensors may hold slashes.
        let path = output_folder.join(format!("output-{index}.npy"));
        tensor.write(&path).map_err(|error| npy_problem(&error))?;
        outputs.insert(name.to_owned(), path);
    }
    drop(results);
    let nodes = match profile {
        None => BTreeMap::new(),
        Some((provider, profile)) => profile.nodes(&mut session, provider)?,
    };
    if let (None, Some(state)) = (execution.provider, state) {
        let (path, digests, execution) = (path.clone(), digests.clone(), execution.clone());
        *kept = Some(Kept { session, path, digests, execution, state });
    }
    Ok(RunResult { outputs, load_ms, run_ms, ran_on: RanOn { device, nodes, ..RanOn::default() } })
}

/// ONNX Runtime's name for the folder that external data of a model in memory is relative to.
const FOLDER_OF_WEIGHTS: &str = "session.model_external_initializers_file_folder_path";

/// A model that is loaded: from its file or, where the request says what it must be, from memory.
pub(crate) struct Model<'a> {
    path: &'a Path,
    verified: Option<Verified>,
}

/// The bytes of a model and of the files that its weights are in, as they were when they were hashed. Sessions share them.
struct Verified {
    model: Vec<u8>,
    /// By the names that the model has for them.
    files: Vec<(PathBuf, Arc<[u8]>)>,
}

impl<'a> Model<'a> {
    /// Takes a model as its file is.
    pub(crate) fn at(path: &'a Path) -> Self {
        Self { path, verified: None }
    }

    /// Reads the files of a model, each once, and checks that they are what they must be.
    pub(crate) fn read(path: &'a Path, digests: &Digests) -> Result<Self, Problem> {
        let Some(model) = verified::read_model(path, digests)? else { return Ok(Self::at(path)) };
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::new();
        for external in digests.keys().filter(|other| **other != name) {
            let bytes = verified::read(&folder.join(external), external, digests)?;
            files.extend(bytes.map(|bytes| (external.clone(), bytes.into())));
        }
        let by_reference = name.to_str().and_then(|location| model_by_reference::of_bytes(&model, location));
        let model = match by_reference {
            Some(small) => {
                files.push((name, model.into()));
                small
            }
            None => model,
        };
        Ok(Self { path, verified: Some(Verified { model, files }) })
    }
}

/// Loads a graph for what was asked for; runs are recorded if a profile is given.
pub(crate) fn load(
    environment: &Environment,
    model: &Model<'_>,
    execution: &Execution,
    profile: Option<&Profile>,
) -> Result<Session, Problem> {
    let Model { path, verified } = model;
    if verified.is_none() {
        fs_err::File::open(path).map_err(|error| Problem::new(ErrorCode::Io, error.to_string()))?;
    }
    let set_up = || -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(environment)?;
        if let Some(threads) = execution.threads {
            builder = builder.with_intra_threads(threads as usize)?;
        }
        if let Some(level) = execution.graph_optimization {
            builder = builder.with_optimization_level(level_of(level))?;
            if level == GraphOptimization::Basic {
                // No kernel of integers takes the place of what the graph says, and weights are dequantized once, not at every run.
                builder = builder.with_quant_qdq(false)?;
            }
        }
        if let Some(profile) = profile {
            builder = builder.with_profiling(profile.prefix())?;
        }
        Ok(builder)
    };
    let problem = |error: &ort::Error| {
        if let Some(problem) = out_of_memory(&format!("load {}", path.display()), error.message()) {
            return problem;
        }
        let message = format!("ONNX Runtime could not load {}: {}", path.display(), error.message());
        Problem::new(ErrorCode::InvalidGraph, message)
    };
    let mut builder = set_up().map_err(|error| problem(&error))?;
    provider::register(&mut builder, execution)?;
    let commit = || -> ort::Result<Session> {
        if let Some(Verified { model, files }) = verified {
            // What was not hashed must not be found anywhere, least of all in the current folder: below a file there is nothing.
            let nowhere = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
            let nowhere = nowhere.to_str().ok_or_else(|| ort::Error::new("the path is not UTF-8"))?;
            builder = builder.with_config_entry(FOLDER_OF_WEIGHTS, nowhere)?;
            for (name, bytes) in files {
                builder = builder.with_external_initializer_file_in_memory(name, Arc::clone(bytes))?;
            }
            return builder.commit_from_memory(model);
        }
        // Weights are read where they lie, in the file, in place of being copied several times.
        match (model_by_reference::read(path), path.parent().and_then(Path::to_str)) {
            (Some(model), Some(folder)) => {
                builder.with_config_entry(FOLDER_OF_WEIGHTS, folder)?.commit_from_memory(&model)
            }
            _ => builder.commit_from_file(path),
        }
    };
    commit().map_err(|error| problem(&error))
}

fn level_of(level: GraphOptimization) -> GraphOptimizationLevel {
    match level {
        GraphOptimization::Off => GraphOptimizationLevel::Disable,
        GraphOptimization::Basic => GraphOptimizationLevel::Level1,
        GraphOptimization::Extended => GraphOptimizationLevel::Level2,
        GraphOptimization::All => GraphOptimizationLevel::All,
    }
}

/// Reads the tensors of every input, and checks that they fit.
pub(crate) fn read_inputs(
    session: &Session,
    inputs: &BTreeMap<String, PathBuf>,
) -> Result<Vec<(String, DynValue)>, Problem> {
    let expected: Vec<TensorDescription> = session.inputs().iter().map(describe).collect();
    let mut values = Vec::new();
    for (name, tensor) in &inputs::read_inputs(&expected, inputs)? {
        let value = to_value(tensor).map_err(|error| {
            Problem::new(ErrorCode::RunFailed, format!("input `{name}`: {}", error.message()))
        })?;
        values.push((name.clone(), value));
    }
    Ok(values)
}

/// Says that a run failed.
pub(crate) fn run_problem(path: &Path, error: &ort::Error) -> Problem {
    if let Some(problem) = out_of_memory(&format!("run {}", path.display()), error.message()) {
        return problem;
    }
    let message = format!("ONNX Runtime could not run {}: {}", path.display(), error.message());
    Problem::new(ErrorCode::RunFailed, message)
}

/// Says that memory ran out, if it did: no fault of the graph's, and no news of it. ONNX Runtime has no code for it, and its
/// message has a page of C++ around the fact.
pub(crate) fn out_of_memory(doing: &str, words: &str) -> Option<Problem> {
    let of_gpu = ["CUDA failure 2:", "CUDA error 2:", "out of memory ; GPU="];
    let of_any = ["Failed to allocate memory", "std::bad_alloc", "BFCArena"];
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let place = match (says(&of_gpu), says(&of_any)) {
        (true, _) => "the GPU",
        (false, true) => "the device",
        (false, false) => return None,
    };
    let message = format!(
        "ONNX Runtime could not {doing}: {place} has too little free memory; stop other programs on it, or use smaller shapes"
    );
    Some(Problem::new(ErrorCode::OutOfMemory, message))
}

fn describe(outlet: &Outlet) -> TensorDescription {
    let (element_type, shape) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => (element_name(*ty), shape.to_vec()),
        other => (other.to_string(), Vec::new()),
    };
    TensorDescription { name: outlet.name().into(), element_type, shape }
}

fn element_name(element: TensorElementType) -> String {
    match element {
        TensorElementType::Float16 => "float16".into(),
        TensorElementType::Bfloat16 => "bfloat16".into(),
        TensorElementType::Float32 => "float32".into(),
        TensorElementType::Float64 => "float64".into(),
        TensorElementType::Int8 => "int8".into(),
        TensorElementType::Int16 => "int16".into(),
        TensorElementType::Int32 => "int32".into(),
        TensorElementType::Int64 => "int64".into(),
        TensorElementType::Uint8 => "uint8".into(),
        TensorElementType::Uint16 => "uint16".into(),
        TensorElementType::Uint32 => "uint32".into(),
        TensorElementType::Uint64 => "uint64".into(),
        TensorElementType::Bool => "bool".into(),
        TensorElementType::String => "string".into(),
        other => other.to_string(),
    }
}

/// Calls one generic function with the Rust type of an element type.
macro_rules! with_element {
    ($element_type:expr, $function:ident($($argument:expr),*)) => {
        match $element_type {
            ElementType::Float16 => $function::<half::f16>($($argument),*),
            ElementType::Bfloat16 => $function::<half::bf16>($($argument),*),
            ElementType::Float32 => $function::<f32>($($argument),*),
            ElementType::Float64 => $function::<f64>($($argument),*),
            ElementType::Int8 => $function::<i8>($($argument),*),
            ElementType::Int16 => $function::<i16>($($argument),*),
            ElementType::Int32 => $function::<i32>($($argument),*),
            ElementType::Int64 => $function::<i64>($($argument),*),
            ElementType::Uint8 => $function::<u8>($($argument),*),
            ElementType::Uint16 => $function::<u16>($($argument),*),
            ElementType::Uint32 => $function::<u32>($($argument),*),
            ElementType::Uint64 => $function::<u64>($($argument),*),
            ElementType::Bool => $function::<bool>($($argument),*),
        }
    };
}

fn to_value(tensor: &Tensor) -> ort::Result<DynValue> {
    fn make<T>(tensor: &Tensor) -> ort::Result<DynValue>
    where
        T: nimctl_backend_kit::npy::Element
            + ort::value::PrimitiveTensorElementType
            + std::fmt::Debug
            + 'static,
    {
        let elements = tensor.elements::<T>().unwrap_or_default();
        Ok(ort::value::Tensor::from_array((tensor.shape().to_vec(), elements))?.into_dyn())
    }
    with_element!(tensor.element_type(), make(tensor))
}

fn from_value(value: &DynValue) -> Result<Tensor, String> {
    fn make<T>(value: &DynValue) -> Result<Tensor, String>
    where
        T: nimctl_backend_kit::npy::Element + ort::value::PrimitiveTensorElementType,
    {
        let (shape, elements) =
            value.try_extract_tensor::<T>().map_err(|error| error.message().to_owned())?;
        let shape: Vec<usize> =
            shape.iter().map(|&dimension| usize::try_from(dimension).unwrap_or_default()).collect();
        Tensor::new(&shape, elements).map_err(|error| error.to_string())
    }
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        return Err("is not a tensor".into());
    };
    let name = element_name(*ty);
    let element_type = ElementType::from_name(&name)
        .ok_or_else(|| format!("has type {name}, which tensor files do not support"))?;
    with_element!(element_type, make(value))
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ONNX Runtime 1.31.1 said on an H200 with 300 MiB left.
    #[test]
    fn memory_that_ran_out_is_not_the_graphs_fault() {
        let words = "onnxruntime/core/providers/cuda/cuda_call.cc:146 CUDA failure 2: out of memory ; GPU=0 ; hostname=vm";
        let problem = out_of_memory("run model.onnx", words).unwrap();
        assert_eq!(problem.code, ErrorCode::OutOfMemory);
        let expected = "ONNX Runtime could not run model.onnx: the GPU has too little free memory; stop other programs on it, \
                        or use smaller shapes";
        assert_eq!(problem.message, expected);
        assert!(out_of_memory("run model.onnx", "CUDA failure 700: an illegal memory access").is_none());
    }
}

//! Loads plans. What runs them is a [`Lane`](super::lane::Lane).

use std::ops::Deref;
use std::path::Path;

use nimctl_backend_kit::protocol::{
    Digests, ErrorCode, Execution, FileKind, Inspection, Problem, RuntimeCacheUse, TensorDescription,
};
use nimctl_backend_kit::serve::Events;
use nimctl_backend_kit::verified;
use trtx::{CudaEngine, ExecutionContext, Runtime, TensorIOMode, TensorLocation};

use super::contexts::Contexts;
use super::cuda::Gpu;
use super::loaded::{Loaded, bug, element_type};
use super::{io_problem, memory};

/// A plan on a GPU.
pub(crate) struct Plan {
    pub(crate) inputs: Vec<TensorDescription>,
    pub(crate) outputs: Vec<TensorDescription>,
    layer_count: Option<u64>,
    // In the order in which they must go: contexts need the engine, the engine needs its runtime.
    contexts: Contexts,
    engine: CudaEngine<'static>,
    _runtime: Runtime<'static>,
}

impl Plan {
    /// Loads a plan onto a GPU. A plan is native code: one of a profile comes with its digest, and what was hashed is loaded.
    pub(crate) fn load(
        library: &Loaded,
        _gpu: &Gpu,
        path: &Path,
        digests: &Digests,
        execution: &Execution,
        events: &Events,
    ) -> Result<Self, Problem> {
        library.begin(events);
        memory::when_running();
        let loading = format!("load the plan {}", path.display());
        let failed = |_: trtx::Error| library.failed(ErrorCode::RunFailed, &loading);
        let bytes: Box<dyn Deref<Target = [u8]>> = match verified::read_model(path, digests)? {
            Some(bytes) => Box::new(bytes),
            None => Box::new(map(path)?),
        };
        let mut runtime = Runtime::new(library.logger).map_err(failed)?;
        let mut engine = runtime.deserialize_cuda_engine(&bytes).map_err(failed)?;
        let (inputs, outputs) = tensors(&engine)?;
        let layer_count = engine.nb_layers().ok().and_then(|count| u64::try_from(count).ok());
        let contexts = Contexts::new(&mut engine, execution).map_err(failed)?;
        Ok(Self { inputs, outputs, layer_count, contexts, engine, _runtime: runtime })
    }

    /// Makes a context, which can be used until the plan is dropped; the caller sees to that.
    pub(super) fn context(&mut self, library: &Loaded) -> Result<ExecutionContext<'static>, Problem> {
        self.contexts
            .make(&mut self.engine)
            .map_err(|_| library.failed(ErrorCode::RunFailed, "create an execution context"))
    }

    /// Describes the plan's inputs and outputs.
    pub(crate) fn inspection(self) -> Inspection {
        let Self { inputs, outputs, layer_count, .. } = self;
        Inspection { kind: FileKind::Plan, inputs, outputs, layer_count }
    }

    /// Returns what the runtime cache was good for.
    pub(crate) fn cache_use(&self) -> Option<RuntimeCacheUse> {
        self.contexts.cache_use()
    }

    /// Keeps what was compiled while the plan ran.
    pub(crate) fn keep_cache(&self) -> Result<(), Problem> {
        self.contexts.keep()
    }
}

/// Refuses what this backend has no notion of.
pub(crate) fn check_execution(execution: &Execution) -> Result<(), Problem> {
    use nimctl_backend_kit::protocol::Provider;
    let Execution { provider, device: _, threads, graph_optimization, cuda_graph: _, runtime_cache } =
        execution;
    let refused = [
        (matches!(provider, Some(Provider::Cpu)), "runs plans on a GPU, not on the CPU"),
        (threads.is_some(), "takes no number of threads"),
        (graph_optimization.is_some(), "runs plans, which were optimized when they were built"),
        (
            runtime_cache.is_some() && !Contexts::CAPTURES_ITSELF,
            "takes no runtime cache: it compiles nothing when it loads a plan",
        ),
    ];
    match refused.into_iter().find(|(is_asked, _)| *is_asked) {
        None => Ok(()),
        Some((_, why)) => Err(Problem::new(
            ErrorCode::UnsupportedRequest,
            format!("the {} worker {why}", super::flavour::NAME),
        )),
    }
}

#[expect(unsafe_code, reason = "a mapped file may change under the reader")]
fn map(path: &Path) -> Result<memmap2::Mmap, Problem> {
    let file = fs_err::File::open(path).map_err(|error| io_problem(&error))?;
    // SAFETY: plans lie in the store or a folder made for this run, where nothing is written twice.
    unsafe { memmap2::Mmap::map(file.file()) }.map_err(|error| io_problem(&error))
}

/// Returns the inputs and outputs, in the plan's order.
fn tensors(
    engine: &CudaEngine<'static>,
) -> Result<(Vec<TensorDescription>, Vec<TensorDescription>), Problem> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for index in 0..engine.nb_io_tensors().map_err(|error| bug(&error))? {
        let name = engine.io_tensor_name(index).map_err(|error| bug(&error))?;
        let mode = engine.tensor_io_mode(&name).map_err(|error| bug(&error))?;
        let location = engine.tensor_location(&name).map_err(|error| bug(&error))?;
        if location != TensorLocation::kDEVICE {
            let message = format!(
                "`{name}` is in host memory: shapes depend on its values, which this worker does not support"
            );
            return Err(Problem::new(ErrorCode::RunFailed, message));
        }
        let shape = engine.tensor_shape(&name).map_err(|error| bug(&error))?;
        let data_type = engine.tensor_data_type(&name).map_err(|error| bug(&error))?;
        let tensor = TensorDescription { name, element_type: element_type(data_type).into(), shape };
        match mode {
            TensorIOMode::kINPUT => inputs.push(tensor),
            TensorIOMode::kOUTPUT => outputs.push(tensor),
            TensorIOMode::kNONE => {}
        }
    }
    Ok((inputs, outputs))
}

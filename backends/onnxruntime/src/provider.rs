//! What runs the nodes: the CPU, or the CUDA provider of an ONNX Runtime that was built with it.

use nimctl_backend_kit::driver;
use nimctl_backend_kit::protocol::{ErrorCode, Execution, Problem, Provider, WorkerDevice};
use ort::ep::{CUDA, ExecutionProvider as _};
use ort::session::builder::SessionBuilder;

use super::library::VARIABLE;
use super::session::out_of_memory;

/// Returns the GPU that a request runs on; `None` on the CPU.
///
/// # Errors
/// What was requested but is not available on this machine: there is no fallback.
pub(crate) fn device(execution: &Execution) -> Result<Option<WorkerDevice>, Problem> {
    let Execution { provider, device, threads, graph_optimization: _, cuda_graph, runtime_cache } = execution;
    if *threads == Some(0) {
        return Err(Problem::new(ErrorCode::InvalidRequest, "`threads` is 0"));
    }
    let refuse = |what: &str| Err(Problem::new(ErrorCode::UnsupportedRequest, what));
    if runtime_cache.is_some() {
        return refuse(
            "the onnxruntime worker takes no runtime cache: it compiles nothing when it loads a graph",
        );
    }
    if *cuda_graph == Some(true) {
        return refuse("the onnxruntime worker does not capture CUDA graphs");
    }
    match provider {
        None | Some(Provider::Cpu) if device.is_some() => {
            refuse("a GPU was chosen, but the provider is `cpu`: use the provider `cuda`")
        }
        None | Some(Provider::Cpu) => Ok(None),
        Some(Provider::Cuda) => {
            if !CUDA::is_available().unwrap_or(false) {
                let message = format!(
                    "this ONNX Runtime was built without the CUDA provider: name one that has it in {VARIABLE}, as the \
                     Python wheel onnxruntime-gpu brings it"
                );
                return refuse(&message);
            }
            let mut devices = driver::devices()?;
            let number = device.unwrap_or(0) as usize;
            if number >= devices.len() {
                let message = format!("there is no GPU {number}: this machine has {}", devices.len());
                return Err(Problem::new(ErrorCode::InvalidRequest, message));
            }
            Ok(Some(devices.swap_remove(number)))
        }
    }
}

/// Returns the GPUs that this ONNX Runtime can run on.
pub(crate) fn devices() -> Vec<WorkerDevice> {
    if CUDA::is_available().unwrap_or(false) { driver::devices().unwrap_or_default() } else { Vec::new() }
}

/// Makes a session run on the requested device.
///
/// # Errors
/// The provider can't start, in the library's own words: CUDA's libraries are missing, say.
pub(crate) fn register(builder: &mut SessionBuilder, execution: &Execution) -> Result<(), Problem> {
    if execution.provider != Some(Provider::Cuda) {
        return Ok(());
    }
    let number = execution.device.and_then(|number| i32::try_from(number).ok()).unwrap_or_default();
    // TF32 keeps 10 bits of FP32's 23: what differs would not be the graph's.
    CUDA::default().with_device_id(number).with_tf32(false).register(builder).map_err(|error| {
        let words = error.message().trim();
        // Its error codes don't distinguish an old driver from a missing library; its messages do.
        let code = if words.contains("CUDA failure") { ErrorCode::NoDriver } else { ErrorCode::LibraryMissing };
        if let Some(problem) = out_of_memory("start its CUDA provider", words) {
            return problem;
        }
        Problem::new(code, format!("ONNX Runtime could not start its CUDA provider: {words}"))
            .needing("the libraries of CUDA and cuDNN that this ONNX Runtime was built for, and a driver that supports them")
    })
}

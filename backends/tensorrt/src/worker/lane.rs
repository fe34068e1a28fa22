//! One caller of a plan: a context, a stream, and memory for every tensor.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaEvent, CudaGraph, CudaStream};
use nimctl_backend_kit::npy::{ElementType, Tensor};
use nimctl_backend_kit::protocol::{ErrorCode, Problem, TensorDescription};
use trtx::ExecutionContext;
use trtx::trtx_sys::Dims64;

use super::contexts::Contexts;
use super::cuda::{Buffer, Gpu, failed};
use super::loaded::Loaded;
use super::plan::Plan;

/// A plan with inputs of one shape, ready to run again and again.
pub(crate) struct Lane<'plan> {
    library: &'plan Loaded,
    // In the order in which they must go: a graph and a context use the memory, and the memory was taken in the stream.
    graph: Option<CudaGraph>,
    context: ExecutionContext<'static>,
    inputs: Vec<Buffer>,
    outputs: Vec<Output>,
    began: CudaEvent,
    ended: CudaEvent,
    stream: Arc<CudaStream>,
    /// How long each run was on the device alone.
    pub(crate) device_times_ns: Vec<u64>,
    _plan: PhantomData<&'plan Plan>,
}

struct Output {
    name: String,
    element_type: ElementType,
    shape: Vec<usize>,
    buffer: Buffer,
}

// SAFETY: TensorRT's contexts may be used on any thread, by one at a time, which `&mut self` sees to. What a context shares
// with others of its plan (the engine, the configuration, counted without atomics) is touched only where lanes are made
// and dropped: on one thread, by `Lane::all`'s caller.
#[expect(unsafe_code, reason = "the bindings don't say that a context may move to another thread")]
unsafe impl Send for Lane<'_> {}

impl<'plan> Lane<'plan> {
    /// Creates lanes of a plan, each with its own copy of the inputs. They borrow the plan, so that none outlives it.
    pub(crate) fn all(
        library: &'plan Loaded,
        plan: &'plan mut Plan,
        gpu: &Gpu,
        inputs: &BTreeMap<String, Tensor>,
        count: u32,
        mut on_first: impl FnMut(&mut Self) -> Result<(), Problem>,
    ) -> Result<Vec<Self>, Problem> {
        let mut lanes = Vec::new();
        for index in 0..count {
            let context = plan.context(library)?;
            let mut lane = Self::new(library, context, &plan.outputs, gpu, inputs)?;
            if index == 0 {
                on_first(&mut lane)?;
            }
            lanes.push(lane);
        }
        Ok(lanes)
    }

    fn new(
        library: &'plan Loaded,
        mut context: ExecutionContext<'static>,
        outputs: &[TensorDescription],
        gpu: &Gpu,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<Self, Problem> {
        let stream = gpu.stream()?;
        let mut inputs = Vec::new();
        for (name, tensor) in tensors {
            let shape: Vec<i64> = tensor.shape().iter().map(|&length| length as i64).collect();
            context.set_input_shape(name, &Dims64::from_slice(&shape)).map_err(|_| {
                library.failed(ErrorCode::InvalidRequest, &format!("use input `{name}` of shape {shape:?}"))
            })?;
            let mut buffer = Buffer::new(&stream, tensor.bytes().len())?;
            buffer.fill(tensor.bytes())?;
            bind(library, &mut context, name, buffer.address())?;
            inputs.push(buffer);
        }
        let mut made = Vec::new();
        for output in outputs {
            let (element_type, shape) = form_of(&context, output)?;
            let size_bytes = shape
                .iter()
                .try_fold(element_type.size_bytes(), |size, &length| size.checked_mul(length))
                .ok_or_else(|| {
                    Problem::new(ErrorCode::RunFailed, format!("output `{}` is too large", output.name))
                })?;
            let buffer = Buffer::new(&stream, size_bytes)?;
            bind(library, &mut context, &output.name, buffer.address())?;
            made.push(Output { name: output.name.clone(), element_type, shape, buffer });
        }
        let event = || {
            let event = stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
            event.map_err(|error| failed("create an event", error))
        };
        let (began, ended) = (event()?, event()?);
        Ok(Self {
            library,
            graph: None,
            context,
            inputs,
            outputs: made,
            began,
            ended,
            stream,
            device_times_ns: Vec::new(),
            _plan: PhantomData,
        })
    }

    /// Runs the plan once: copies the inputs to the device, computes, copies the outputs back, and waits for all of it.
    pub(crate) fn run(&mut self) -> Result<(), Problem> {
        let run = self.enqueue_all();
        // Also after a failure: what is in the stream uses the memory.
        let waited = self.stream.synchronize().map_err(|error| failed("run the plan", error));
        run.and(waited)?;
        let milliseconds =
            self.began.elapsed_ms(&self.ended).map_err(|error| failed("read the events of a run", error))?;
        self.device_times_ns.push((f64::from(milliseconds) * 1e6) as u64);
        Ok(())
    }

    /// Captures what a run computes in a CUDA graph, from which later runs are replayed. The plan has run once before:
    /// the first run of a shape does more than later ones. Does nothing where the library captures by itself.
    pub(crate) fn capture(&mut self) -> Result<(), Problem> {
        if Contexts::CAPTURES_ITSELF {
            return Ok(());
        }
        let capturing = |error| failed("capture a CUDA graph", error);
        self.stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(capturing)?;
        let enqueued = self.enqueue();
        // The capture is ended in any case: a stream can't be used while it lasts.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        enqueued?;
        self.graph = graph.map_err(capturing)?;
        if self.graph.is_none() {
            return Err(Problem::new(ErrorCode::RunFailed, "could not capture a CUDA graph: it is empty"));
        }
        Ok(())
    }

    /// Returns what the last run gave.
    pub(crate) fn results(&self) -> Result<Vec<(String, Tensor)>, Problem> {
        self.outputs
            .iter()
            .map(|Output { name, element_type, shape, buffer }| {
                let tensor = Tensor::from_bytes(*element_type, shape, buffer.bytes()?)
                    .map_err(|error| Problem::new(ErrorCode::WorkerBug, error.to_string()))?;
                Ok((name.clone(), tensor))
            })
            .collect()
    }

    fn enqueue_all(&mut self) -> Result<(), Problem> {
        for input in &mut self.inputs {
            input.upload()?;
        }
        let event = |event: &CudaEvent, stream: &CudaStream| {
            event.record(stream).map_err(|error| failed("record an event", error))
        };
        event(&self.began, &self.stream)?;
        match &self.graph {
            Some(graph) => graph.launch().map_err(|error| failed("replay a CUDA graph", error))?,
            None => self.enqueue()?,
        }
        event(&self.ended, &self.stream)?;
        for output in &mut self.outputs {
            output.buffer.download()?;
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "the library trusts the stream and the addresses")]
    fn enqueue(&mut self) -> Result<(), Problem> {
        // SAFETY: the stream is ours and alive. Every tensor was bound in `new` to memory of its size, which this lane keeps;
        // shapes don't change afterwards. The context of the GPU is current on this thread: copying and recording events
        // made it so, and beginning a capture does.
        unsafe { self.context.enqueue_v3(self.stream.cu_stream().cast::<c_void>()) }
            .map_err(|_| self.library.failed(ErrorCode::RunFailed, "run the plan"))
    }
}

#[expect(unsafe_code, reason = "the library trusts the address")]
fn bind(
    library: &Loaded,
    context: &mut ExecutionContext<'static>,
    name: &str,
    address: *mut c_void,
) -> Result<(), Problem> {
    // SAFETY: the address is device memory of the tensor's size, which lives as long as the context: both are the lane's,
    // and the context goes first.
    unsafe { context.set_tensor_address(name, address) }
        .map_err(|_| library.failed(ErrorCode::RunFailed, &format!("bind memory to `{name}`")))
}

/// Returns type and shape of an output, which are settled once all inputs have theirs.
fn form_of(
    context: &ExecutionContext<'static>,
    output: &TensorDescription,
) -> Result<(ElementType, Vec<usize>), Problem> {
    let TensorDescription { name, element_type, shape: _ } = output;
    let failed = |what: &str| Problem::new(ErrorCode::RunFailed, format!("output `{name}` {what}"));
    let known = ElementType::from_name(element_type)
        .ok_or_else(|| failed(&format!("has type {element_type}, which tensor files do not support")))?;
    let dims = context.tensor_shape(name).map_err(|error| failed(&format!("has no shape: {error}")))?;
    let rank = usize::try_from(dims.nbDims)
        .ok()
        .filter(|&rank| rank <= dims.d.len())
        .ok_or_else(|| failed("has no shape: inputs are missing"))?;
    let shape: Option<Vec<usize>> =
        dims.d[..rank].iter().map(|&length| usize::try_from(length).ok()).collect();
    let shape =
        shape.ok_or_else(|| failed("has a data-dependent shape, which this worker does not support"))?;
    Ok((known, shape))
}

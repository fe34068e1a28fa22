//! A GPU to run on: its context, its memory, its streams, through `cudarc`, which opens the driver at run time.
//!
//! [`driver`] has asked for the devices before anything here is called: `cudarc` panics without a driver.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError, PinnedHostSlice};
use nimctl_backend_kit::driver;
use nimctl_backend_kit::protocol::{ErrorCode, Problem, WorkerDevice};

/// A GPU, with the context that everything in this process shares.
pub(crate) struct Gpu {
    pub(crate) device: WorkerDevice,
    context: Arc<CudaContext>,
}

impl Gpu {
    /// Opens the GPU of this number, or the first.
    #[expect(unsafe_code, reason = "cudarc calls it unsafe to do without its events")]
    pub(crate) fn open(number: Option<u32>) -> Result<Self, Problem> {
        let mut devices = driver::devices()?;
        let number = number.unwrap_or(0) as usize;
        if number >= devices.len() {
            return Err(Problem::new(
                ErrorCode::InvalidRequest,
                format!("there is no GPU {number}: this machine has {}", devices.len()),
            ));
        }
        let context = CudaContext::new(number).map_err(|error| failed("open the GPU", error))?;
        // SAFETY: events order work between streams; here every piece of memory belongs to one stream alone.
        unsafe { context.disable_event_tracking() };
        Ok(Self { device: devices.swap_remove(number), context })
    }

    /// Returns how much of its memory nobody uses.
    pub(crate) fn free_bytes(&self) -> Result<u64, Problem> {
        let (free, _) = self.context.mem_get_info().map_err(|error| failed("read the free memory", error))?;
        Ok(free as u64)
    }

    /// Makes a stream: work in it runs in order, beside that of other streams.
    pub(crate) fn stream(&self) -> Result<Arc<CudaStream>, Problem> {
        self.context.new_stream().map_err(|error| failed("create a stream", error))
    }
}

/// Memory of one tensor on the device, with its double on the host, page-locked so that copies need no detour.
pub(crate) struct Buffer {
    host: PinnedHostSlice<u8>,
    device: CudaSlice<u8>,
    stream: Arc<CudaStream>,
    len_bytes: usize,
}

impl Buffer {
    /// Takes memory of this size, in the order of a stream.
    #[expect(unsafe_code, reason = "the memory is not initialized")]
    pub(crate) fn new(stream: &Arc<CudaStream>, len_bytes: usize) -> Result<Self, Problem> {
        // An empty tensor has an address too.
        let len = len_bytes.max(1);
        // SAFETY: every byte is written before it is read: inputs by `fill`, outputs by the plan, whose sizes these are.
        let device = unsafe { stream.alloc::<u8>(len) };
        let device =
            device.map_err(|error| failed(&format!("allocate {len} bytes of device memory"), error))?;
        // SAFETY: as above. Not write-combined, since outputs are read.
        let host = unsafe { stream.context().alloc_pinned_with_flags::<u8>(len, 0) };
        let host =
            host.map_err(|error| failed(&format!("allocate {len} bytes of page-locked memory"), error))?;
        Ok(Self { host, device, stream: Arc::clone(stream), len_bytes })
    }

    /// Returns where it is on the device.
    pub(crate) fn address(&self) -> *mut std::ffi::c_void {
        use cudarc::driver::DevicePtr as _;
        let (address, _no_event) = self.device.device_ptr(&self.stream);
        address as *mut std::ffi::c_void
    }

    /// Sets the double on the host; `bytes` is as long as the tensor.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let host = self.host.as_mut_slice().map_err(|error| failed("write page-locked memory", error))?;
        host[..self.len_bytes].copy_from_slice(bytes);
        Ok(())
    }

    /// Returns what the double on the host has, once the stream was waited for.
    pub(crate) fn bytes(&self) -> Result<&[u8], Problem> {
        let host = self.host.as_slice().map_err(|error| failed("read page-locked memory", error))?;
        Ok(&host[..self.len_bytes])
    }

    /// Puts a copy from host to device into the stream.
    pub(crate) fn upload(&mut self) -> Result<(), Problem> {
        let Self { host, device, stream, len_bytes: _ } = self;
        stream.memcpy_htod(host, device).map_err(|error| failed("copy an input to the device", error))
    }

    /// Puts a copy from device to host into the stream.
    pub(crate) fn download(&mut self) -> Result<(), Problem> {
        let Self { host, device, stream, len_bytes: _ } = self;
        stream.memcpy_dtoh(device, host).map_err(|error| failed("copy an output from the device", error))
    }
}

/// Says what CUDA could not do, in its own words.
pub(crate) fn failed(doing: &str, error: DriverError) -> Problem {
    let text = |words: Result<&std::ffi::CStr, DriverError>| {
        words.map(|words| words.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let name = text(error.error_name());
    let message = format!("could not {doing}: {} ({name})", text(error.error_string()));
    let code = if name == "CUDA_ERROR_OUT_OF_MEMORY" { ErrorCode::OutOfMemory } else { ErrorCode::RunFailed };
    Problem::new(code, message)
}

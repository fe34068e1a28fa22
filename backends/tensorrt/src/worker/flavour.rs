//! What differs between TensorRT for RTX and TensorRT.

use nimctl_backend_kit::compute_capability::ComputeCapability;
use nimctl_backend_kit::protocol::{ErrorCode, Problem, WorkerDevice};

use super::list;

#[cfg(feature = "tensorrt-rtx")]
mod values {
    use super::ComputeCapability;

    pub(crate) const NAME: &str = "tensorrt-rtx";
    pub(crate) const LIBRARY_NAME: &str = "TensorRT for RTX";
    pub(crate) const LIBRARY_VARIABLE: &str = "NIMCTL_TENSORRT_RTX_LIB";
    pub(crate) const LIBRARY_FILES: [&str; 2] = ["libtensorrt_rtx.so.1", "libtensorrt_rtx.so"];
    pub(crate) const PARSER_FILES: [&str; 2] =
        ["libtensorrt_onnxparser_rtx.so.1", "libtensorrt_onnxparser_rtx.so"];
    pub(crate) const FILE_NAME_PARTS: [&str; 2] = ["libtensorrt_rtx", "libtensorrt_onnxparser_rtx"];
    pub(crate) const HOW_TO_GET: &str = "`nimctl toolchain install tensorrt-rtx`, or NIMCTL_TENSORRT_RTX_LIB set to the \
                                         folder of libtensorrt_rtx.so.1 and libtensorrt_onnxparser_rtx.so.1";
    pub(crate) const NEEDS_GPU_TO_BUILD: bool = false;
    /// The library keeps tables that the first build makes, among the blocks of that build.
    pub(crate) const ONE_BUILD_PER_PROCESS: bool = true;
    /// 1: builds allocate with rising addresses, each in a process of its own. 2: threads take turns.
    /// 3: and a build begins at the same address.
    pub(crate) const BUILD_REVISION: u32 = 3;
    pub(crate) const PORTABLE_PLANS: bool = true;
    pub(crate) const COMPUTE_CAPABILITIES: [ComputeCapability; 6] = [
        ComputeCapability::new(7, 5),
        ComputeCapability::new(8, 0),
        ComputeCapability::new(8, 6),
        ComputeCapability::new(8, 9),
        ComputeCapability::new(12, 0),
        ComputeCapability::new(12, 1),
    ];
}

#[cfg(not(feature = "tensorrt-rtx"))]
mod values {
    use super::ComputeCapability;

    pub(crate) const NAME: &str = "tensorrt";
    pub(crate) const LIBRARY_NAME: &str = "TensorRT";
    pub(crate) const LIBRARY_VARIABLE: &str = "NIMCTL_TENSORRT_LIB";
    pub(crate) const LIBRARY_FILES: [&str; 2] = ["libnvinfer.so.11", "libnvinfer.so"];
    pub(crate) const PARSER_FILES: [&str; 2] = ["libnvonnxparser.so.11", "libnvonnxparser.so"];
    pub(crate) const FILE_NAME_PARTS: [&str; 2] = ["libnvinfer", "libnvonnxparser"];
    pub(crate) const HOW_TO_GET: &str = "TensorRT 11 from NVIDIA, with NIMCTL_TENSORRT_LIB set to the folder of \
                                         libnvinfer.so.11 and libnvonnxparser.so.11";
    pub(crate) const NEEDS_GPU_TO_BUILD: bool = true;
    pub(crate) const ONE_BUILD_PER_PROCESS: bool = false;
    pub(crate) const BUILD_REVISION: u32 = 0;
    pub(crate) const PORTABLE_PLANS: bool = false;
    pub(crate) const COMPUTE_CAPABILITIES: [ComputeCapability; 0] = [];
}

pub(crate) use values::*;

/// Checks that plans can be built for these compute capabilities, given the devices of this machine.
pub(crate) fn check_targets(targets: &[ComputeCapability], devices: &[WorkerDevice]) -> Result<(), Problem> {
    let unsupported = |message: String| Err(Problem::new(ErrorCode::UnsupportedTarget, message));
    if NEEDS_GPU_TO_BUILD {
        // TensorRT builds on and for device 0.
        let Some(device) = devices.first() else {
            return Err(Problem::new(ErrorCode::NoDriver, "no GPU to build on"));
        };
        if targets.iter().any(|target| *target != device.compute_capability) {
            return unsupported(format!(
                "{LIBRARY_NAME} builds for the GPU it runs on, here {} (compute capability {}), not for {}; build on \
                 such a GPU, or use the tensorrt-rtx backend where it can build for it",
                device.name,
                device.compute_capability,
                list(targets)
            ));
        }
        return Ok(());
    }
    let wrong: Vec<ComputeCapability> =
        targets.iter().copied().filter(|target| !COMPUTE_CAPABILITIES.contains(target)).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    unsupported(format!(
        "{LIBRARY_NAME} cannot build for compute capability {}, only for {}; use the tensorrt backend on such a GPU, \
         or a generic onnxruntime profile",
        list(&wrong),
        list(&COMPUTE_CAPABILITIES)
    ))
}

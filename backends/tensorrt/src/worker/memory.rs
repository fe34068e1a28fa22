//! Where a build allocates: TensorRT for RTX gives equal plans only with rising addresses. TensorRT's plans differ from build to
//! build whatever the addresses, for it times kernels.

use nimctl_backend_kit::protocol::Problem;

#[cfg(feature = "tensorrt-rtx")]
pub(crate) fn while_building<T>(build: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    use nimctl_backend_kit::protocol::ErrorCode;
    use nimctl_backend_tensorrt::rising::{self, NotRising};
    use nimctl_backend_tensorrt::turns;

    rising::during(|| turns::during(build)).unwrap_or_else(|problem| {
        Err(match problem {
            NotRising::NoAddressSpace => Problem::new(
                ErrorCode::BuildFailed,
                "the address space of the process is too small (`ulimit -v`) for a build that gives the same plan every time",
            )
            .needing("a process without a limit on its address space: `ulimit -v unlimited`"),
            NotRising::NotBound => Problem::new(
                ErrorCode::WorkerBug,
                "the library doesn't use the worker's memory allocator, so its plans would differ from build to build",
            ),
        })
    })
}

/// A plan is going to run: what it allocates needs no order.
#[cfg(feature = "tensorrt-rtx")]
pub(crate) fn when_running() {
    nimctl_backend_tensorrt::rising::stop();
}

#[cfg(not(feature = "tensorrt-rtx"))]
pub(crate) fn while_building<T>(build: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    build()
}

#[cfg(not(feature = "tensorrt-rtx"))]
pub(crate) fn when_running() {}

//! The `tensorrt-rtx` worker: plans built ahead of time, without a GPU.

mod worker;

#[global_allocator]
static ALLOCATOR: nimctl_backend_tensorrt::rising::Apart = nimctl_backend_tensorrt::rising::Apart;

fn main() -> std::process::ExitCode {
    worker::main()
}

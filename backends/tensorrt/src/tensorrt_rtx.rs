//! The `tensorrt-rtx` worker: plans built ahead of time, without a GPU.

mod worker;

fn main() -> std::process::ExitCode {
    worker::main()
}

//! The `tensorrt` worker: plans tuned on the GPU of this machine.

mod worker;

fn main() -> std::process::ExitCode {
    worker::main()
}

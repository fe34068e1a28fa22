//! Backends are processes, because inference libraries crash, leak, exclude each other and print where they like.
//!
//! * [`protocol`]: what host and worker say to each other; the public interface for backends that others write.
//! * [`discover`]: where workers are found.
//! * [`host`]: starts a worker, sends it requests, survives whatever it does. [`error`] says what it did.
//! * [`serve`]: the loop of a worker written in Rust.
//! * [`timed_loop`]: runs against the clock, for every worker that answers `bench`.
//! * [`inputs`]: tensors that are fed to a graph, held against what it takes.
//! * [`npy`]: tensors as files.
//! * [`onnxruntime_profile`]: what ran each node, as ONNX Runtime tells it.

mod conversation;
pub mod discover;
pub mod error;
pub mod host;
pub mod inputs;
mod lines;
pub mod npy;
pub mod onnxruntime_profile;
mod process;
pub mod protocol;
pub mod serve;
pub mod timed_loop;

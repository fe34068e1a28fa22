//! Backends are processes, because inference libraries crash, leak, exclude each other and print where they like.
//!
//! This is the host's side. The worker's side is a package of its own, [`nimctl_backend_kit`], and so is every worker.
//!
//! * [`protocol`]: what host and worker say to each other; the public interface for backends that others write.
//! * [`discover`]: where workers are found.
//! * [`host`]: starts a worker, sends it requests, survives whatever it does. [`error`] says what it did.
//! * [`npy`]: tensors as files.

mod command;
mod conversation;
pub mod discover;
pub mod error;
pub mod host;
pub mod npy;
mod process;

use nimctl_backend_kit::lines;
pub use nimctl_backend_kit::protocol;

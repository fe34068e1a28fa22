//! The kit that a backend for `nimctl` is written with.
//!
//! A backend is a program named `nimctl-backend-<name>`, a *worker*: it reads requests as lines of JSON and writes events
//! as lines of JSON ([`protocol`]). Implement [`Backend`] and pass it to [`serve()`]; the kit reads the requests, checks
//! them, writes the events, and turns a panic into an error of the one request. Only [`Backend::describe`] is required.
//!
//! This is a complete backend (`examples/nimctl-backend-echo.rs`; `cargo build --example nimctl-backend-echo` builds it):
//!
//! ```no_run
#![doc = include_str!("../examples/nimctl-backend-echo.rs")]
//! ```
//!
//! | module | contents |
//! | --- | --- |
//! | [`protocol`] | every request, event, field and error code, and the rules for growing; the specification for other languages |
//! | [`mod@serve`] | the loop of a worker |
//! | [`npy`], [`inputs`] | tensors as files, and the check that they fit a graph |
//! | [`timed_loop`], [`stop_rule`] | what `bench` measures, and when it stops |
//! | [`driver`] | the GPUs that the CUDA driver reports (feature `driver`) |
//! | [`atomic_file`], [`direct_file`] | files that are whole or absent; plans that bypass the page cache |
//! | [`verified`] | files that are loaded only if they are what they must be |
//! | [`compute_capability`], [`shape_range`], [`execution`] | words of the protocol that recipes use too |
//! | [`lines`] | lines of bounded length, for both ends |
//!
//! With the feature `schema` the types of the protocol have JSON Schemas.

pub mod atomic_file;
pub mod compute_capability;
pub mod direct_file;
#[cfg(feature = "driver")]
pub mod driver;
pub mod execution;
pub mod inputs;
pub mod lines;
pub mod npy;
pub mod protocol;
pub mod read_file;
pub mod serve;
pub mod shape_range;
pub mod stop_rule;
pub mod timed_loop;
pub mod verified;

pub use serve::{Backend, Events, serve};

//! Workers: the host against one that misbehaves, and one contract for every worker, the real ones included.
//!
//! What needs real workers is in `real`, and only there; see its documentation for how it is chosen.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, wait for them and are told where things are"
)]

mod contract;
#[path = "../registry/docker.rs"]
#[expect(dead_code, reason = "the tests of registries use more of it")]
mod docker;
#[path = "../cli/documented.rs"]
mod documented;
mod gpu_watch;
mod graph;
#[path = "../home/mod.rs"]
mod home;
mod misbehaviour;
#[path = "../nvml/stand_in.rs"]
mod nvml_stand_in;
mod quantized_graphs;
mod real;
mod report;
#[path = "../cli/small_models.rs"]
#[expect(dead_code, reason = "the tests of the command line use more of it")]
mod small_models;
mod support;

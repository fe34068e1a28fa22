//! Builds on the nodes of a fleet: a real Slurm cluster of several nodes on this machine, started by each test. Compilers are played
//! by the scripted worker of `tests/workers`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, wait for them and are told where things are"
)]

mod builds;
mod cluster;
mod control_plane;
mod deaths;
#[path = "../registry/docker.rs"]
mod docker;
mod executed;
mod failures;
#[path = "../workers/graph.rs"]
#[expect(dead_code, reason = "the tests of workers use more of it")]
mod graph;
#[path = "../home/mod.rs"]
#[expect(dead_code, reason = "the tests of the command line use more of it")]
mod home;
mod kills;
#[path = "../nvml/stand_in.rs"]
mod nvml_stand_in;
mod pod_failures;
mod pods;
#[path = "../cli/recipes.rs"]
#[expect(dead_code, reason = "the tests of the command line use more of it")]
mod recipes;
mod scale;
mod support;

//! The command line as users meet it: text, exit codes, and what is left on disk.
//!
//! Hermetic: a home of its own for each test (`tests/home`), an empty environment, no network. What is printed is compared
//! whole, as snapshots. Compilers are played by the scripted worker of `tests/workers`, where real ones are tested; the GPUs' driver
//! by `tests/nvml/stand_in.c`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, wait for them and are told where things are"
)]

mod attest;
mod builds;
mod check;
mod destinations;
mod distribution;
mod doctor;
mod documented;
mod formats;
#[path = "../workers/graph.rs"]
#[expect(dead_code, reason = "the tests of workers use more of it")]
mod graph;
mod graphs;
mod help;
#[path = "../home/mod.rs"]
#[expect(dead_code, reason = "the tests of real backends use more of it")]
mod home;
mod hostile_onnx;
mod hostile_releases;
mod ids;
mod init;
mod inspect;
mod interruption;
mod invalid_recipes;
mod limits;
mod lower;
mod manifests;
mod nim_commands;
#[path = "../nvml/stand_in.rs"]
mod nvml_stand_in;
mod publishing;
mod real_hosts;
mod recipes;
mod reproduction;
mod sbom;
mod selection;
mod signing;
mod signing_peer;
mod signing_refusals;
mod signing_secrets;
mod small_models;
mod store_care;
mod store_kills;
mod toolchains;
mod trust;
mod trust_attestations;
mod trust_forged;
mod trust_gate;
mod trust_rollback;
mod workers;
mod wrong_names;

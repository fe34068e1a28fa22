//! The command line as users meet it: text, exit codes, and what is left on disk.
//!
//! Hermetic: a folder of its own for data, store and recipes, an empty environment, no network. Compilers are played
//! by the scripted worker of `tests/workers`, where real ones are tested; the GPUs' driver by `tests/nvml/stand_in.c`.

mod builds;
mod doctor;
#[path = "../workers/graph.rs"]
#[expect(dead_code, reason = "the tests of workers use more of it")]
mod graph;
mod graphs;
mod help;
mod hostile_onnx;
mod ids;
mod inspect;
mod interruption;
mod invalid_recipes;
mod lower;
mod manifests;
mod selection;
mod small_models;
mod support;
mod toolchains;
mod workers;

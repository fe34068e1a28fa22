//! Tests that need real backends.
//!
//! Their executables are looked for in the folder that `NIMCTL_TEST_BACKENDS` names, and their libraries by the usual
//! `NIMCTL_ONNXRUNTIME_LIB` and `NIMCTL_TENSORRT_RTX_LIB`. `cargo xtask test` builds and installs all of them, sets the
//! variables, and runs nextest's profile `real-backends`.
//!
//! `cargo nextest run` alone leaves these tests out by their names, and counts them as skipped (`.config/nextest.toml`).
//! `cargo test` has no such filter: without the variable they fail, unless they are left out with `-- --skip real::`.
//! None of them returns early: a test that passed has tested something.

mod around;
mod batches;
mod bench;
mod check;
mod compared;
mod contract;
mod executed_plans;
mod gpu_stand_in;
mod init;
mod mixed_precision;
mod once;
mod onnxruntime;
mod plans_on_a_gpu;
mod precision_check;
mod quantize;
mod quantized_attention;
mod quantized_convolutions;
mod quantized_forms;
mod quantized_nvfp4;
mod quantized_profiles;
mod release;
mod reproduction;
mod same_bytes;
mod signed_release;
mod tensorrt;
mod tensorrt_rtx;
mod towers;
mod unanswered;
mod validation;
mod validation_inputs;
mod validation_pulled;

use crate::home::Home;
use crate::support::real_folder;

/// Makes a home whose backends are the real ones; they find their libraries as on this machine.
pub(crate) fn home() -> Home {
    Home::new().with_environment_of_this_process().with("NIMCTL_BACKENDS", real_folder())
}

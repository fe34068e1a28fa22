//! Workers: the host against one that misbehaves, and one contract for every worker, the real ones included.
//!
//! Real workers are looked for in the folder that `NIMCTL_TEST_BACKENDS` names, and their libraries by the usual
//! `NIMCTL_ONNXRUNTIME_LIB` and `NIMCTL_TENSORRT_RTX_LIB`; `cargo xtask test` sets all three. Without them the tests
//! of real workers fail, unless `NIMCTL_TEST_SKIP_REAL_BACKENDS=1`.

mod bench;
mod contract;
mod executed_plans;
mod gpu_stand_in;
mod graph;
mod misbehaviour;
mod mixed_precision;
mod onnxruntime;
mod plans_on_a_gpu;
mod release;
mod report;
mod support;
mod tensorrt;
mod tensorrt_rtx;
mod validation;
mod validation_inputs;

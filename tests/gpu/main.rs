//! What only a GPU can show. `cargo xtask test-gpu` runs this; nothing else does, and without a GPU every test fails.
//!
//! Workers and libraries are found as by `tests/workers`. TensorRT, and an ONNX Runtime for CUDA, are the user's to bring
//! (`NIMCTL_TENSORRT_LIB`; `NIMCTL_ONNXRUNTIME_CUDA_LIB`); without them their tests fail, unless
//! `NIMCTL_TEST_WITHOUT_TENSORRT=1` or `NIMCTL_TEST_WITHOUT_CUDA_PROVIDER=1` says that there are none.
//!
//! Built, they run on a machine without the repository too (`cargo xtask gpu-kit`): `NIMCTL_TEST_NIMCTL` names the `nimctl` to
//! test, `NIMCTL_TEST_ROOT` the folder that holds `recipes`.
//!
//! TensorRT for RTX knows no GPU of compute capability 9.0 or 10.0: on one of those its tests check that it is refused.

#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, wait for them and are told where things are"
)]

#[path = "../workers/graph.rs"]
#[expect(dead_code, reason = "shared with the tests of workers")]
mod graph;
mod nvidia;
mod plans;
mod provider;
mod quantized;
#[path = "../workers/support.rs"]
#[expect(dead_code, reason = "shared with the tests of workers")]
mod support;
mod validated;

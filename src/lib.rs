//! nimctl

pub mod atomic_file;
pub mod canonical;
pub mod compute_capability;
pub mod digest;
pub mod error_kind;
pub mod onnx;
pub mod shape_range;
pub mod synth;
pub mod toolchain;
pub mod worker;

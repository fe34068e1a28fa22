//! nimctl

pub mod atomic_file;
pub mod canonical;
pub mod compute_capability;
pub mod digest;
pub mod digest_cache;
pub mod error_kind;
pub mod gpu;
pub mod manifest;
pub mod onnx;
pub mod ops;
pub mod passport;
pub mod plan;
pub mod profile;
pub mod recipe;
pub mod shape_range;
pub mod source;
pub mod store;
pub mod synth;
pub mod toolchain;
pub mod worker;
pub mod worklist;

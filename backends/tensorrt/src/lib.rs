//! What the workers are built of that needs no TensorRT to compile.

#[cfg(any(feature = "tensorrt-rtx", test))]
pub mod rising;

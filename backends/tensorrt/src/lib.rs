//! What the workers are built of that needs no TensorRT to compile: what makes TensorRT for RTX give equal plans for equal
//! requests.

#[cfg(any(feature = "tensorrt-rtx", test))]
pub mod rising;
#[cfg(any(feature = "tensorrt-rtx", test))]
pub mod turns;

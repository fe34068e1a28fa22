//! The weights of a lowered graph, written as they were or rounded.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::convert::{Conversion, write_rounded};
use super::emulate::Rounding;
use crate::onnx::proto::TensorProto;
use crate::onnx::weights::{header, payload};
use crate::onnx::write::Initializer;
use crate::onnx::{ElementType, OnnxFile};

/// The bits of the largest rounding error of a weight, once it was produced.
pub(super) type LargestError = Arc<AtomicU32>;

/// Returns a weight of `full_bytes`, rounded, and where its largest error will be.
pub(super) fn rounded<'a>(
    file: &'a OnnxFile,
    tensor: &'a TensorProto,
    name: &str,
    conversion: Conversion,
    full_bytes: u64,
) -> (Initializer<'a>, LargestError) {
    let largest_error = LargestError::default();
    let error = Arc::clone(&largest_error);
    let produce = move |writer: &mut dyn io::Write| {
        let release = |part: &[u8]| file.release(part);
        let largest = write_rounded(&payload(file, tensor)?, conversion, writer, &release)?;
        error.store(largest.to_bits(), Ordering::Relaxed);
        Ok(())
    };
    let (element_type, size_bytes) = match conversion.rounding {
        Rounding::Real => (conversion.precision.element_type(), full_bytes / 2),
        Rounding::Emulated => (ElementType::Float, full_bytes),
    };
    let header = header(tensor, name, element_type.to_onnx());
    (Initializer { header, size_bytes, produce: Box::new(produce) }, largest_error)
}

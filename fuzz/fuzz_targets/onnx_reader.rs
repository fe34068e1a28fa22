//! Any bytes as a model: opened, counted, every tensor's payload asked for, and lowered to FP16 and quantized to INT8, in a
//! newer operator set, if they are few. What has been written must be a model again.
//!
//! Errors are fine, and of the input's kind. Panics, overflows of the stack, and memory out of proportion are not.

#![no_main]

use std::alloc::System;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use cap::Cap;
use libfuzzer_sys::fuzz_target;
use nimctl::backend::facts_of;
use nimctl::error_kind::ErrorKind;
use nimctl::onnx::lower::lower;
use nimctl::onnx::quantize::{Method, QuantizationOptions, QuantizedPrecision, Statistics, quantize};
use nimctl::onnx::proto::{AttributeProto, GraphProto, NodeProto};
use nimctl::onnx::{LoweringOptions, OnnxError, OnnxFile, Precision, Summary, graph_digest};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// What is needed whatever the input is: buffers of writers, the text of an error.
const FIXED_BYTES: usize = 4 << 20;
/// Most live memory for a byte of input. The densest input is a list of empty messages: each takes two bytes there and
/// a whole struct here, of which an attribute is the largest, in a vector with up to as many again in reserve. So a
/// byte is at most one attribute; lowering has copies of the graph. A length that an input merely claims is
/// allowed nothing.
const BYTES_PER_BYTE: usize = size_of::<AttributeProto>() * 4;
/// Lowering writes files: for small inputs only.
const MOST_BYTES_TO_LOWER: usize = 4096;

/// A folder with an external file of 64 bytes; `TMPDIR` says where.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::Builder::new().prefix("nimctl-fuzz-").tempdir().expect("a writable TMPDIR").keep();
    nimctl::files::atomic_file::write(&folder.join("w.bin"), &[0x3c; 64]).expect("a writable TMPDIR");
    folder
});

/// A backtrace takes more memory than an input is allowed; without any, the process would hang in the panic.
static PANICS_ARE_TOLD: LazyLock<()> = LazyLock::new(|| {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        MEMORY.set_limit(usize::MAX).expect("above what is allocated");
        hook(panic);
    }));
});

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&FOLDER);
    LazyLock::force(&PANICS_ARE_TOLD);
    let allowed = FIXED_BYTES + data.len() * BYTES_PER_BYTE;
    MEMORY.set_limit(MEMORY.allocated() + allowed).expect("above what is allocated");
    let read = read(data);
    MEMORY.set_limit(usize::MAX).expect("above what is allocated");
    if let Err(error) = read {
        assert_eq!(error.kind(), ErrorKind::Input, "{error}");
        assert!(!error.to_string().is_empty());
    }
});

fn read(data: &[u8]) -> Result<(), OnnxError> {
    let file = OnnxFile::from_bytes(&FOLDER.join("model.onnx"), Bytes::copy_from_slice(data))?;
    let summary = Summary::of(&file);
    let digest = graph_digest(&file).expect("mapped files don't fail");
    assert_eq!(digest.files.len(), 1 + file.external_files().len());
    graph(&file, file.model().graph.as_ref().expect("an open model has a graph"));
    file.model().functions.iter().for_each(|function| nodes(&file, &function.node));
    if data.len() > MOST_BYTES_TO_LOWER {
        return Ok(());
    }
    let options = LoweringOptions::new(Precision::Fp16, facts_of("onnxruntime").fp32_inside);
    let destination = FOLDER.join("lowered.onnx");
    lower(&file, &options, &destination)?;
    let lowered = OnnxFile::open(&destination).expect("what was lowered opens");
    assert_eq!(lowered.outputs().len(), file.outputs().len());
    if summary.is_ok() {
        Summary::of(&lowered).expect("a whole model is whole when it has been lowered");
    }
    let options = QuantizationOptions::new(QuantizedPrecision::Int8, Precision::Fp32);
    let destination = FOLDER.join("quantized.onnx");
    quantize(&file, &options, Method::MAX, &Statistics::default(), &destination)?;
    let quantized = OnnxFile::open(&destination).expect("what was quantized opens");
    assert_eq!(quantized.outputs().len(), file.outputs().len());
    Ok(())
}

fn graph(file: &OnnxFile, graph: &GraphProto) {
    for tensor in &graph.initializer {
        let _ = file.tensor_bytes(tensor);
    }
    for sparse in &graph.sparse_initializer {
        for tensor in sparse.values.iter().chain(&sparse.indices) {
            let _ = file.tensor_bytes(tensor);
        }
    }
    nodes(file, &graph.node);
}

fn nodes(file: &OnnxFile, nodes: &[NodeProto]) {
    for attribute in nodes.iter().flat_map(|node| &node.attribute) {
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            let _ = file.tensor_bytes(tensor);
        }
        attribute.g.as_deref().into_iter().chain(&attribute.graphs).for_each(|inner| graph(file, inner));
    }
}

//! Reads, writes and lowers ONNX graphs.

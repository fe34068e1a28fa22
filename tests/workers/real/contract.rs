//! The contract of every worker, kept by the real ones.

use crate::contract::check_all;
use crate::support::{example, real};

#[test]
fn example_of_the_kit() {
    check_all(&example("echo"));
}

#[test]
fn onnxruntime_worker() {
    check_all(&real("onnxruntime"));
}

#[test]
fn tensorrt_rtx_worker() {
    check_all(&real("tensorrt-rtx"));
}

#[test]
fn tensorrt_worker() {
    check_all(&real("tensorrt"));
}

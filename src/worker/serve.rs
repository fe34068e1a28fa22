//! The loop of a worker written in Rust.

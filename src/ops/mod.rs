//! Operations: one verb a module. They touch disk and processes, and print nothing.

pub mod build;
pub mod hash_profile;
pub mod inspect;
pub mod lower;
pub mod mixed_precision;
pub mod synth;

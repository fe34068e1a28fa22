//! Operations: one verb a module. They touch disk and processes, and print nothing.

pub mod build;
pub mod hash_profile;
pub mod inspect;
pub mod synth;

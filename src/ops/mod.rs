//! Operations: one verb a module. They touch disk and processes, and print nothing.

pub mod bench;
pub mod build;
pub mod hash_profile;
pub mod import_manifest;
pub mod inspect;
pub mod lower;
pub mod mixed_precision;
pub mod read_manifest;
pub mod release;
pub mod report;
mod runners;
pub mod samples;
pub mod select;
pub mod synth;
pub mod validate;
pub mod verify;

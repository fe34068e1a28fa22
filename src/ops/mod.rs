//! Operations: one verb a module. They touch disk and processes, and print nothing.
//!
//! Every verb on a recipe goes one way: [`resolve`] finds out what there is and what must run, [`schedule`] runs it,
//! [`assemble`] puts the records together. [`build`] is the three and a manifest; the others resolve, and take from the store
//! what was built.

pub mod assemble;
pub mod attest;
pub mod bench;
pub mod build;
pub mod check;
pub mod check_recipe;
pub mod error;
pub mod event;
pub mod explain;
pub mod fleet;
pub mod hash_profile;
pub mod import_manifest;
pub mod init;
pub mod inspect;
pub mod lower;
mod lowering_warnings;
pub mod mirror;
pub mod mixed_precision;
mod not_run_here;
pub mod precision_check;
pub mod publish;
pub mod pull;
pub mod quantize;
pub mod read_manifest;
pub mod release;
pub mod report;
pub mod reproduce;
pub mod resolve;
mod run_identity;
mod runners;
mod runtime_identity;
pub mod samples;
pub mod sbom;
pub mod schedule;
mod search_journal;
pub mod select;
pub mod sign;
pub mod store_care;
pub mod synth;
mod to_lower;
pub mod trust;
pub mod validate;
pub mod verify;
pub mod verify_signature;
mod worker_build;
pub mod workspace;

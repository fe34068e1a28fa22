//! One file per command: it parses arguments and prints results; the work is done in `nimctl::ops`. `precision` is a part of the
//! report of `build`.

mod admission;
mod attest;
mod backend;
mod bench;
mod build;
mod bundle;
mod check;
mod create_model_store;
mod doctor;
mod download_to_cache;
mod explain;
mod fleet;
mod hash_profile;
mod init;
mod inspect;
pub(crate) mod inspect_plan;
mod list_model_profiles;
mod lower;
mod man_pages;
mod manifest;
mod mirror;
mod model;
mod places;
mod precision;
mod publish;
mod pull;
mod pull_manifest;
mod quantize;
mod recipe;
mod release;
mod report;
mod reproduce;
mod sbom;
mod schema;
mod select;
mod sign;
mod store;
mod toolchain;
mod trust;
mod trusted;
mod validate;
mod verify;
mod verify_signature;
mod verify_trust;
mod work;

use std::process::ExitCode;

use clap::CommandFactory as _;
use nimctl::worker::host::Cancel;

use crate::cli::{Arguments, Command};
use crate::exit::{Failure, done};
use crate::output::Output;

/// Runs the requested command.
pub(crate) fn run(arguments: Arguments, output: &Output, cancel: &Cancel) -> Result<ExitCode, Failure> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Init(arguments) => init::run(&arguments, &global, output, cancel),
        Command::Check(arguments) => check::run(&arguments, &global, output, cancel),
        Command::Build(arguments) => build::run(&arguments, &global, output, cancel),
        Command::Recipe(arguments) => recipe::run(&arguments, output),
        Command::Fleet(arguments) => fleet::run(&arguments, &global, output, cancel),
        Command::Work(arguments) => work::run(&arguments, &global, output, cancel),
        Command::Bench(arguments) => bench::run(&arguments, &global, output, cancel),
        Command::Release(arguments) => release::run(&arguments, &global, output, cancel),
        Command::Report(arguments) => report::run(&arguments, &global, output, cancel),
        Command::Reproduce(arguments) => reproduce::run(&arguments, &global, output, cancel),
        Command::Sbom(arguments) => sbom::run(&arguments, output, cancel),
        Command::Publish(arguments) => publish::run(&arguments, &global, output, cancel),
        Command::Bundle(arguments) => bundle::run(&arguments, &global, output, cancel),
        Command::Pull(arguments) => pull::run(&arguments, &global, output, cancel),
        Command::Mirror(arguments) => mirror::run(&arguments, output, cancel),
        Command::Explain(arguments) => explain::run(&arguments, &global, output, cancel),
        Command::Sign(arguments) => sign::run(&arguments, output, cancel),
        Command::Attest(arguments) => attest::run(&arguments, output),
        Command::Verify(arguments) => verify::run(&arguments, output, cancel),
        Command::Trust(arguments) => trust::run(&arguments, output),
        Command::Validate(arguments) => validate::run(&arguments, &global, output, cancel),
        Command::Store(arguments) => store::run(&arguments, &global, output, cancel),
        Command::HashProfile(arguments) => hash_profile::run(&arguments, &global, output, cancel),
        Command::Lower(arguments) => lower::run(&arguments, output),
        Command::Quantize(arguments) => quantize::run(&arguments, &global, output, cancel),
        Command::Inspect { model } => inspect::run(&model, output),
        Command::Toolchain(arguments) => toolchain::run(&arguments, &global, output, cancel),
        Command::ListModelProfiles(arguments) => list_model_profiles::run(&arguments, &global, output),
        Command::DownloadToCache(arguments) => download_to_cache::run(&arguments, &global, output, cancel),
        Command::CreateModelStore(arguments) => create_model_store::run(&arguments, &global, output, cancel),
        Command::Select(arguments) => select::run(&arguments, &global, output, cancel),
        Command::Manifest(arguments) => manifest::run(&arguments, output),
        Command::ManPages { folder } => man_pages::run(&folder, output),
        Command::Backend(arguments) => backend::run(&arguments, &global, output),
        Command::Doctor(arguments) => doctor::run(&arguments, &global, output),
        Command::Model(arguments) => model::run(&arguments, output),
        Command::Schema { file } => schema::run(file, output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "nimctl", &mut script);
            output.data(&String::from_utf8_lossy(&script));
            Ok(done())
        }
    }
}
